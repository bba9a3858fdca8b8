use malachitebft_app_channel::app::types::core::Round;
use proptest::prelude::*;

use super::super::parts::PART_BYTES;
use super::fuzzing::*;
use super::*;

fn part() -> Part {
    parts(PART_BYTES + 10).remove(1)
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

proptest! {
    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = decode_all(&bytes);
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
        for (name, again) in decode_all(&bytes) {
            prop_assert_eq!(again.to_vec(), bytes.clone(), "{}", name);
        }
    }
}

#[test]
fn samples_decode_and_parts_come_together() {
    for (name, bytes) in samples() {
        assert!(
            decode_all(&bytes).iter().any(|(_, again)| *again == bytes),
            "{name}"
        );
    }
    assert_eq!(assemble(&sample_parts()), Ok(()));
}
