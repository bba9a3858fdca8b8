use malachitebft_app_channel::app::types::core::Round;
use proptest::prelude::*;

use super::super::parts::{PART_BYTES, cut};
use super::super::signing::Keys;
use super::*;
use crate::config::Secret;
use tally_contracts::ids::NetworkId;

type Message = SignedConsensusMsg<TallyContext>;
type Liveness = LivenessMsg<TallyContext>;

fn hash(n: u8) -> Value {
    Value(BlockHash([n; 32]))
}

fn address(n: u8) -> Address {
    Address(PublicKey([n; 32]))
}

fn signature(n: u8) -> EngineSignature {
    EngineSignature(Signature([n; 64]))
}

fn vote(kind: VoteType, value: NilOrVal<Value>) -> SignedVote<TallyContext> {
    SignedVote::new(
        Vote {
            kind,
            height: Height(9),
            round: Round::new(3),
            value,
            address: address(1),
        },
        signature(2),
    )
}

fn proposal(pol_round: Round) -> SignedProposal<TallyContext> {
    SignedProposal::new(
        Proposal {
            height: Height(9),
            round: Round::new(4),
            value: hash(5),
            pol_round,
            address: address(6),
        },
        signature(7),
    )
}

fn polka() -> PolkaCertificate<TallyContext> {
    PolkaCertificate {
        height: Height(1),
        round: Round::new(2),
        value_id: hash(3),
        polka_signatures: vec![
            PolkaSignature::new(address(4), signature(5)),
            PolkaSignature::new(address(6), signature(7)),
        ],
    }
}

fn round_certificate(cert_type: RoundCertificateType) -> RoundCertificate<TallyContext> {
    RoundCertificate {
        height: Height(1),
        round: Round::new(2),
        cert_type,
        round_signatures: vec![
            RoundSignature::new(VoteType::Prevote, NilOrVal::Nil, address(4), signature(5)),
            RoundSignature::new(
                VoteType::Precommit,
                NilOrVal::Val(hash(1)),
                address(6),
                signature(7),
            ),
        ],
    }
}

fn part() -> Part {
    let keys = Keys::new(&Secret::new([1; 32]), NetworkId([2; 32]));
    let body = vec![7; PART_BYTES + 10];
    cut(&keys, 5, 1, Round::new(0), BlockHash([3; 32]), &body)
        .unwrap()
        .remove(1)
}

fn response() -> Response<TallyContext> {
    let certificate = ExtendedCommitCertificate {
        height: Height(3),
        round: Round::new(0),
        value_id: hash(1),
        commit_signatures: vec![ExtendedCommitSignature::new(address(1), signature(2), None)],
    };
    Response::ValueResponse(ValueResponse::new(
        Height(3),
        vec![RawDecidedValue::new(
            Bytes::from_static(b"block"),
            certificate,
        )],
    ))
}

fn both_ways<T: Wire + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = encode(message);
    assert_eq!(&decode::<T>(&bytes).unwrap(), message);
    for end in 0..bytes.len().min(600) {
        assert!(
            decode::<T>(&bytes[..end]).is_err(),
            "{end} of {} bytes",
            bytes.len()
        );
    }
    let mut long = bytes.to_vec();
    long.push(0);
    assert!(decode::<T>(&long).is_err());
    long.pop();
    long[0] = 2;
    assert!(decode::<T>(&long).is_err());
}

#[test]
fn every_message_both_ways() {
    for value in [NilOrVal::Nil, NilOrVal::Val(hash(8))] {
        for kind in [VoteType::Prevote, VoteType::Precommit] {
            both_ways(&Message::Vote(vote(kind, value)));
            both_ways(&Liveness::Vote(vote(kind, value)));
        }
    }
    both_ways(&Message::Proposal(proposal(Round::Nil)));
    both_ways(&Message::Proposal(proposal(Round::new(1))));
    both_ways(&Liveness::PolkaCertificate(polka()));
    both_ways(&polka());
    both_ways(&Liveness::SkipRoundCertificate(round_certificate(
        RoundCertificateType::Skip,
    )));
    both_ways(&Liveness::SkipRoundCertificate(round_certificate(
        RoundCertificateType::Precommit,
    )));
    both_ways(&part());
    both_ways(&StreamMessage::new(
        StreamId::new(Bytes::from_static(b"id")),
        1,
        StreamContent::Data(part()),
    ));
    both_ways(&StreamMessage::<Part>::new(
        StreamId::new(Bytes::from_static(b"id")),
        2,
        StreamContent::Fin,
    ));
    both_ways(&ValidatorProof::<TallyContext>::new(
        vec![1; 32],
        vec![2; 38],
        signature(3),
    ));
    for validity in [Validity::Valid, Validity::Invalid] {
        both_ways(&ProposedValue::<TallyContext> {
            height: Height(1),
            round: Round::new(0),
            valid_round: Round::Nil,
            proposer: address(1),
            value: hash(2),
            validity,
        });
    }
    both_ways(&Request::<TallyContext>::ValueRequest(ValueRequest::new(
        Height(1)..=Height(5),
    )));
    both_ways(&response());
    assert_eq!(
        WireCodec.encoded_len(&response()).unwrap(),
        encode(&response()).len()
    );
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let peer_id = PeerId::from_bytes(&keypair.public().to_peer_id().to_bytes()).unwrap();
    both_ways(&Status::<TallyContext> {
        peer_id,
        tip_height: Height(4),
        history_min_height: Height(1),
    });
}

#[test]
fn golden_vote() {
    let bytes = encode(&Message::Vote(vote(
        VoteType::Precommit,
        NilOrVal::Val(hash(8)),
    )));
    let mut expected = vec![1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3, 1];
    expected.extend([8; 32]);
    expected.extend([1; 32]);
    expected.extend([2; 64]);
    assert_eq!(bytes, expected);
}

#[test]
fn rounds_and_counts_are_bounded() {
    let mut far = vote(VoteType::Prevote, NilOrVal::Nil);
    far.message.round = Round::new(u32::MAX);
    assert!(decode::<Message>(&encode(&Message::Vote(far))).is_err());
    let mut none = vote(VoteType::Prevote, NilOrVal::Nil);
    none.message.round = Round::Nil;
    assert!(decode::<Message>(&encode(&Message::Vote(none))).is_err());
    let mut many = polka();
    many.polka_signatures = vec![PolkaSignature::new(address(1), signature(1)); MAX_VALIDATORS + 1];
    assert!(decode::<PolkaCertificate<TallyContext>>(&encode(&many)).is_err());
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = Request::<TallyContext>::ValueRequest(ValueRequest::new(Height(5)..=Height(1)));
    assert!(decode::<Request<TallyContext>>(&encode(&backwards)).is_err());
}

fn all_decoders(bytes: &[u8]) {
    let _ = decode::<Part>(bytes);
    let _ = decode::<Message>(bytes);
    let _ = decode::<Liveness>(bytes);
    let _ = decode::<StreamMessage<Part>>(bytes);
    let _ = decode::<ValidatorProof<TallyContext>>(bytes);
    let _ = decode::<ProposedValue<TallyContext>>(bytes);
    let _ = decode::<PolkaCertificate<TallyContext>>(bytes);
    let _ = decode::<Status<TallyContext>>(bytes);
    let _ = decode::<Request<TallyContext>>(bytes);
    let _ = decode::<Response<TallyContext>>(bytes);
}

proptest! {
    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        all_decoders(&bytes);
    }

    /// What decodes is canonical: it encodes to the same bytes. Changed good messages reach deeper than garbage does.
    #[test]
    fn changed_messages_are_refused_or_canonical(
        which in 0usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = match which {
            0 => encode(&Message::Vote(vote(VoteType::Precommit, NilOrVal::Val(hash(8))))),
            1 => encode(&Message::Proposal(proposal(Round::new(1)))),
            2 => encode(&Liveness::PolkaCertificate(polka())),
            3 => encode(&Liveness::SkipRoundCertificate(round_certificate(RoundCertificateType::Skip))),
            4 => encode(&response()),
            _ => encode(&part()),
        }
        .to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        all_decoders(&bytes);
        if let Ok(message) = decode::<Message>(&bytes) {
            prop_assert_eq!(encode(&message).to_vec(), bytes.clone());
        }
        if let Ok(message) = decode::<Liveness>(&bytes) {
            prop_assert_eq!(encode(&message).to_vec(), bytes.clone());
        }
        if let Ok(message) = decode::<Response<TallyContext>>(&bytes) {
            prop_assert_eq!(encode(&message).to_vec(), bytes.clone());
        }
        if let Ok(message) = decode::<Part>(&bytes) {
            prop_assert_eq!(encode(&message).to_vec(), bytes);
        }
    }
}
