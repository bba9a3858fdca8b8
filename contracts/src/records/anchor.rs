//! Anchors: a member's own log, committed by size and root.

use tally_merkle::Hash;

use super::BODY_VERSION;
use crate::codec::{Canonical, CodecError, Reader, Writer};

/// The most hashes of a consistency proof between trees of 64-bit sizes.
pub const MAX_CONSISTENCY_HASHES: usize = 65;

/// Kind 10: the size and root of one of the member's scan logs (a member may run several gateways). It must extend the last
/// anchor of that log. Signed by a record key of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorScans {
    /// Which of the member's logs.
    pub log_id: u16,
    /// Leaves in the log; more than at the last anchor.
    pub size: u64,
    /// RFC 6962 root of the log.
    pub root: Hash,
    /// RFC 9162 2.1.4 consistency proof from the last anchored size; empty for a log's first anchor.
    pub consistency: Vec<Hash>,
}

impl Canonical for AnchorScans {
    fn write(&self, w: &mut Writer) {
        w.u8(BODY_VERSION)
            .u16(self.log_id)
            .u64(self.size)
            .raw(self.root.as_bytes())
            .list(&self.consistency, |w, h| {
                w.raw(h.as_bytes());
            });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("body version", BODY_VERSION)?;
        Ok(Self {
            log_id: r.u16("log ID")?,
            size: r.u64("log size")?,
            root: Hash(r.array("log root")?),
            consistency: r.list("consistency proof", MAX_CONSISTENCY_HASHES, |r| {
                Ok(Hash(r.array("proof hash")?))
            })?,
        })
    }
}
