//! What members' nodes tell each other, as bytes, for [`crate::fuzzing`].

use tally_contracts::block::CommitCertificate;
use tally_contracts::ids::BlockHash;
use tally_merkle::{NoteKeyId, NoteSignature};

use super::{blocks, cosign, gossip};

/// A notification of records, read and written again; `None` if it is refused.
pub(crate) fn recode_records(bytes: &[u8]) -> Option<Vec<u8>> {
    gossip::decode(bytes).ok().map(|r| gossip::encode(&r))
}

/// A notification of a cosignature, read and written again; `None` if it is refused.
pub(crate) fn recode_cosignature(bytes: &[u8]) -> Option<Vec<u8>> {
    let (size, signature) = cosign::decode(bytes).ok()?;
    Some(cosign::encode(size, &signature))
}

/// A peer's blocks, read and written again; `None` if they are refused.
pub(crate) fn recode_blocks(bytes: &[u8]) -> Option<Vec<u8>> {
    let answer = blocks::decode_answer(bytes).ok()?;
    let read = answer.blocks.into_iter();
    let read: Vec<_> = read.map(|(b, c)| (b, c.to_bytes())).collect();
    Some(blocks::encode_answer(answer.head, &read))
}

/// One of each.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let signature = NoteSignature {
        name: "example.org/tally+brand".into(),
        key_id: NoteKeyId([1; 4]),
        signature: vec![2; 72],
    };
    let certificate = CommitCertificate {
        height: 17,
        round: 0,
        block: BlockHash([5; 32]),
        signatures: Vec::new(),
    };
    let block = (vec![6; 50], certificate.to_bytes());
    vec![
        ("blocks", blocks::encode_answer(18, &[block])),
        ("records", gossip::encode(&[vec![3; 40], vec![4; 3]])),
        ("cosignature", cosign::encode(17, &signature)),
    ]
}
