//! What members' nodes tell each other, as bytes, for [`crate::fuzzing`].

use tally_merkle::{NoteKeyId, NoteSignature};

use super::{cosign, gossip};

/// A notification of records, read and written again; `None` if it is refused.
pub(crate) fn recode_records(bytes: &[u8]) -> Option<Vec<u8>> {
    gossip::decode(bytes).ok().map(|r| gossip::encode(&r))
}

/// A notification of a cosignature, read and written again; `None` if it is refused.
pub(crate) fn recode_cosignature(bytes: &[u8]) -> Option<Vec<u8>> {
    let (size, signature) = cosign::decode(bytes).ok()?;
    Some(cosign::encode(size, &signature))
}

/// One of each.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let signature = NoteSignature {
        name: "example.org/tally+brand".into(),
        key_id: NoteKeyId([1; 4]),
        signature: vec![2; 72],
    };
    vec![
        ("records", gossip::encode(&[vec![3; 40], vec![4; 3]])),
        ("cosignature", cosign::encode(17, &signature)),
    ]
}
