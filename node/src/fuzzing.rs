//! Decoders that are nobody's business, opened for the fuzz targets alone: no part of the interface.

use tally_codes::keys::BatchKeys;
use tally_contracts::ids::MemberId;
use tally_contracts::records::batch_id;
use tally_merkle::Hash;

use crate::issuer::BatchMeta;
use crate::{admin, chain, issuer, matching, scans};

/// Reads bytes and writes what it read again; `None` if they are refused.
pub type Recoder = fn(&[u8]) -> Option<Vec<u8>>;

/// Decoders whose format has one encoding for each value, by name.
pub const RECODERS: [(&str, Recoder); 7] = [
    ("match message", matching::fuzzing::recode),
    ("records notification", chain::fuzzing::recode_records),
    (
        "cosignature notification",
        chain::fuzzing::recode_cosignature,
    ),
    ("blocks of a peer", chain::fuzzing::recode_blocks),
    ("scan log line", scans::fuzzing::recode_line),
    ("scan log entry", scans::fuzzing::recode_entry),
    ("batch file", issuer::recode_batch),
];

/// Whether a line is a request to the admin socket.
#[must_use]
pub fn is_admin_request(line: &[u8]) -> bool {
    admin::is_request(line)
}

/// One encoding of everything that [`RECODERS`] read, by name. `keys` are those of a batch.
#[must_use]
pub fn samples(keys: &BatchKeys) -> Vec<(&'static str, Vec<u8>)> {
    let mut out = matching::fuzzing::samples();
    out.extend(chain::fuzzing::samples());
    out.extend(scans::fuzzing::samples());
    if let (Ok(gtin), Ok(lot)) = ("09521234543213".parse(), "L1".parse()) {
        let meta = BatchMeta {
            id: batch_id(&MemberId([1; 16]), &gtin, &lot, 0),
            gtin,
            lot,
            first_index: 0,
            count: 1000,
            epoch: 0,
            unit_root: Hash([2; 32]),
            redemption_root: Hash([3; 32]),
            expiry: None,
        };
        out.push(("batch-file", issuer::encode_batch(&meta, keys)));
        let expiry = "271200".parse().map(|date| issuer::Expiry {
            date,
            in_links: true,
        });
        let dated = BatchMeta {
            expiry: expiry.ok(),
            ..meta
        };
        out.push(("batch-file-dated", issuer::encode_batch(&dated, keys)));
    }
    out
}
