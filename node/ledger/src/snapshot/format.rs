//! The bytes of a snapshot, and what its manifest must be to be believed.

use sha2::{Digest as _, Sha256};
use tally_contracts::block::{CommitCertificate, Header};
use tally_contracts::codec::{Reader, Writer};
use tally_contracts::handover::{
    Handover, MAX_CERTIFICATE_BYTES, MAX_HANDOVERS, MAX_HEADER_BYTES, NotFollowed, follow,
};
use tally_contracts::ids::NetworkId;
use tally_contracts::{CodecError, Genesis, ValidatorSet};
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_merkle::{Checkpoint, Hash, MAX_PROOF_HASHES, Note, verify_consistency};

use crate::checkpoints::{cosignature_vkeys, origin};
use crate::error::Error;
use crate::kv::Pair;
use crate::store::Head;
use crate::tiles::WIDTH;

/// The file that names all others.
pub const MANIFEST: &str = "manifest";
pub(super) const TRAIL: &str = "trail";
pub(super) const EDGE: &str = "edge";
/// No file of a snapshot is longer, in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// A state file is closed when it has reached this many bytes.
pub(super) const STATE_FILE_BYTES: usize = 1 << 20;
/// Full hash tiles in one file.
pub(super) const TILES_A_FILE: usize = 128;
const VERSION: u8 = 1;
const MAX_FILES: usize = 1 << 20;
const MAX_PAIRS: usize = 1 << 20;
const MAX_KEY_BYTES: usize = 1024;
const MAX_VALUE_BYTES: usize = 1 << 20;

/// The name of a file of this kind and number.
pub(super) fn file_name(kind: &str, number: usize) -> String {
    format!("{kind}-{number:06}")
}

/// Whether this is the name of a file of a snapshot: no path, and nothing else.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    let numbered = name
        .strip_prefix("state-")
        .or_else(|| name.strip_prefix("tiles-"));
    match numbered {
        Some(n) => n.len() >= 6 && n.len() <= 9 && n.bytes().all(|b| b.is_ascii_digit()),
        None => [MANIFEST, TRAIL, EDGE].contains(&name),
    }
}

/// Length and SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSum {
    /// Bytes.
    pub bytes: u32,
    /// SHA-256.
    pub hash: Hash,
}

impl FileSum {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            bytes: u32::try_from(bytes.len())
                .ok()
                .filter(|n| *n as usize <= MAX_FILE_BYTES)
                .ok_or(Error::Internal("a snapshot's file over its limit"))?,
            hash: Hash(Sha256::digest(bytes).into()),
        })
    }

    /// That these are the file's bytes.
    pub(super) fn verify(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() != self.bytes as usize {
            return Err(refused(
                file,
                format!("it has {} bytes, expected {}", bytes.len(), self.bytes),
            ));
        }
        let found = Hash(Sha256::digest(bytes).into());
        if found == self.hash {
            Ok(())
        } else {
            Err(refused(
                file,
                format!("its SHA-256 is {found}, expected {}", self.hash),
            ))
        }
    }

    fn write(&self, w: &mut Writer) {
        w.u32(self.bytes).raw(self.hash.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bytes = r.u32("file length")?;
        if bytes as usize > MAX_FILE_BYTES {
            return Err(CodecError::TooLong {
                what: "file",
                found: bytes as usize,
                max: MAX_FILE_BYTES,
            });
        }
        Ok(Self {
            bytes,
            hash: Hash(r.array("file hash")?),
        })
    }
}

pub(super) fn trail_to_bytes(trail: &[Handover]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(VERSION).list(trail, |w, handover| {
        w.bytes(&handover.to_bytes());
    });
    w.into_bytes()
}

pub(super) fn trail_from_bytes(bytes: &[u8]) -> Result<Vec<Handover>, CodecError> {
    let mut r = Reader::new(bytes);
    r.version("trail version", VERSION)?;
    let trail = r.list("handovers", MAX_HANDOVERS, |r| {
        Handover::from_bytes(r.bytes("handover", MAX_FILE_BYTES)?)
    })?;
    r.finish()?;
    Ok(trail)
}

pub(super) fn pairs_to_bytes(pairs: &[Pair]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(VERSION).list(pairs, |w, (key, value)| {
        w.bytes(key).bytes(value);
    });
    w.into_bytes()
}

pub(super) fn pairs_from_bytes(bytes: &[u8]) -> Result<Vec<Pair>, CodecError> {
    let mut r = Reader::new(bytes);
    r.version("state file version", VERSION)?;
    let pairs = r.list("pairs", MAX_PAIRS, |r| {
        Ok((
            r.bytes("key", MAX_KEY_BYTES)?.to_vec(),
            r.bytes("value", MAX_VALUE_BYTES)?.to_vec(),
        ))
    })?;
    r.finish()?;
    Ok(pairs)
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The network.
    pub network: NetworkId,
    /// Header of the block after which the state is.
    pub header: Header,
    /// Precommits for it.
    pub certificate: CommitCertificate,
    /// A checkpoint with a quorum of cosignatures, of this tree or a later one.
    pub checkpoint: String,
    /// Leads from the header's tree to the checkpoint's; none if they are one.
    pub consistency: Vec<Hash>,
    /// File `trail`.
    pub trail: FileSum,
    /// File `edge`.
    pub edge: FileSum,
    /// Files `state-000000` and on.
    pub state: Vec<FileSum>,
    /// Files `tiles-000000` and on.
    pub tiles: Vec<FileSum>,
}

impl Manifest {
    /// Canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .raw(&self.network.0)
            .bytes(&self.header.to_bytes())
            .bytes(&self.certificate.to_bytes())
            .bytes(self.checkpoint.as_bytes())
            .list(&self.consistency, |w, hash| {
                w.raw(hash.as_bytes());
            });
        self.trail.write(&mut w);
        self.edge.write(&mut w);
        for files in [&self.state, &self.tiles] {
            w.list(files, |w, file| file.write(w));
        }
        w.into_bytes()
    }

    /// Decodes canonical bytes, all of them. Nothing of it is verified by that.
    ///
    /// # Errors
    /// [`Error::Snapshot`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).map_err(|e| refused(MANIFEST, e.to_string()))
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.version("manifest version", VERSION)?;
        let manifest = Self {
            network: NetworkId(r.array("network")?),
            header: Header::from_bytes(r.bytes("header", MAX_HEADER_BYTES)?)?,
            certificate: CommitCertificate::from_bytes(
                r.bytes("certificate", MAX_CERTIFICATE_BYTES)?,
            )?,
            checkpoint: std::str::from_utf8(r.bytes("checkpoint", MAX_NOTE_BYTES)?)
                .map_err(|_| CodecError::Invalid {
                    what: "checkpoint text",
                    found: 0,
                })?
                .to_owned(),
            consistency: r.list("consistency proof", MAX_PROOF_HASHES, |r| {
                Ok(Hash(r.array("hash")?))
            })?,
            trail: FileSum::read(&mut r)?,
            edge: FileSum::read(&mut r)?,
            state: r.list("state files", MAX_FILES, FileSum::read)?,
            tiles: r.list("tile files", MAX_FILES, FileSum::read)?,
        };
        r.finish()?;
        Ok(manifest)
    }

    /// Bytes of all its files but itself.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        [&self.trail, &self.edge]
            .into_iter()
            .chain(&self.state)
            .chain(&self.tiles)
            .map(|f| u64::from(f.bytes))
            .sum()
    }

    /// Where a ledger stands that begins here.
    pub(super) fn head(&self) -> Head {
        Head::after(&self.header)
    }

    /// Whether the files named are those that a tree of this size has.
    pub(super) fn check_counts(&self) -> Result<(), Error> {
        let expected = full_tiles(self.header.tree_size)
            .map(|(_, count)| count)
            .sum::<u64>()
            .div_ceil(TILES_A_FILE as u64);
        if self.tiles.len() as u64 != expected {
            return Err(refused(
                MANIFEST,
                format!("{} tile files, expected {expected}", self.tiles.len()),
            ));
        }
        Ok(())
    }

    /// Judges the manifest from the genesis on; gives the validators that decide the next block.
    ///
    /// # Errors
    /// [`Error::Snapshot`].
    pub(super) fn verify(
        &self,
        genesis: &Genesis,
        trail: &[Handover],
    ) -> Result<ValidatorSet, Error> {
        let network = genesis.network_id();
        if self.network != network {
            return Err(refused(
                MANIFEST,
                format!("it is of network {}, expected {network}", self.network),
            ));
        }
        let set = follow(genesis, trail, &self.header, &self.certificate).map_err(|e| match e {
            NotFollowed::Handover(why) => refused(TRAIL, why),
            NotFollowed::Block(why) => refused(MANIFEST, why),
        })?;
        self.verify_checkpoint(&set)
            .map_err(|why| refused(MANIFEST, format!("the checkpoint: {why}")))?;
        Ok(set)
    }

    /// That these validators cosigned a tree with that of the header in it.
    fn verify_checkpoint(&self, set: &ValidatorSet) -> Result<(), String> {
        let text = |e: tally_merkle::Error| e.to_string();
        let note = Note::parse(&self.checkpoint).map_err(text)?;
        let found: Checkpoint = note.text().parse().map_err(text)?;
        let expected = origin(&self.network);
        if found.origin != expected {
            return Err(format!(
                "its origin is {}, expected {expected}",
                found.origin
            ));
        }
        let vkeys = cosignature_vkeys(&self.network, set).map_err(|e| e.to_string())?;
        // A line of another key would be a byte that nobody has verified.
        for signature in &note.signatures {
            let (key, _) = vkeys
                .iter()
                .find(|(k, _)| signature.key_id == k.id() && signature.name == k.name())
                .ok_or_else(|| format!("{} is no validator's key", signature.name))?;
            signature.verify(note.text(), key).map_err(text)?;
        }
        let power = vkeys
            .iter()
            .filter(|(k, _)| note.signatures.iter().any(|s| s.key_id == k.id()))
            .map(|(_, power)| power)
            .sum();
        if !set.is_quorum(power) {
            return Err(format!(
                "cosignatures have power {power}, expected {}",
                set.quorum_power()
            ));
        }
        let (size, root) = (self.header.tree_size, self.header.tree_root);
        if found.size == size {
            return if found.root == root && self.consistency.is_empty() {
                Ok(())
            } else {
                Err("it has another root than the block".into())
            };
        }
        if found.size < size {
            return Err(format!(
                "it is of {} entries, expected {size} or more",
                found.size
            ));
        }
        verify_consistency(size, found.size, &root, &found.root, &self.consistency).map_err(text)
    }
}

/// How many full hash tiles a tree has at each tile level.
pub(super) fn full_tiles(tree_size: u64) -> impl Iterator<Item = (u8, u64)> {
    (0u8..8)
        .map(move |level| {
            let count = tree_size.checked_shr(8 * u32::from(level)).unwrap_or(0) / WIDTH;
            (level, count)
        })
        .take_while(|(_, count)| *count > 0)
}

pub(super) fn refused(file: &str, reason: impl Into<String>) -> Error {
    Error::Snapshot {
        file: file.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_snapshots_have_their_names() {
        for name in ["manifest", "trail", "edge", "tiles-1000000"] {
            assert!(is_file_name(name), "{name}");
        }
        assert!(is_file_name(&file_name("state", 0)));
        for name in [
            "",
            "..",
            "state-",
            "state-0",
            "state-00000x",
            "../trail",
            "trail/",
            "LOCK",
            "tiles-0000000000",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
