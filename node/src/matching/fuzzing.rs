//! The desk's messages as bytes, for [`crate::fuzzing`].

use tally_contracts::codec::Canonical;
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{AudienceLabel, KeyId, MemberId, PublicKey, RecordId, Signature};
use tally_contracts::records::{AudienceRef, Computation};
use tally_contracts::refusal::RefusalNotice;
use tally_measure::SetOpening;
use tally_merkle::Hash;

use super::messages::{
    Accept, Invite, MAX_MESSAGE_BYTES, Message, ReceiptOffer, Request, Seat, seal_bytes,
    split_frame,
};

/// A frame without its length, taken apart and put together again; `None` if it is refused.
pub(crate) fn recode(frame: &[u8]) -> Option<Vec<u8>> {
    if frame.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let (body, key, signature) = split_frame(frame).ok()?;
    let message = Message::from_bytes(body).ok()?;
    Some([message.to_bytes(), seal_bytes(&key, &signature)].concat())
}

/// One frame of each message.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let audience = AudienceRef {
        label: AudienceLabel([1; 32]),
        epoch: 20_717,
        root: Hash([2; 32]),
        size_bucket: 14,
    };
    let opening = SetOpening {
        root: Hash([3; 32]),
        size: 10_000,
        salt: [4; 32],
    };
    let signer = Signer {
        member: MemberId([5; 16]),
        key: KeyId([6; 8]),
        nonce: 7,
    };
    let signature = Signature([8; 64]);
    [
        Message::Request(Request {
            agreement: RecordId([9; 32]),
            computation: Computation::Cardinality,
            audience: audience.clone(),
            opening,
            peer_audience: Some(AudienceLabel([10; 32])),
            nonce: [11; 32],
        }),
        Message::Invite(Invite {
            agreement: RecordId([9; 32]),
            audience: audience.clone(),
            peer_audience: None,
            nonce: [16; 32],
        }),
        Message::Attend { nonce: [17; 32] },
        Message::Convene {
            seats: vec![
                Seat {
                    nonce: [17; 32],
                    node: PublicKey([18; 32]),
                };
                4
            ],
        },
        Message::Joined,
        Message::Link { nonce: [16; 32] },
        Message::Linked,
        Message::Resume { nonce: [11; 32] },
        Message::Resumed,
        Message::Accept(Accept {
            audience,
            opening,
            nonce: [12; 32],
        }),
        Message::Refuse(RefusalNotice {
            code: "expired".into(),
            message: "the agreement ended".into(),
        }),
        Message::Lease {
            signer: Some(signer),
        },
        Message::Leased { signer },
        Message::Sign {
            signer,
            valid_until_ms: 1_790_000_000_000,
            signature,
        },
        Message::Signed { signature },
        Message::Receipt(ReceiptOffer {
            nonce: [13; 32],
            salt: [14; 32],
            result: Hash([15; 32]),
        }),
    ]
    .iter()
    .map(|message| {
        let seal = seal_bytes(&KeyId([6; 8]), &signature);
        (message.name(), [message.to_bytes(), seal].concat())
    })
    .collect()
}
