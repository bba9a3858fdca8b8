//! Wire and write-ahead-log forms of the engine's messages: a version byte, then fixed big-endian fields. Every length is
//! bounded before anything is allocated, every byte is consumed, and nothing panics whatever comes in.

use std::ops::RangeInclusive;

use bytes::Bytes;
use malachitebft_app_channel::app::consensus::LivenessMsg;
use malachitebft_app_channel::app::engine::util::streaming::StreamContent;
use malachitebft_app_channel::app::types::codec::{Codec, HasEncodedLen};
use malachitebft_app_channel::app::types::core::{
    ExtendedCommitCertificate, ExtendedCommitSignature, NilOrVal, PolkaCertificate, PolkaSignature,
    Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedProposal, SignedVote,
    ValidatorProof, Validity, VoteType,
};
use malachitebft_app_channel::app::types::streaming::{StreamId, StreamMessage};
use malachitebft_app_channel::app::types::sync::{RawDecidedValue, Request, Response, Status};
use malachitebft_app_channel::app::types::{PeerId, ProposedValue, SignedConsensusMsg};
use malachitebft_sync::{ValueRequest, ValueResponse};
use tally_contracts::block::{MAX_BLOCK_BYTES, MAX_VALIDATORS};
use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_contracts::ids::{BlockHash, PublicKey, Signature};

use super::context::{Address, EngineSignature, Height, Proposal, TallyContext, Value, Vote};
use super::parts::Part;

const VERSION: u8 = 1;
/// No round is ever this high; the engine adds 1 to rounds it is told of.
pub(crate) const MAX_ROUND: u32 = 1 << 30;
/// The most blocks in one sync answer.
const MAX_SYNC_VALUES: usize = 64;
/// A peer ID is a short multihash.
const MAX_PEER_ID: usize = 64;
const MAX_STREAM_ID: usize = 64;

type Decoded<T> = Result<T, CodecError>;

/// The one codec, without state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WireCodec;

trait Wire: Sized {
    fn write(&self, w: &mut Writer);
    fn read(r: &mut Reader<'_>) -> Decoded<Self>;
}

fn invalid<T>(what: &'static str, found: impl Into<u64>) -> Decoded<T> {
    Err(CodecError::Invalid {
        what,
        found: found.into(),
    })
}

fn encode<T: Wire>(message: &T) -> Bytes {
    let mut w = Writer::new();
    w.u8(VERSION);
    message.write(&mut w);
    w.into_bytes().into()
}

fn decode<T: Wire>(bytes: &[u8]) -> Decoded<T> {
    let mut r = Reader::new(bytes);
    let version = r.u8("message version")?;
    if version != VERSION {
        return invalid("message version", version);
    }
    let message = T::read(&mut r)?;
    r.finish()?;
    Ok(message)
}

macro_rules! codec {
    ($($message:ty),* $(,)?) => {$(
        impl Codec<$message> for WireCodec {
            type Error = CodecError;

            fn decode(&self, bytes: Bytes) -> Result<$message, CodecError> {
                decode(&bytes)
            }

            fn encode(&self, message: &$message) -> Result<Bytes, CodecError> {
                Ok(encode(message))
            }
        }
    )*};
}

codec!(
    Part,
    SignedConsensusMsg<TallyContext>,
    LivenessMsg<TallyContext>,
    StreamMessage<Part>,
    ValidatorProof<TallyContext>,
    ProposedValue<TallyContext>,
    PolkaCertificate<TallyContext>,
    Status<TallyContext>,
    Request<TallyContext>,
    Response<TallyContext>,
);

impl HasEncodedLen<Response<TallyContext>> for WireCodec {
    fn encoded_len(&self, message: &Response<TallyContext>) -> Result<usize, CodecError> {
        Ok(encode(message).len())
    }
}

fn read_round(r: &mut Reader<'_>, what: &'static str) -> Decoded<Round> {
    let round = r.u32(what)?;
    if round > MAX_ROUND {
        return invalid(what, round);
    }
    Ok(Round::new(round))
}

/// A round that exists. The engine never sends votes of none; if it did, the peer refuses them.
fn write_round(w: &mut Writer, round: Round) {
    w.u32(round.as_u32().unwrap_or(u32::MAX));
}

pub(crate) fn write_round_option(w: &mut Writer, round: Round) {
    match round.as_u32() {
        None => w.u8(0),
        Some(round) => w.u8(1).u32(round),
    };
}

pub(crate) fn read_round_option(r: &mut Reader<'_>, what: &'static str) -> Decoded<Round> {
    if r.bool(what)? {
        read_round(r, what)
    } else {
        Ok(Round::Nil)
    }
}

fn write_height(w: &mut Writer, height: Height) {
    w.u64(height.0);
}

fn read_height(r: &mut Reader<'_>) -> Decoded<Height> {
    r.u64("height").map(Height)
}

fn read_address(r: &mut Reader<'_>) -> Decoded<Address> {
    r.array("validator").map(|key| Address(PublicKey(key)))
}

fn read_signature(r: &mut Reader<'_>) -> Decoded<EngineSignature> {
    r.array("signature")
        .map(|bytes| EngineSignature(Signature(bytes)))
}

fn read_value(r: &mut Reader<'_>) -> Decoded<Value> {
    r.array("block hash").map(|hash| Value(BlockHash(hash)))
}

fn write_choice(w: &mut Writer, value: &NilOrVal<Value>) {
    match value {
        NilOrVal::Nil => w.u8(0),
        NilOrVal::Val(value) => w.u8(1).raw(&value.0.0),
    };
}

fn read_choice(r: &mut Reader<'_>) -> Decoded<NilOrVal<Value>> {
    Ok(if r.bool("nil or block")? {
        NilOrVal::Val(read_value(r)?)
    } else {
        NilOrVal::Nil
    })
}

fn write_kind(w: &mut Writer, kind: VoteType) {
    w.u8(match kind {
        VoteType::Prevote => 1,
        VoteType::Precommit => 2,
    });
}

fn read_kind(r: &mut Reader<'_>) -> Decoded<VoteType> {
    match r.u8("vote type")? {
        1 => Ok(VoteType::Prevote),
        2 => Ok(VoteType::Precommit),
        other => invalid("vote type", other),
    }
}

impl Wire for Part {
    fn write(&self, w: &mut Writer) {
        Part::write(self, w);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        Part::read(r)
    }
}

impl Wire for SignedVote<TallyContext> {
    fn write(&self, w: &mut Writer) {
        let vote = &self.message;
        write_kind(w, vote.kind);
        write_height(w, vote.height);
        write_round(w, vote.round);
        write_choice(w, &vote.value);
        w.raw(&vote.address.0.0).raw(&self.signature.0.0);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let vote = Vote {
            kind: read_kind(r)?,
            height: read_height(r)?,
            round: read_round(r, "vote round")?,
            value: read_choice(r)?,
            address: read_address(r)?,
        };
        Ok(Self::new(vote, read_signature(r)?))
    }
}

impl Wire for SignedProposal<TallyContext> {
    fn write(&self, w: &mut Writer) {
        let proposal = &self.message;
        write_height(w, proposal.height);
        write_round(w, proposal.round);
        write_round_option(w, proposal.pol_round);
        w.raw(&proposal.value.0.0)
            .raw(&proposal.address.0.0)
            .raw(&self.signature.0.0);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let proposal = Proposal {
            height: read_height(r)?,
            round: read_round(r, "proposal round")?,
            pol_round: read_round_option(r, "proposal lock round")?,
            value: read_value(r)?,
            address: read_address(r)?,
        };
        Ok(Self::new(proposal, read_signature(r)?))
    }
}

impl Wire for SignedConsensusMsg<TallyContext> {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Vote(vote) => {
                w.u8(1);
                vote.write(w);
            }
            Self::Proposal(proposal) => {
                w.u8(2);
                proposal.write(w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        match r.u8("consensus message")? {
            1 => SignedVote::read(r).map(Self::Vote),
            2 => SignedProposal::read(r).map(Self::Proposal),
            other => invalid("consensus message", other),
        }
    }
}

impl Wire for PolkaCertificate<TallyContext> {
    fn write(&self, w: &mut Writer) {
        write_height(w, self.height);
        write_round(w, self.round);
        w.raw(&self.value_id.0.0)
            .list(&self.polka_signatures, |w, s| {
                w.raw(&s.address.0.0).raw(&s.signature.0.0);
            });
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Self {
            height: read_height(r)?,
            round: read_round(r, "polka round")?,
            value_id: read_value(r)?,
            polka_signatures: r.list("polka signatures", MAX_VALIDATORS, |r| {
                Ok(PolkaSignature::new(read_address(r)?, read_signature(r)?))
            })?,
        })
    }
}

impl Wire for RoundCertificate<TallyContext> {
    fn write(&self, w: &mut Writer) {
        write_height(w, self.height);
        write_round(w, self.round);
        w.u8(match self.cert_type {
            RoundCertificateType::Skip => 1,
            RoundCertificateType::Precommit => 2,
        })
        .list(&self.round_signatures, |w, s| {
            write_kind(w, s.vote_type);
            write_choice(w, &s.value_id);
            w.raw(&s.address.0.0).raw(&s.signature.0.0);
        });
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Self {
            height: read_height(r)?,
            round: read_round(r, "certificate round")?,
            cert_type: match r.u8("certificate type")? {
                1 => RoundCertificateType::Skip,
                2 => RoundCertificateType::Precommit,
                other => return invalid("certificate type", other),
            },
            round_signatures: r.list("round signatures", MAX_VALIDATORS, |r| {
                Ok(RoundSignature::new(
                    read_kind(r)?,
                    read_choice(r)?,
                    read_address(r)?,
                    read_signature(r)?,
                ))
            })?,
        })
    }
}

impl Wire for LivenessMsg<TallyContext> {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Vote(vote) => {
                w.u8(1);
                vote.write(w);
            }
            Self::PolkaCertificate(certificate) => {
                w.u8(2);
                certificate.write(w);
            }
            Self::SkipRoundCertificate(certificate) => {
                w.u8(3);
                certificate.write(w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        match r.u8("liveness message")? {
            1 => SignedVote::read(r).map(Self::Vote),
            2 => PolkaCertificate::read(r).map(Self::PolkaCertificate),
            3 => RoundCertificate::read(r).map(Self::SkipRoundCertificate),
            other => invalid("liveness message", other),
        }
    }
}

impl Wire for StreamMessage<Part> {
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.stream_id.to_bytes()).u64(self.sequence);
        match &self.content {
            StreamContent::Fin => {
                w.u8(0);
            }
            StreamContent::Data(part) => {
                w.u8(1);
                Part::write(part, w);
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let id = r.bytes("stream ID", MAX_STREAM_ID)?.to_vec();
        let sequence = r.u64("stream sequence")?;
        let content = if r.bool("stream content")? {
            StreamContent::Data(Part::read(r)?)
        } else {
            StreamContent::Fin
        };
        Ok(Self::new(StreamId::new(id.into()), sequence, content))
    }
}

impl Wire for ValidatorProof<TallyContext> {
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.public_key)
            .bytes(&self.peer_id)
            .raw(&self.signature.0.0);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Self::new(
            r.bytes("proof key", PublicKey::LEN)?.to_vec(),
            r.bytes("proof peer ID", MAX_PEER_ID)?.to_vec(),
            read_signature(r)?,
        ))
    }
}

impl Wire for ProposedValue<TallyContext> {
    fn write(&self, w: &mut Writer) {
        write_height(w, self.height);
        write_round(w, self.round);
        write_round_option(w, self.valid_round);
        w.raw(&self.proposer.0.0)
            .raw(&self.value.0.0)
            .bool(self.validity == Validity::Valid);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        Ok(Self {
            height: read_height(r)?,
            round: read_round(r, "value round")?,
            valid_round: read_round_option(r, "value lock round")?,
            proposer: read_address(r)?,
            value: read_value(r)?,
            validity: Validity::from_bool(r.bool("validity")?),
        })
    }
}

impl Wire for Status<TallyContext> {
    fn write(&self, w: &mut Writer) {
        w.bytes(&self.peer_id.to_bytes());
        write_height(w, self.tip_height);
        write_height(w, self.history_min_height);
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let peer = r.bytes("peer ID", MAX_PEER_ID)?;
        let Ok(peer_id) = PeerId::from_bytes(peer) else {
            return invalid("peer ID", peer.len() as u64);
        };
        Ok(Self {
            peer_id,
            tip_height: read_height(r)?,
            history_min_height: read_height(r)?,
        })
    }
}

impl Wire for Request<TallyContext> {
    fn write(&self, w: &mut Writer) {
        let Self::ValueRequest(request) = self;
        write_height(w, *request.range.start());
        write_height(w, *request.range.end());
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let range = RangeInclusive::new(read_height(r)?, read_height(r)?);
        if range.is_empty() {
            return invalid("height range", range.end().0);
        }
        Ok(Self::ValueRequest(ValueRequest::new(range)))
    }
}

impl Wire for RawDecidedValue<TallyContext> {
    fn write(&self, w: &mut Writer) {
        let certificate = &self.certificate;
        w.bytes(&self.value_bytes);
        write_height(w, certificate.height);
        write_round(w, certificate.round);
        w.raw(&certificate.value_id.0.0)
            .list(&certificate.commit_signatures, |w, s| {
                w.raw(&s.address.0.0).raw(&s.signature.0.0);
            });
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let value_bytes = Bytes::copy_from_slice(r.bytes("block", MAX_BLOCK_BYTES)?);
        let certificate = ExtendedCommitCertificate {
            height: read_height(r)?,
            round: read_round(r, "commit round")?,
            value_id: read_value(r)?,
            commit_signatures: r.list("commit signatures", MAX_VALIDATORS, |r| {
                Ok(ExtendedCommitSignature::new(
                    read_address(r)?,
                    read_signature(r)?,
                    None,
                ))
            })?,
        };
        Ok(Self::new(value_bytes, certificate))
    }
}

impl Wire for Response<TallyContext> {
    fn write(&self, w: &mut Writer) {
        let Self::ValueResponse(response) = self;
        write_height(w, response.start_height);
        w.list(&response.values, |w, value| value.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Decoded<Self> {
        let start = read_height(r)?;
        let values = r.list("blocks", MAX_SYNC_VALUES, RawDecidedValue::read)?;
        Ok(Self::ValueResponse(ValueResponse::new(start, values)))
    }
}

#[path = "codec_fuzzing.rs"]
pub(crate) mod fuzzing;
#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
