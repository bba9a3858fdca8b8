//! Checkpoints: which tree heads this node has signed, and the cosignatures that have come for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use tally_contracts::ids::{NetworkId, PublicKey};
use tally_contracts::{ValidatorSet, domains};
use tally_merkle::{Checkpoint, Note, NoteSignature, Vkey, note};

use crate::error::{Error, IoContext};
use crate::files::write_whole;
use crate::ledger::Ledger;

/// Tree heads whose cosignatures are collected at one time; older ones without a quorum are given up.
const KEPT: usize = 64;

/// The origin line of a network's checkpoints, which is also the name of every node's 0x01 key.
#[must_use]
pub fn origin(network: &NetworkId) -> String {
    tally_contracts::genesis::origin(network)
}

/// The name of a member's 0x04 key.
#[must_use]
pub fn cosigner_name(network: &NetworkId, member: &str) -> String {
    tally_contracts::genesis::cosigner_name(network, member)
}

/// The keys a node signs checkpoints with.
pub struct CheckpointKeys {
    /// Name of the own member.
    pub member: String,
    /// The 0x01 key.
    pub checkpoint: SigningKey,
    /// The 0x04 key; `None` for a node that never cosigns. It signs only while it is a validator's.
    pub cosignature: Option<SigningKey>,
}

/// Checkpoints of one ledger, and the newest that has a quorum.
pub struct Checkpoints {
    network: NetworkId,
    keys: CheckpointKeys,
    path: PathBuf,
    heads: BTreeMap<u64, Note>,
    best: Option<(u64, Note)>,
    /// Whether `best` was compared with the ledger.
    best_is_own: bool,
    /// The newest statement of the minimum index.
    minimum: Option<(u64, String)>,
}

impl Checkpoints {
    /// Opens the store; the newest checkpoint with a quorum is kept in the file `checkpoint` below `dir`.
    ///
    /// # Errors
    /// [`Error::Io`]. A file that is not a note of this network is taken as absent: a newer one replaces it.
    pub fn open(dir: &Path, network: NetworkId, keys: CheckpointKeys) -> Result<Self, Error> {
        let path = dir.join("checkpoint");
        let best = if path.exists() {
            let text = std::fs::read_to_string(&path).on("read", &path)?;
            Note::parse(&text).ok().and_then(|note| {
                let checkpoint: Checkpoint = note.text().parse().ok()?;
                (checkpoint.origin == origin(&network)).then_some((checkpoint.size, note))
            })
        } else {
            None
        };
        Ok(Self {
            network,
            keys,
            path,
            heads: BTreeMap::new(),
            best,
            best_is_own: false,
            minimum: None,
        })
    }

    /// Signs, and if this node votes cosigns, the ledger's head; gives the cosignature to hand to the others. Only decided
    /// blocks may be behind it, which the ledger's head always is. A checkpoint that was found on disk and is not one of this
    /// ledger is given up.
    ///
    /// # Errors
    /// [`Error::Merkle`]; those of reading tiles.
    pub fn sign_head(
        &mut self,
        ledger: &Ledger,
        time_s: u64,
    ) -> Result<Option<(u64, NoteSignature)>, Error> {
        let head = ledger.head();
        if !self.best_is_own {
            if let Some((size, note)) = &self.best {
                let checkpoint: Checkpoint = note.text().parse()?;
                if *size > head.tree_size || ledger.root_at(*size)? != checkpoint.root {
                    tracing::warn!(size, "gave up a stored checkpoint of another history");
                    self.best = None;
                }
            }
            self.best_is_own = true;
        }
        let text = Checkpoint {
            origin: origin(&self.network),
            size: head.tree_size,
            root: head.tree_root,
        }
        .to_string();
        if !self.heads.contains_key(&head.tree_size) {
            let mut note = Note::unsigned(text.clone())?;
            note.signatures.push(note::sign(
                &text,
                &origin(&self.network),
                &self.keys.checkpoint,
            )?);
            self.heads.insert(head.tree_size, note);
            while self.heads.len() > KEPT {
                self.heads.pop_first();
            }
        }
        let Some(key) = &self.keys.cosignature else {
            return Ok(None);
        };
        let public = PublicKey::from(key);
        let validators = ledger.validators()?;
        if validators
            .validators()
            .iter()
            .all(|v| v.cosignature != public)
        {
            return Ok(None);
        }
        let name = cosigner_name(&self.network, &self.keys.member);
        Ok(Some((
            head.tree_size,
            note::cosign(&text, &name, key, time_s)?,
        )))
    }

    /// Takes a cosignature for the tree head of `size`, if it is a validator's and right. A later one of the same key replaces
    /// the earlier. Says whether this made a newer checkpoint with a quorum.
    ///
    /// # Errors
    /// [`Error::Merkle`] for a wrong or unknown signature; [`Error::OutOfRange`] for a size that is not being collected.
    pub fn add(
        &mut self,
        size: u64,
        signature: NoteSignature,
        validators: &ValidatorSet,
    ) -> Result<bool, Error> {
        let have = self.heads.keys().next_back().copied().unwrap_or_default();
        let note = self.heads.get_mut(&size).ok_or(Error::OutOfRange {
            what: "checkpoint size",
            asked: size,
            have,
        })?;
        let vkeys = cosignature_vkeys(&self.network, validators)?;
        let (key, _) = vkeys
            .iter()
            .find(|(k, _)| k.name() == signature.name && k.id() == signature.key_id)
            .ok_or_else(|| tally_merkle::Error::Signature {
                name: signature.name.clone(),
            })?;
        signature.verify(note.text(), key)?;
        match note
            .signatures
            .iter_mut()
            .find(|s| s.key_id == signature.key_id && s.name == signature.name)
        {
            Some(old) if old.time_s() < signature.time_s() => *old = signature,
            Some(_) => {}
            None => note.signatures.push(signature),
        }
        let power = vkeys
            .iter()
            .filter(|(k, _)| {
                note.signatures
                    .iter()
                    .any(|s| s.key_id == k.id() && s.name == k.name())
            })
            .map(|(_, power)| power)
            .sum();
        let newer = self
            .best
            .as_ref()
            .is_none_or(|(best, old)| *best < size || (*best == size && old != note));
        if !validators.is_quorum(power) || !newer {
            return Ok(false);
        }
        let mut note = note.clone();
        // Keys that left since they cosigned say nothing any more, and no policy knows them.
        let log = origin(&self.network);
        note.signatures.retain(|s| {
            s.name == log
                || vkeys
                    .iter()
                    .any(|(k, _)| k.name() == s.name && k.id() == s.key_id)
        });
        write_whole(&self.path, note.to_string().as_bytes())?;
        self.heads = self.heads.split_off(&size);
        self.best = Some((size, note));
        Ok(true)
    }

    /// The statement that this node has all entries from [`Ledger::first_entry`] on and not all before: a signed note by the 0x01 key,
    /// of the lines `tally/minimum-index/v1`, network ID, index, and POSIX seconds. Made when the index has changed, and kept in
    /// the file `minimum-index`, which is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Merkle`].
    pub fn minimum_index(&mut self, ledger: &Ledger, time_s: u64) -> Result<String, Error> {
        let index = ledger.first_entry();
        let path = self.path.with_file_name("minimum-index");
        if self.minimum.is_none() && path.exists() {
            let text = std::fs::read_to_string(&path).on("read", &path)?;
            self.minimum = self.stated(&text).map(|index| (index, text));
        }
        if let Some((stated, text)) = &self.minimum
            && *stated == index
        {
            return Ok(text.clone());
        }
        let domain = std::str::from_utf8(domains::MINIMUM_INDEX)
            .map_err(|_| Error::Internal("a prefix that is no text"))?;
        let text = format!("{domain}{}\n{index}\n{time_s}\n", self.network);
        let mut signed = Note::unsigned(text.clone())?;
        let name = origin(&self.network);
        signed
            .signatures
            .push(note::sign(&text, &name, &self.keys.checkpoint)?);
        let signed = signed.to_string();
        write_whole(&path, signed.as_bytes())?;
        self.minimum = Some((index, signed.clone()));
        Ok(signed)
    }

    /// The index in a statement, if it is this node's by its present key.
    fn stated(&self, text: &str) -> Option<u64> {
        let statement = Note::parse(text).ok()?;
        let public = self.keys.checkpoint.verifying_key().to_bytes();
        let key = Vkey::ed25519(&origin(&self.network), public).ok()?;
        statement
            .signatures
            .first()?
            .verify(statement.text(), &key)
            .ok()?;
        let mut lines = statement.text().lines().skip(1);
        (lines.next()? == self.network.to_string()).then_some(())?;
        lines.next()?.parse().ok()
    }

    /// Size of the newest checkpoint with a quorum, and the time of its newest cosignature in POSIX seconds.
    #[must_use]
    pub fn best_time_s(&self) -> Option<(u64, u64)> {
        let (size, note) = self.best.as_ref()?;
        let times = note.signatures.iter().filter_map(NoteSignature::time_s);
        Some((*size, times.max()?))
    }

    /// The newest checkpoint with a quorum, and its size.
    #[must_use]
    pub fn best(&self) -> Option<(u64, &Note)> {
        self.best.as_ref().map(|(size, note)| (*size, note))
    }
}

/// Every validator's 0x04 key with its power.
pub(crate) fn cosignature_vkeys(
    network: &NetworkId,
    validators: &ValidatorSet,
) -> Result<Vec<(Vkey, u64)>, Error> {
    validators
        .validators()
        .iter()
        .map(|v| {
            Ok((
                Vkey::cosignature(&cosigner_name(network, &v.member_name), v.cosignature.0)?,
                v.power,
            ))
        })
        .collect()
}
