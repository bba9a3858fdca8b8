//! Every prefix under which something is signed, hashed or derived, in one table, so that bytes made for one use can never be
//! read as another. A test holds that none is a prefix of another. C2SP notes are signed without a prefix of ours: their first
//! line is the origin (`tally/<network ID>`), which equals none of these, or the literal `cosignature/v1`.
//!
//! Crates that must not depend on this one (`tally-codes`, `tally-psi`) write their prefixes themselves. A test of the node
//! reads the sources and holds that every `tally/.../v1` and `tally/.../1/...` in them stands here.

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
/// The receipt of an overlap, inside CloseOverlap.
pub const OVERLAP_RECEIPT: &[u8] = b"tally/overlap-receipt/v1\n";
/// Batch ID hash: prefix || owner || GTIN || u32 length and lot || first index.
pub const BATCH_ID: &[u8] = b"tally/batch-id/v1\n";
/// Seed of the random factors of a batch verification: prefix || every key, signature and message.
pub const BATCH_VERIFY: &[u8] = b"tally/batch-verify/v1\n";
/// Leaf of the state tree: prefix || key hash || value hash.
pub const STATE_LEAF: &[u8] = b"tally/state-leaf/v1\n";
/// Inner node of the state tree: prefix || left || right.
pub const STATE_NODE: &[u8] = b"tally/state-node/v1\n";
/// Commitment to a set of people: prefix || salt || u64 size || root.
pub const AUDIENCE_COMMITMENT: &[u8] = b"tally/audience-commitment/v1\n";
/// Root of an audience with touches or conversions: prefix || root over the people || digest of the rows.
pub const AUDIENCE_ROWS: &[u8] = b"tally/audience-rows/v1\n";
/// Commitment to the answer of a match, in its receipt.
pub const MATCH_RESULT: &[u8] = b"tally/match-result/v1\n";
/// A match's name at both of its nodes: prefix || initiator's nonce.
pub const MATCH_ID: &[u8] = b"tally/match-id/v1\n";
/// First line of a node's statement of its minimum index, a signed note.
pub const MINIMUM_INDEX: &[u8] = b"tally/minimum-index/v1\n";
/// A leaf of a scan log: prefix || salt || scan.
pub const SCAN: &[u8] = b"tally/scan/v1\n";
/// A code's name in receipts: prefix || GTIN || serial.
pub const SCAN_CODE: &[u8] = b"tally/scan-code/v1\n";
/// A dealer's pseudonym in the scan log: prefix || name.
pub const DEALER: &[u8] = b"tally/dealer/v1\n";
/// Bound into a sealed file.
pub const SEALED_FILE: &[u8] = b"tally/sealed-file/v1\n";
/// Bound into the head of a sealed log's file.
pub const SEALED_SEGMENT: &[u8] = b"tally/sealed-segment/v1\n";
/// Bound into a frame of a sealed log.
pub const SEALED_FRAME: &[u8] = b"tally/sealed-frame/v1\n";
/// Starts a node's seed in its encrypted file.
pub const NODE_SEED: &[u8] = b"tally/node-seed/v1\n";
/// Starts an administrator's seed in its encrypted file.
pub const ADMIN_SEED: &[u8] = b"tally/admin-seed/v1\n";
/// Starts the seed of a single key in its encrypted file; the key's purpose and LF follow.
pub const ROTATED_KEY: &[u8] = b"tally/rotated-key/v1\n";
/// Tag of a unit code (`tally-codes`).
pub const UNIT_TAG: &[u8] = b"tally/tag/v1\n";
/// Commitment to a claim code (`tally-codes`).
pub const CLAIM: &[u8] = b"tally/claim/v1\n";
/// Leaf of a batch's unit tree (`tally-codes`).
pub const UNIT: &[u8] = b"tally/unit/v1\n";
/// Leaf of a batch's redemption tree (`tally-codes`).
pub const NULLIFIER: &[u8] = b"tally/null/v1\n";
/// Digest of a match's context (`tally-psi`).
pub const PSI_CONTEXT: &[u8] = b"tally/psi-context/v1\n";
/// Session ID of a match (`tally-psi`).
pub const PSI_SESSION: &[u8] = b"tally/psi-session/v1\n";
/// Digest of the context of a private sum (`tally-psi`).
pub const PSI_SUM_CONTEXT: &[u8] = b"tally/psi-sum-context/v1\n";
/// Digest of the terms of a private sum (`tally-psi`).
pub const PSI_SUM_TERMS: &[u8] = b"tally/psi-sum-terms/v1\n";
/// Digest of the totals of a private sum (`tally-psi`).
pub const PSI_SUM_TOTALS: &[u8] = b"tally/psi-sum-totals/v1\n";
/// Digest of the plan of a list in buckets (`tally-psi`).
pub const PSI_PLAN: &[u8] = b"tally/psi-plan/v2\n";
/// An item's bucket (`tally-psi`).
pub const PSI_BUCKET: &[u8] = b"tally/psi-bucket/v2\n";
/// Place of a bucket in its list, in what is signed (`tally-psi`).
pub const PSI_BUCKET_PLACE: &[u8] = b"tally/psi-bucket-place/v1\n";
/// What was done in a finished bucket of a list (`tally-psi`).
pub const PSI_BUCKET_DONE: &[u8] = b"tally/psi-bucket-done/v1\n";
/// Set of finished buckets of a list (`tally-psi`).
pub const PSI_BUCKET_SET: &[u8] = b"tally/psi-bucket-set/v1\n";
/// Digest of the terms of an overlap of several sets (`tally-psi`).
pub const PSI_OVERLAP: &[u8] = b"tally/psi-overlap/v1\n";
/// Session ID of an overlap of several sets (`tally-psi`).
pub const PSI_OVERLAP_SESSION: &[u8] = b"tally/psi-overlap-session/v1\n";
/// Tells the randomness of one bucket from all other (`tally-psi`).
pub const PSI_MARK: &[u8] = b"tally/psi/v1/mark\n";
/// Filler of a match, under the session's seed (`tally-psi`).
pub const PSI_FILLER: &[u8] = b"tally/psi/v1/filler\n";
/// Transfers that start the suites `vole-rr22-v1` and `vole-rr22-malicious-v1` (`tally-psi`).
pub const VOLE_BASE: &[u8] = b"tally/vole/1/base-transfer\n";
/// C2SP cosignature/v1 (0x04), fixed by that text.
pub const COSIGNATURE: &[u8] = b"cosignature/v1\n";

/// What is signed or hashed, or bound into a seal: all of the above. Each ends in LF.
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
    OVERLAP_RECEIPT,
    BATCH_ID,
    BATCH_VERIFY,
    STATE_LEAF,
    STATE_NODE,
    AUDIENCE_COMMITMENT,
    AUDIENCE_ROWS,
    MATCH_RESULT,
    MATCH_ID,
    SCAN,
    SCAN_CODE,
    MINIMUM_INDEX,
    DEALER,
    SEALED_FILE,
    SEALED_SEGMENT,
    SEALED_FRAME,
    NODE_SEED,
    ADMIN_SEED,
    ROTATED_KEY,
    UNIT_TAG,
    CLAIM,
    UNIT,
    NULLIFIER,
    PSI_CONTEXT,
    PSI_SESSION,
    PSI_SUM_CONTEXT,
    PSI_SUM_TERMS,
    PSI_SUM_TOTALS,
    PSI_PLAN,
    PSI_BUCKET,
    PSI_BUCKET_PLACE,
    PSI_BUCKET_DONE,
    PSI_BUCKET_SET,
    PSI_OVERLAP,
    PSI_OVERLAP_SESSION,
    PSI_MARK,
    PSI_FILLER,
    VOLE_BASE,
    COSIGNATURE,
];

/// What keys are derived under, by HKDF or HMAC from a secret one, and the 16 bytes that start each hash of the suites
/// `vole-rr22-v1` and `vole-rr22-malicious-v1`; they have no LF. The two that end in `/` are followed by the key's use and the party's role.
pub const LABELS: &[&[u8]] = &[
    b"tally/key/v1/",
    b"tally/audiences/v1",
    b"tally/audience-label/v1",
    b"tally/matches/v1",
    b"tally/match-noise/v1",
    b"tally/match-buckets/v1",
    b"tally/codes/v1",
    b"tally/scan-log/v1",
    b"tally/shared-scan-index/v1",
    b"tally/worker-queue/v1",
    b"tally/worker-channel/v1",
    b"tally/scan-index/v1",
    b"tally/scan-retention/v1",
    b"tally/scan-anchors/v1",
    b"tally/scan-secret/v1",
    b"tally/shared-scan-secret/v1",
    b"tally/dealer-keys/v1",
    b"tally/shared-dealers/v1",
    b"tally/psi/v1/key",
    b"tally/psi/v1/bucket/",
    b"tally/psi/overlap/v1/pseudonyms",
    b"tally/psi/overlap/v1/noise",
    b"tally/psi/v1/noise/",
    b"tally/psi/v1/draw/",
    b"tally/vole/1/itm",
    b"tally/vole/1/tag",
    b"tally/vole/1/ote",
    b"tally/vole/1/row",
    b"tally/vole/1/chk",
    b"tally/vole/1/tre",
];

#[cfg(test)]
mod tests {
    use super::{ALL, LABELS};

    #[test]
    fn none_is_a_prefix_of_another_nor_of_an_origin() {
        let all: Vec<&[u8]> = ALL.iter().chain(LABELS).copied().collect();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert!(
                    i == j || !b.starts_with(a),
                    "{} starts {}",
                    a.escape_ascii(),
                    b.escape_ascii()
                );
            }
            let origin = format!("tally/{}\n", "0".repeat(64));
            assert!(!origin.as_bytes().starts_with(a));
        }
        assert!(ALL.iter().all(|a| a.ends_with(b"\n")));
        assert!(LABELS.iter().all(|a| !a.contains(&b'\n')));
    }
}
