//! Every prefix under which something is signed or hashed, in one table, so that bytes made for one use can never be read as
//! another. A test holds that none is a prefix of another. C2SP notes are signed without a prefix of ours: their first line
//! is the origin (`tally/<network ID>`), which equals none of these, or the literal `cosignature/v1`.

/// Envelope signature: prefix || unsigned record bytes.
pub const RECORD: &[u8] = b"tally/record/v1\n";
/// Record ID hash: prefix || unsigned record bytes.
pub const RECORD_ID: &[u8] = b"tally/record-id/v1\n";
/// A founder's signature over a genesis: prefix || network ID.
pub const GENESIS: &[u8] = b"tally/genesis/v1\n";
/// A founder's signature over the entry on its own member card: prefix || entry bytes.
pub const MEMBER_CARD: &[u8] = b"tally/member-card/v1\n";
/// Key ID hash: prefix || public key.
pub const KEY_ID: &[u8] = b"tally/key-id/v1\n";
/// Member ID hash.
pub const MEMBER_ID: &[u8] = b"tally/member-id/v1\n";
/// Block hash: prefix || header bytes.
pub const BLOCK: &[u8] = b"tally/block/v1\n";
/// Consensus vote.
pub const VOTE: &[u8] = b"tally/vote/v1\n";
/// Consensus proposal (value of a round).
pub const PROPOSAL: &[u8] = b"tally/proposal/v1\n";
/// Proposal stream (the parts that carry a block).
pub const PROPOSAL_PARTS: &[u8] = b"tally/proposal-parts/v1\n";
/// A node's receipt for a scan.
pub const SCAN_RECEIPT: &[u8] = b"tally/scan-receipt/v1\n";
/// The issuer's answer to a forwarded scan.
pub const SCAN_ANSWER: &[u8] = b"tally/scan-answer/v1\n";
/// A message of a match: context digest, sizes, stream digests.
pub const MATCH_MESSAGE: &[u8] = b"tally/match-message/v1\n";
/// The receipt of a match, inside CloseMatch.
pub const MATCH_RECEIPT: &[u8] = b"tally/match-receipt/v1\n";
/// Batch ID hash: prefix || owner || GTIN || u32 length and lot || first index.
pub const BATCH_ID: &[u8] = b"tally/batch-id/v1\n";
/// Seed of the random factors of a batch verification: prefix || every key, signature and message.
pub const BATCH_VERIFY: &[u8] = b"tally/batch-verify/v1\n";
/// Leaf of the state tree: prefix || key hash || value hash.
pub const STATE_LEAF: &[u8] = b"tally/state-leaf/v1\n";
/// Inner node of the state tree: prefix || left || right.
pub const STATE_NODE: &[u8] = b"tally/state-node/v1\n";
/// C2SP cosignature/v1 (0x04), fixed by that text.
pub const COSIGNATURE: &[u8] = b"cosignature/v1\n";

/// All of them.
pub const ALL: &[&[u8]] = &[
    RECORD,
    RECORD_ID,
    GENESIS,
    MEMBER_CARD,
    KEY_ID,
    MEMBER_ID,
    BLOCK,
    VOTE,
    PROPOSAL,
    PROPOSAL_PARTS,
    SCAN_RECEIPT,
    SCAN_ANSWER,
    MATCH_MESSAGE,
    MATCH_RECEIPT,
    BATCH_ID,
    BATCH_VERIFY,
    STATE_LEAF,
    STATE_NODE,
    COSIGNATURE,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn none_is_a_prefix_of_another_nor_of_an_origin() {
        for (i, a) in ALL.iter().enumerate() {
            for (j, b) in ALL.iter().enumerate() {
                assert!(
                    i == j || !b.starts_with(a),
                    "{} starts {}",
                    a.escape_ascii(),
                    b.escape_ascii()
                );
            }
            let origin = format!("tally/{}\n", "0".repeat(64));
            assert!(!origin.as_bytes().starts_with(a));
            assert_eq!(a.last(), Some(&b'\n'));
        }
    }
}
