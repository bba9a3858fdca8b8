//! The engine's view of our types: heights are `u64`, a validator's address is its consensus key, and a value is the 32-byte
//! hash of a block.

use std::fmt;
use std::sync::Arc;

use malachitebft_app_channel::app::types::core::{
    self as engine, NilOrVal, Round, SignedExtension, VoteType,
};
use tally_contracts::block::MAX_VALIDATORS;
use tally_contracts::ids::{BlockHash, PublicKey, Signature};

use super::parts::Part;
use super::waits::RoundWaits;
use crate::application::Validator;

/// Block height.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's consensus key, which is also its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Address for Address {}

/// A block's hash, as value and as its ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) BlockHash);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Value for Value {
    type Id = Value;

    fn id(&self) -> Self::Id {
        *self
    }
}

/// A proposal: the hash of a block for one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: Value,
    pub(crate) pol_round: Round,
    pub(crate) address: Address,
}

impl engine::Proposal<TallyContext> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

/// A vote. Vote extensions are not used: the type has no place for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<Value>,
    pub(crate) address: Address,
}

impl engine::Vote<TallyContext> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    fn extension(&self) -> Option<&SignedExtension<TallyContext>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<TallyContext>> {
        None
    }

    fn extend(self, _extension: SignedExtension<TallyContext>) -> Self {
        self
    }
}

/// A member of a [`ValidatorSet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetMember {
    address: Address,
    key: EngineKey,
    power: u64,
}

impl engine::Validator<TallyContext> for SetMember {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &EngineKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// The validators of one height: never empty, keys ascending and unique, powers positive, their sum within `u64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValidatorSet {
    first: SetMember,
    members: Arc<[SetMember]>,
    total: u64,
}

impl ValidatorSet {
    /// Builds the set; members without power are left out.
    ///
    /// # Errors
    /// What is wrong with the list, as text.
    pub(crate) fn new(validators: &[Validator]) -> Result<Self, String> {
        let mut sorted: Vec<Validator> =
            validators.iter().copied().filter(|v| v.power > 0).collect();
        sorted.sort_unstable();
        if sorted.len() > MAX_VALIDATORS {
            return Err(format!(
                "{} validators, at most {MAX_VALIDATORS} are possible",
                sorted.len()
            ));
        }
        if let Some(twice) = sorted.windows(2).find(|w| w[0].key == w[1].key) {
            return Err(format!("validator {} is named twice", twice[0].key));
        }
        // Thresholds are computed as power times three in the engine.
        let total = sorted
            .iter()
            .try_fold(0u64, |sum, v| sum.checked_add(v.power))
            .filter(|total| total.checked_mul(3).is_some())
            .ok_or("the validators' power overflows")?;
        let members: Arc<[SetMember]> = sorted
            .iter()
            .map(|v| SetMember {
                address: Address(v.key),
                key: EngineKey(v.key),
                power: v.power,
            })
            .collect();
        let first = members.first().ok_or("no validator has power")?.clone();
        Ok(Self {
            first,
            members,
            total,
        })
    }

    pub(crate) fn contains(&self, key: &PublicKey) -> bool {
        engine::ValidatorSet::get_by_address(self, &Address(*key)).is_some()
    }
}

impl engine::ValidatorSet<TallyContext> for ValidatorSet {
    fn count(&self) -> usize {
        self.members.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.total
    }

    fn get_by_address(&self, address: &Address) -> Option<&SetMember> {
        let at = self
            .members
            .binary_search_by(|member| member.address.cmp(address))
            .ok()?;
        self.members.get(at)
    }

    fn get_by_index(&self, index: usize) -> Option<&SetMember> {
        self.members.get(index)
    }
}

/// A public key in the engine's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineKey(pub(crate) PublicKey);

/// A signature in the engine's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EngineSignature(pub(crate) Signature);

/// The engine never holds a private key; the signer does.
#[derive(Clone)]
pub(crate) struct NoPrivateKey;

/// Ed25519 as bytes; keys are decoded only by the ZIP-215 verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl engine::SigningScheme for Ed25519 {
    type DecodingError = String;
    type Signature = EngineSignature;
    type PublicKey = EngineKey;
    type PrivateKey = NoPrivateKey;

    fn decode_signature(bytes: &[u8]) -> Result<EngineSignature, String> {
        bytes
            .try_into()
            .map(|b| EngineSignature(Signature(b)))
            .map_err(|_| format!("expected 64 bytes of signature, found {}", bytes.len()))
    }

    fn encode_signature(signature: &EngineSignature) -> Vec<u8> {
        signature.0.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<EngineKey, String> {
        bytes
            .try_into()
            .map(|b| EngineKey(PublicKey(b)))
            .map_err(|_| format!("expected 32 bytes of public key, found {}", bytes.len()))
    }

    fn encode_public_key(key: &EngineKey) -> Vec<u8> {
        key.0.0.to_vec()
    }
}

/// Ties our types together for the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TallyContext;

impl TallyContext {
    fn vote(
        kind: VoteType,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Vote {
            kind,
            height,
            round,
            value,
            address,
        }
    }
}

impl engine::Context for TallyContext {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = SetMember;
    type ValidatorSet = ValidatorSet;
    type Timeouts = RoundWaits;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    /// Validators take turns by height and round, in the order of their keys, whatever their power.
    fn select_proposer<'a>(
        &self,
        set: &'a ValidatorSet,
        height: Height,
        round: Round,
    ) -> &'a SetMember {
        let turn = height
            .0
            .wrapping_add(u64::from(round.as_u32().unwrap_or(0)));
        let index = turn % (set.members.len().max(1) as u64);
        usize::try_from(index)
            .ok()
            .and_then(|i| set.members.get(i))
            .unwrap_or(&set.first)
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        address: Address,
    ) -> Proposal {
        Proposal {
            height,
            round,
            value,
            pol_round,
            address,
        }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Self::vote(VoteType::Prevote, height, round, value, address)
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<Value>,
        address: Address,
    ) -> Vote {
        Self::vote(VoteType::Precommit, height, round, value, address)
    }
}

#[cfg(test)]
mod tests {
    use malachitebft_app_channel::app::types::core::Context as _;

    use super::*;

    fn validator(key: u8, power: u64) -> Validator {
        Validator {
            key: PublicKey([key; 32]),
            power,
        }
    }

    #[test]
    fn sets_are_sorted_and_bounded() {
        let set = ValidatorSet::new(&[validator(3, 1), validator(1, 5), validator(2, 0)]).unwrap();
        let keys: Vec<u8> = set.members.iter().map(|m| m.address.0.0[0]).collect();
        assert_eq!(keys, [1, 3]);
        assert_eq!(set.total, 6);
        assert!(set.contains(&PublicKey([3; 32])));
        assert!(!set.contains(&PublicKey([2; 32])));
        assert!(ValidatorSet::new(&[]).is_err());
        assert!(ValidatorSet::new(&[validator(1, 0)]).is_err());
        assert!(ValidatorSet::new(&[validator(1, 1), validator(1, 2)]).is_err());
        assert!(ValidatorSet::new(&[validator(1, u64::MAX), validator(2, 1)]).is_err());
    }

    #[test]
    fn proposers_take_turns() {
        let set = ValidatorSet::new(&[validator(1, 9), validator(2, 1), validator(3, 1)]).unwrap();
        let turn = |height, round| {
            TallyContext
                .select_proposer(&set, Height(height), Round::new(round))
                .address
                .0
                .0[0]
        };
        assert_eq!(
            [turn(0, 0), turn(1, 0), turn(2, 0), turn(3, 0)],
            [1, 2, 3, 1]
        );
        assert_eq!([turn(1, 0), turn(1, 1), turn(1, 2)], [2, 3, 1]);
        assert_eq!(turn(u64::MAX, 1), 1);
    }
}
