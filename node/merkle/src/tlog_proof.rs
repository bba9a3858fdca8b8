//! Proofs to take home (C2SP tlog-proof, `.tlog-proof`): an index, an inclusion proof and a checkpoint, in one text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::hash::Hash;
use crate::note::{MAX_NOTE_BYTES, Note};
use crate::policy::{Policy, Verified};
use crate::proof::{MAX_PROOF_HASHES, verify_inclusion};
use crate::vkey::{parse_decimal, parse_hash};

/// The largest `extra`, in bytes.
pub const MAX_EXTRA_BYTES: usize = 1024 * 1024;
/// The largest proof text, in bytes.
pub const MAX_TLOG_PROOF_BYTES: usize = MAX_EXTRA_BYTES / 3 * 4 + MAX_NOTE_BYTES + 8192;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof that an entry is in a log. Nothing in it is trusted before [`TlogProof::verify`], and `extra` not even then: it is
/// for the caller to judge, for instance by rebuilding the entry from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Bytes of the application; never empty.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// Leaf side first, at most 64.
    pub hashes: Vec<Hash>,
    /// The checkpoint as it was signed.
    pub checkpoint: Note,
}

impl TlogProof {
    /// Checks the checkpoint against the policy, and that the entry with this leaf hash is in the tree of the checkpoint.
    ///
    /// # Errors
    /// What [`Policy::verify`] and [`verify_inclusion`] give.
    pub fn verify(&self, policy: &Policy, leaf: &Hash) -> Result<Verified, Error> {
        let verified = policy.verify(&self.checkpoint)?;
        verify_inclusion(
            leaf,
            self.index,
            verified.checkpoint.size,
            &self.hashes,
            &verified.checkpoint.root,
        )?;
        Ok(verified)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TLOG_PROOF_BYTES {
            return Err(Error::TooLarge {
                what: "proof",
                found: text.len(),
                max: MAX_TLOG_PROOF_BYTES,
            });
        }
        let bad = |expected| Error::malformed("proof", text, expected);
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("an empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(bad("c2sp.org/tlog-proof@v1"));
        }
        let extra = match lines.peek().and_then(|l| l.strip_prefix("extra ")) {
            None => None,
            Some(extra) => {
                lines.next();
                let extra = STANDARD
                    .decode(extra)
                    .map_err(|_| bad("extra in canonical base64"))?;
                if extra.is_empty() || extra.len() > MAX_EXTRA_BYTES {
                    return Err(bad("extra of 1 byte to 1 MiB"));
                }
                Some(extra)
            }
        };
        let index = lines
            .next()
            .and_then(|l| l.strip_prefix("index "))
            .ok_or_else(|| bad("an index line"))?;
        let index = parse_decimal("index", index)?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_PROOF_HASHES {
                return Err(bad("at most 64 hashes"));
            }
            hashes.push(parse_hash("proof hash", line)?);
        }
        let checkpoint = Note::parse(checkpoint)?;
        checkpoint.text().parse::<Checkpoint>()?;
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint,
        })
    }
}
