//! What stands on disk for one leaf of the scan log.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

use super::MAX_FORWARD_BYTES;
use super::keys::KeyUse;
use super::record::{read_option, write_option};

const VERSION: u8 = 1;
/// The largest entry, without salt, key and evidence.
const MAX_ENTRY: usize = 1024;
/// The largest signed answer kept with a scan.
const MAX_EVIDENCE: usize = MAX_FORWARD_BYTES;
/// The largest line with its length.
pub(super) const MAX_LINE: usize = MAX_ENTRY + MAX_EVIDENCE + 128;

/// What stands on disk for one leaf: salt and entry, which the leaf hash covers, then what is needed besides.
pub(super) struct Line {
    pub(super) salt: [u8; 16],
    pub(super) entry: Vec<u8>,
    pub(super) key: Option<KeyUse>,
    /// The issuer's signed answer, if the scan was forwarded.
    pub(super) evidence: Vec<u8>,
}

impl Canonical for Line {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.salt).bytes(&self.entry);
        write_option(w, self.key.as_ref());
        w.bytes(&self.evidence);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("line version", VERSION)?;
        Ok(Self {
            salt: r.array("salt")?,
            entry: r.bytes("entry", MAX_ENTRY)?.to_vec(),
            key: read_option(r, "idempotency key")?,
            evidence: r.bytes("evidence", MAX_EVIDENCE)?.to_vec(),
        })
    }
}
