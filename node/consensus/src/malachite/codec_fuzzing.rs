//! One of each message, and decoders that tests and fuzz targets throw bytes at. No part of the interface.

use super::super::assembler::{Assembler, Outcome};
use super::super::parts::cut;
use super::super::signing::Keys;
use super::super::store::Proposed;
use super::*;
use crate::config::Secret;
use tally_contracts::ids::NetworkId;

pub(super) type Message = SignedConsensusMsg<TallyContext>;
pub(super) type Liveness = LivenessMsg<TallyContext>;

const NETWORK: NetworkId = NetworkId([2; 32]);

pub(super) fn hash(n: u8) -> Value {
    Value(BlockHash([n; 32]))
}

pub(super) fn address(n: u8) -> Address {
    Address(PublicKey([n; 32]))
}

pub(super) fn signature(n: u8) -> EngineSignature {
    EngineSignature(Signature([n; 64]))
}

pub(super) fn vote(kind: VoteType, value: NilOrVal<Value>) -> SignedVote<TallyContext> {
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

pub(super) fn proposal(pol_round: Round) -> SignedProposal<TallyContext> {
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

pub(super) fn polka() -> PolkaCertificate<TallyContext> {
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

pub(super) fn round_certificate(cert_type: RoundCertificateType) -> RoundCertificate<TallyContext> {
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

/// The parts of a block of `bytes` bytes; none over the largest block.
pub(super) fn parts(bytes: usize) -> Vec<Part> {
    let keys = Keys::new(&Secret::new([1; 32]), NETWORK);
    let body = vec![7; bytes];
    cut(&keys, 5, 1, Round::new(0), BlockHash([3; 32]), &body).unwrap_or_default()
}

pub(super) fn response() -> Response<TallyContext> {
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

fn again<T: Wire>(bytes: &[u8]) -> Option<Bytes> {
    decode::<T>(bytes).ok().map(|message| encode(&message))
}

/// Every message that these bytes are, by name, encoded again.
pub(crate) fn decode_all(bytes: &[u8]) -> Vec<(&'static str, Bytes)> {
    let proposal_file = || {
        let (proposed, body) = Proposed::from_bytes(bytes).ok()?;
        Some(proposed.to_bytes(&body).into())
    };
    [
        ("part", again::<Part>(bytes)),
        ("consensus message", again::<Message>(bytes)),
        ("liveness message", again::<Liveness>(bytes)),
        ("stream message", again::<StreamMessage<Part>>(bytes)),
        (
            "validator proof",
            again::<ValidatorProof<TallyContext>>(bytes),
        ),
        (
            "proposed value",
            again::<ProposedValue<TallyContext>>(bytes),
        ),
        (
            "polka certificate",
            again::<PolkaCertificate<TallyContext>>(bytes),
        ),
        ("status", again::<Status<TallyContext>>(bytes)),
        ("sync request", again::<Request<TallyContext>>(bytes)),
        ("sync response", again::<Response<TallyContext>>(bytes)),
        ("proposal file", proposal_file()),
    ]
    .into_iter()
    .filter_map(|(name, bytes)| Some((name, bytes?)))
    .collect()
}

/// One encoding of each message, by name.
pub(crate) fn samples() -> Vec<(&'static str, Bytes)> {
    let mut out = vec![
        (
            "vote",
            encode(&Message::Vote(vote(
                VoteType::Precommit,
                NilOrVal::Val(hash(8)),
            ))),
        ),
        (
            "nil-vote",
            encode(&Liveness::Vote(vote(VoteType::Prevote, NilOrVal::Nil))),
        ),
        ("proposal", encode(&Message::Proposal(proposal(Round::Nil)))),
        (
            "proposal-again",
            encode(&Message::Proposal(proposal(Round::new(1)))),
        ),
        ("polka", encode(&polka())),
        (
            "polka-liveness",
            encode(&Liveness::PolkaCertificate(polka())),
        ),
        (
            "skip-round",
            encode(&Liveness::SkipRoundCertificate(round_certificate(
                RoundCertificateType::Skip,
            ))),
        ),
        ("sync-response", encode(&response())),
        (
            "sync-request",
            encode(&Request::<TallyContext>::ValueRequest(ValueRequest::new(
                Height(1)..=Height(5),
            ))),
        ),
        (
            "validator-proof",
            encode(&ValidatorProof::<TallyContext>::new(
                vec![1; 32],
                vec![2; 38],
                signature(3),
            )),
        ),
        (
            "proposed-value",
            encode(&ProposedValue::<TallyContext> {
                height: Height(1),
                round: Round::new(0),
                valid_round: Round::Nil,
                proposer: address(1),
                value: hash(2),
                validity: Validity::Valid,
            }),
        ),
        (
            "stream-end",
            encode(&StreamMessage::<Part>::new(
                StreamId::new(Bytes::from_static(b"id")),
                2,
                StreamContent::Fin,
            )),
        ),
    ];
    // An identity multihash of a public key, as of a transport key.
    let peer = [&[0, 36, 8, 1, 18, 32], &[5; 32][..]].concat();
    if let Ok(peer_id) = PeerId::from_bytes(&peer) {
        let status = Status::<TallyContext> {
            peer_id,
            tip_height: Height(4),
            history_min_height: Height(1),
        };
        out.push(("status", encode(&status)));
    }
    let file = Proposed {
        height: 5,
        round: 1,
        pol_round: Some(0),
        block: BlockHash([3; 32]),
        sender: PublicKey([4; 32]),
    };
    out.push(("proposal-file", file.to_bytes(b"body").into()));
    for part in parts(40) {
        out.push(("part", encode(&part)));
        let message = StreamMessage::new(
            StreamId::new(Bytes::from_static(b"id")),
            1,
            StreamContent::Data(part),
        );
        out.push(("stream-part", encode(&message)));
    }
    out
}

/// Hands the parts in `bytes`, one encoding after the other, to an assembler of their network.
///
/// # Errors
/// What an assembler must never do, in words.
pub(crate) fn assemble(bytes: &[u8]) -> Result<(), String> {
    let mut assembler = Assembler::new(NETWORK);
    let mut r = Reader::new(bytes);
    while let Ok(part) = Part::read(&mut r) {
        let expected = part.header.block_bytes as usize;
        if let Outcome::Complete(whole) = assembler.insert(part, |_| true)
            && whole.body.len() != expected
        {
            return Err(format!(
                "a block of {expected} bytes came out with {}",
                whole.body.len()
            ));
        }
    }
    Ok(())
}

/// Encodings of a block's parts, one after the other, in reverse order and with one repeated.
pub(crate) fn sample_parts() -> Vec<u8> {
    let mut w = Writer::new();
    let parts = parts(40);
    for part in parts.iter().rev().chain(parts.first()) {
        part.write(&mut w);
    }
    w.into_bytes()
}
