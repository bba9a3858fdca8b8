//! What is signed, by whom, and the ZIP-215 rule by which it is verified.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ed25519_dalek::{Signer as _, SigningKey};
use malachitebft_app_channel::app::types::core::{
    NilOrVal, Round, SignedMessage, ValidatorProof, VoteExtensionScope, VoteType,
};
use malachitebft_app_channel::{Signer, Verifier};
use malachitebft_signing::{Error, VerificationResult};
use tally_contracts::block::{self, vote_sign_bytes};
use tally_contracts::codec::Writer;
use tally_contracts::domains;
use tally_contracts::ids::{NetworkId, PublicKey, Signature};

use super::context::{Address, EngineKey, EngineSignature, Proposal, TallyContext, Value, Vote};
use super::polkas::Polkas;
use crate::config::Secret;
use crate::verify::verify_signature;

fn round_number(round: Round) -> u32 {
    // The engine signs and verifies only rounds that exist, and the codec refuses others.
    round.as_u32().unwrap_or(u32::MAX)
}

/// Sign bytes of a vote: those of the contracts crate.
pub(crate) fn vote_bytes(network: &NetworkId, vote: &Vote) -> Vec<u8> {
    let kind = match vote.kind {
        VoteType::Prevote => block::VoteType::Prevote,
        VoteType::Precommit => block::VoteType::Precommit,
    };
    let value = match &vote.value {
        NilOrVal::Nil => None,
        NilOrVal::Val(Value(hash)) => Some(hash),
    };
    vote_sign_bytes(
        network,
        vote.height.0,
        round_number(vote.round),
        kind,
        value,
    )
}

/// Sign bytes of a proposal: `tally/proposal/v1` LF || network ID || height u64 || round u32 || 0, or 1 and the round of the
/// proof-of-lock u32 || block hash.
pub(crate) fn proposal_bytes(network: &NetworkId, proposal: &Proposal) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(domains::PROPOSAL)
        .raw(&network.0)
        .u64(proposal.height.0)
        .u32(round_number(proposal.round));
    match proposal.pol_round.as_u32() {
        None => w.u8(0),
        Some(round) => w.u8(1).u32(round),
    };
    w.raw(&proposal.value.0.0);
    w.into_bytes()
}

/// What this node has voted at the height it voted at last, by round and whether it was a precommit.
#[derive(Default)]
struct Votes {
    height: u64,
    values: BTreeMap<(u32, bool), NilOrVal<Value>>,
}

impl Votes {
    /// The value that stands for a vote: the one that was signed for its height, round and kind before, if one was. A height
    /// that is started afresh, because a decided block has to be fetched again, knows nothing of the votes before.
    fn settle(&mut self, vote: &Vote) -> NilOrVal<Value> {
        if self.height != vote.height.0 {
            self.height = vote.height.0;
            self.values.clear();
        }
        let slot = (round_number(vote.round), vote.kind == VoteType::Precommit);
        *self.values.entry(slot).or_insert(vote.value)
    }
}

/// The node's consensus key and the network that everything signed names.
#[derive(Clone)]
pub(crate) struct Keys {
    key: SigningKey,
    network: NetworkId,
    votes: Arc<Mutex<Votes>>,
}

impl Keys {
    pub(crate) fn new(seed: &Secret, network: NetworkId) -> Self {
        Self {
            key: SigningKey::from_bytes(seed.expose()),
            network,
            votes: Arc::default(),
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn address(&self) -> Address {
        Address(self.public())
    }

    pub(crate) fn network(&self) -> &NetworkId {
        &self.network
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).to_bytes())
    }

    /// Notes a vote that was signed before a restart, if it is this node's.
    pub(crate) fn remember(&self, vote: &Vote) {
        if vote.address == self.address() {
            self.votes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .settle(vote);
        }
    }

    /// The proof that the swarm identity `peer_id` belongs to this validator.
    pub(crate) fn validator_proof(&self, peer_id: Vec<u8>) -> ValidatorProof<TallyContext> {
        let public_key = self.public().0.to_vec();
        let bytes = ValidatorProof::<TallyContext>::signing_bytes(&public_key, &peer_id);
        ValidatorProof::new(public_key, peer_id, EngineSignature(self.sign(&bytes)))
    }
}

#[async_trait]
impl Signer<TallyContext> for Keys {
    async fn sign_vote(&self, mut vote: Vote) -> Result<SignedMessage<TallyContext, Vote>, Error> {
        vote.value = self
            .votes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .settle(&vote);
        let signature = self.sign(&vote_bytes(&self.network, &vote));
        Ok(SignedMessage::new(vote, EngineSignature(signature)))
    }

    async fn sign_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<TallyContext, Proposal>, Error> {
        let signature = self.sign(&proposal_bytes(&self.network, &proposal));
        Ok(SignedMessage::new(proposal, EngineSignature(signature)))
    }

    async fn sign_vote_extension(
        &self,
        scope: VoteExtensionScope<TallyContext>,
        _extension: (),
    ) -> Result<SignedMessage<TallyContext, ()>, Error> {
        // The policy is `Disabled` at every height; asking for one is a bug in the engine, and nothing is signed.
        Err(Error::from_source(format!(
            "vote extension asked for at height {}",
            scope.height
        )))
    }

    async fn sign_validator_proof(
        &self,
        _public_key: Vec<u8>,
        peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<TallyContext>, Error> {
        Ok(self.validator_proof(peer_id))
    }
}

/// Verifies what validators sign, by ZIP-215, and notes the prevotes among it: by themselves or in a certificate, all come by here.
#[derive(Clone)]
pub(crate) struct Zip215 {
    network: NetworkId,
    polkas: Polkas,
}

impl Zip215 {
    pub(crate) const fn new(network: NetworkId, polkas: Polkas) -> Self {
        Self { network, polkas }
    }
}

#[async_trait]
impl Verifier<TallyContext> for Zip215 {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &EngineSignature,
        key: &EngineKey,
    ) -> Result<VerificationResult, Error> {
        let valid = verify_signature(&key.0, &vote_bytes(&self.network, vote), &signature.0);
        if valid {
            self.polkas.note(vote, &key.0);
        }
        Ok(VerificationResult::from_bool(valid))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &EngineSignature,
        key: &EngineKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::from_bool(verify_signature(
            &key.0,
            &proposal_bytes(&self.network, proposal),
            &signature.0,
        )))
    }

    async fn verify_signed_vote_extension(
        &self,
        _scope: &VoteExtensionScope<TallyContext>,
        _extension: &(),
        _signature: &EngineSignature,
        _key: &EngineKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<TallyContext>,
    ) -> Result<VerificationResult, Error> {
        let valid = proof
            .decoded_public_key()
            .is_ok_and(|key| verify_signature(&key.0, &proof.preimage(), &proof.signature.0));
        Ok(VerificationResult::from_bool(valid))
    }
}

#[cfg(test)]
mod tests {
    use tally_contracts::ids::BlockHash;

    use super::super::context::Height;
    use super::*;

    fn proposal(round: u32, pol_round: Round) -> Proposal {
        Proposal {
            height: Height(258),
            round: Round::new(round),
            value: Value(BlockHash([9; 32])),
            pol_round,
            address: Address(PublicKey([0; 32])),
        }
    }

    #[test]
    fn golden_proposal_bytes() {
        let network = NetworkId([7; 32]);
        let bytes = proposal_bytes(&network, &proposal(3, Round::Nil));
        let mut expected = b"tally/proposal/v1\n".to_vec();
        expected.extend([7; 32]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0]);
        expected.extend([9; 32]);
        assert_eq!(bytes, expected);
        let relocked = proposal_bytes(&network, &proposal(3, Round::new(2)));
        assert_eq!(relocked.len(), bytes.len() + 4);
    }

    #[tokio::test]
    async fn a_vote_verifies_only_as_signed() {
        let network = NetworkId([7; 32]);
        let keys = Keys::new(&Secret::new([3; 32]), network);
        let vote = Vote {
            kind: VoteType::Precommit,
            height: Height(5),
            round: Round::new(1),
            value: NilOrVal::Val(Value(BlockHash([1; 32]))),
            address: keys.address(),
        };
        let signed = keys.sign_vote(vote.clone()).await.unwrap();
        let key = EngineKey(keys.public());
        let verifier = Zip215::new(network, Polkas::default());
        let check = async |vote: &Vote, verifier: &Zip215| {
            verifier
                .verify_signed_vote(vote, &signed.signature, &key)
                .await
                .unwrap()
                .is_valid()
        };
        assert!(check(&vote, &verifier).await);
        assert!(!check(&vote, &Zip215::new(NetworkId([8; 32]), Polkas::default())).await);
        for change in [
            Vote {
                kind: VoteType::Prevote,
                ..vote.clone()
            },
            Vote {
                height: Height(6),
                ..vote.clone()
            },
            Vote {
                round: Round::new(2),
                ..vote.clone()
            },
            Vote {
                value: NilOrVal::Nil,
                ..vote.clone()
            },
        ] {
            assert!(!check(&change, &verifier).await);
        }
    }

    #[tokio::test]
    async fn two_votes_in_one_place_are_one() {
        let keys = Keys::new(&Secret::new([3; 32]), NetworkId([7; 32]));
        let vote = |height, round, kind, value: Option<u8>| Vote {
            kind,
            height: Height(height),
            round: Round::new(round),
            value: value.map_or(NilOrVal::Nil, |v| NilOrVal::Val(Value(BlockHash([v; 32])))),
            address: keys.address(),
        };
        let first = vote(5, 1, VoteType::Prevote, Some(1));
        let signed = keys.sign_vote(first.clone()).await.unwrap();
        assert_eq!(signed.message, first);
        for value in [None, Some(1), Some(2)] {
            let again = keys
                .clone()
                .sign_vote(vote(5, 1, VoteType::Prevote, value))
                .await
                .unwrap();
            assert_eq!(again, signed);
        }
        for other in [
            vote(5, 2, VoteType::Prevote, None),
            vote(5, 1, VoteType::Precommit, None),
            vote(6, 1, VoteType::Prevote, None),
        ] {
            assert_eq!(keys.sign_vote(other.clone()).await.unwrap().message, other);
        }
    }

    #[tokio::test]
    async fn a_validator_proof_binds_key_and_peer() {
        let keys = Keys::new(&Secret::new([3; 32]), NetworkId([7; 32]));
        let verifier = Zip215::new(NetworkId([7; 32]), Polkas::default());
        let proof = keys.validator_proof(vec![1, 2, 3]);
        assert!(
            verifier
                .verify_validator_proof(&proof)
                .await
                .unwrap()
                .is_valid()
        );
        let mut stolen = proof.clone();
        stolen.peer_id = vec![1, 2, 4];
        assert!(
            verifier
                .verify_validator_proof(&stolen)
                .await
                .unwrap()
                .is_invalid()
        );
        let mut short = proof;
        short.public_key.pop();
        assert!(
            verifier
                .verify_validator_proof(&short)
                .await
                .unwrap()
                .is_invalid()
        );
    }
}
