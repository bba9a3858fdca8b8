//! What lies in the log for one leaf: the whole line, or what is left of it once the scan was deleted.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use tally_merkle::Hash;

use super::line::Line;
use super::record::{LogEntry, read_option, write_option};
use super::{CodeHash, First, ScanError, scan_leaf};

const GONE_VERSION: u8 = 0xf0;

/// What is left of a deleted entry: its leaf, so that roots and anchors stand, and what it did to the counts of its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) leaf: Hash,
    /// The code, if the entry was about a unit of this member.
    pub(super) code: Option<CodeHash>,
    /// The first scan of the code then, if the entry counted.
    pub(super) first: Option<First>,
}

/// See the module.
pub(super) enum Stored {
    Line(Box<Line>, Box<LogEntry>),
    Gone(Gone),
}

impl Canonical for Gone {
    fn write(&self, w: &mut Writer) {
        w.u8(GONE_VERSION).raw(self.leaf.as_bytes());
        w.bool(self.code.is_some());
        if let Some(code) = &self.code {
            w.raw(&code.0);
        }
        write_option(w, self.first.as_ref());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("deleted line", GONE_VERSION)?;
        Ok(Self {
            leaf: Hash(r.array("leaf")?),
            code: if r.bool("code")? {
                Some(CodeHash(r.array("code")?))
            } else {
                None
            },
            first: read_option(r, "first")?,
        })
    }
}

impl Stored {
    /// Reads either.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ScanError> {
        if bytes.first() == Some(&GONE_VERSION) {
            return Ok(Self::Gone(Gone::from_bytes(bytes)?));
        }
        let line = Line::from_bytes(bytes)?;
        let entry = LogEntry::from_bytes(&line.entry)?;
        Ok(Self::Line(Box::new(line), Box::new(entry)))
    }

    /// The leaf hash.
    pub(super) fn leaf(&self) -> Hash {
        match self {
            Self::Line(line, _) => scan_leaf(&line.salt, &line.entry),
            Self::Gone(gone) => gone.leaf,
        }
    }
}
