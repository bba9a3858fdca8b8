//! Making a snapshot of a ledger that goes on committing.

use std::collections::BTreeMap;
use std::path::Path;

use tally_contracts::ValidatorSet;
use tally_contracts::block::{Block, BlockInfo, CommitCertificate, Header};
use tally_contracts::ids::NetworkId;
use tally_merkle::tile::{TILE_WIDTH, TileKind, encode_bundle};
use tally_merkle::{Checkpoint, Note};

use super::Handover;
use super::format::{
    EDGE, FileSum, MANIFEST, Manifest, STATE_FILE_BYTES, TILES_A_FILE, TRAIL, file_name,
    full_tiles, pairs_to_bytes, trail_to_bytes,
};
use crate::base::Base;
use crate::checkpoints::cosignature_vkeys;
use crate::error::{Error, IoContext};
use crate::files::{make_dir, write_whole};
use crate::ledger::Ledger;
use crate::serve::read_entries;
use crate::store::Head;

/// What is taken at one moment; the rest is read while the ledger goes on.
struct Begun {
    header: Header,
    certificate: CommitCertificate,
    edge: Vec<Vec<u8>>,
    trail: Vec<Handover>,
    validators: ValidatorSet,
}

/// Writes a file of the snapshot and gives its sum.
type Put<'a> = &'a dyn Fn(&str, &[u8]) -> Result<FileSum, Error>;

/// Ends the keeping of old values, however the saving ends.
struct Keeping<'a>(&'a Ledger);

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0.write().undo = None;
    }
}

impl Ledger {
    /// Writes a snapshot at the last block into the folder `out`, new or empty; the manifest last, so that a folder with one is whole.
    /// Commits go on meanwhile: only the values that they change are kept in memory until the end. `checkpoint` waits for a
    /// checkpoint with a quorum of at least the head's tree and gives it. The manifest is verified before it is written, as the one
    /// who restores it will.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] if one is being made, before the first block, and if `out` is not empty; [`Error::NoEntryYet`] if no
    /// entry commits to the state; [`Error::Snapshot`] if it would not be believed; those of reading the ledger; those that
    /// `checkpoint` gives.
    pub fn save_snapshot(
        &self,
        out: &Path,
        checkpoint: &mut dyn FnMut(&Head) -> Result<Note, Error>,
    ) -> Result<Manifest, Error> {
        make_dir(out)?;
        if std::fs::read_dir(out).on("list", out)?.next().is_some() {
            return Err(Error::NoSnapshot {
                reason: format!("{} is not empty", out.display()),
            });
        }
        let begun = self.begin_snapshot()?;
        let keeping = Keeping(self);
        let put = |name: &str, bytes: &[u8]| -> Result<FileSum, Error> {
            write_whole(&out.join(name), bytes)?;
            FileSum::of(bytes)
        };
        let state = self.save_state(&put)?;
        drop(keeping);
        let tiles = self.save_tiles(begun.header.tree_size, &put)?;
        let (trail, edge) = (trail_to_bytes(&begun.trail), encode_bundle(&begun.edge)?);
        let note = checkpoint(&Head::after(&begun.header))?;
        let later: Checkpoint = note.text().parse()?;
        let checkpoint = cosigned_alone(note, &self.network(), &begun.validators)?.to_string();
        let size = begun.header.tree_size;
        let manifest = Manifest {
            network: self.network(),
            consistency: if later.size > size {
                self.consistency_proof(size, later.size)?
            } else {
                Vec::new()
            },
            header: begun.header,
            certificate: begun.certificate,
            checkpoint,
            trail: put(TRAIL, &trail)?,
            edge: put(EDGE, &edge)?,
            state,
            tiles,
        };
        manifest.verify(self.genesis(), &begun.trail)?;
        write_whole(&out.join(MANIFEST), &manifest.to_bytes())?;
        Ok(manifest)
    }

    fn begin_snapshot(&self) -> Result<Begun, Error> {
        let mut inner = self.write();
        let not_now = |reason: &str| Error::NoSnapshot {
            reason: reason.into(),
        };
        if inner.undo.is_some() {
            return Err(not_now("another one is being made"));
        }
        let head = inner.head;
        if head.height == 0 || head.height <= inner.blocks.base().height {
            return Err(not_now("no block was committed here yet"));
        }
        let codec = |source| Error::Codec {
            what: "stored block",
            source,
        };
        let stored = inner.blocks.read(head.height)?;
        let header = Block::from_bytes(&stored.block).map_err(codec)?.header;
        let certificate = CommitCertificate::from_bytes(&stored.certificate).map_err(codec)?;
        let edge = read_entries(
            &inner.blocks,
            &self.store,
            self.genesis_bytes(),
            Base::edge_from(head.tree_size),
            head.tree_size,
        )?;
        let info = edge.last().and_then(|e| BlockInfo::from_bytes(e).ok());
        match info {
            None => return Err(not_now("no record was committed yet")),
            Some(info) if info.state_root != head.state_root => {
                return Err(Error::NoEntryYet {
                    height: head.height,
                });
            }
            Some(_) => {}
        }
        let trail = self.store.trail()?;
        let now = self.validators()?;
        let followed = match trail.last() {
            None => tally_contracts::ValidatorSet::from_genesis(self.genesis()),
            Some(last) => {
                tally_contracts::Canonical::from_bytes(&last.validators).map_err(codec)?
            }
        };
        if followed != now {
            return Err(not_now(
                "an earlier version did not write down how the validators changed; run `tally reindex`",
            ));
        }
        inner.undo = Some(BTreeMap::new());
        Ok(Begun {
            header,
            certificate,
            edge,
            trail,
            validators: now,
        })
    }

    /// The state as it was when the keeping of old values began.
    fn save_state(&self, put: Put<'_>) -> Result<Vec<FileSum>, Error> {
        let (mut files, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
        let flush = |waiting: &mut Vec<_>, files: &mut Vec<FileSum>| -> Result<(), Error> {
            let name = file_name("state", files.len());
            files.push(put(&name, &pairs_to_bytes(waiting))?);
            waiting.clear();
            Ok(())
        };
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let pairs = {
                // A commit comes before this piece or after it, never in between.
                let inner = self.read();
                let (pairs, next) = self.store.state_from(&start, STATE_FILE_BYTES)?;
                let undo = inner
                    .undo
                    .as_ref()
                    .ok_or(Error::Internal("old values were not kept"))?;
                let mut pairs: BTreeMap<_, _> = pairs.into_iter().collect();
                let changed = undo.range(start..);
                for (key, old) in changed.take_while(|(k, _)| next.as_ref().is_none_or(|n| *k < n))
                {
                    match old {
                        Some(value) => pairs.insert(key.clone(), value.clone()),
                        None => pairs.remove(key),
                    };
                }
                from = next;
                pairs
            };
            for (key, value) in pairs {
                bytes += key.len() + value.len() + 8;
                waiting.push((key, value));
                if bytes >= STATE_FILE_BYTES {
                    flush(&mut waiting, &mut files)?;
                    bytes = 0;
                }
            }
        }
        if !waiting.is_empty() {
            flush(&mut waiting, &mut files)?;
        }
        Ok(files)
    }

    fn save_tiles(&self, tree_size: u64, put: Put<'_>) -> Result<Vec<FileSum>, Error> {
        let (mut files, mut waiting) = (Vec::new(), Vec::new());
        let tiles = full_tiles(tree_size).flat_map(|(level, n)| (0..n).map(move |i| (level, i)));
        for (level, index) in tiles {
            let kind = TileKind::Hashes(level);
            waiting.extend(self.read().tiles.bytes(kind, index, TILE_WIDTH)?);
            if waiting.len() >= TILES_A_FILE * usize::from(TILE_WIDTH) * 32 {
                files.push(put(&file_name("tiles", files.len()), &waiting)?);
                waiting.clear();
            }
        }
        if !waiting.is_empty() {
            files.push(put(&file_name("tiles", files.len()), &waiting)?);
        }
        Ok(files)
    }
}

/// A checkpoint with the cosignatures of these validators and no other line: every byte of a manifest is to be verified.
fn cosigned_alone(mut note: Note, network: &NetworkId, set: &ValidatorSet) -> Result<Note, Error> {
    let vkeys = cosignature_vkeys(network, set)?;
    note.signatures.retain(|s| {
        vkeys
            .iter()
            .any(|(k, _)| s.key_id == k.id() && s.name == k.name())
    });
    Ok(note)
}
