//! Checkpoints (C2SP tlog-checkpoint): origin, size and root; no extension lines.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
use crate::hash::{Hash, empty_root};
use crate::vkey::{check_name, parse_decimal, parse_hash};

/// A tree head under a name. Its [`fmt::Display`] is the text of the note that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: that of the 0x01 keys that sign it, so without space or plus.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n{}\n{}",
            self.origin,
            self.size,
            STANDARD.encode(self.root.0)
        )
    }
}

impl FromStr for Checkpoint {
    type Err = Error;

    /// Reads the text of a note, not its signatures. Extension lines are refused: nobody could audit them. So is an empty tree
    /// with another root than the empty one.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::malformed(
                "checkpoint",
                text,
                "three lines: origin, size, root of that tree",
            )
        };
        let lines = text.strip_suffix('\n').ok_or_else(bad)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(bad());
        };
        check_name(origin)?;
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: parse_decimal("tree size", size)?,
            root: parse_hash("root", root)?,
        };
        if checkpoint.size == 0 && checkpoint.root != empty_root() {
            return Err(bad());
        }
        Ok(checkpoint)
    }
}
