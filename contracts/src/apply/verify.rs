//! Signatures of records: verified once, remembered by a token.

use tally_merkle::Hash;

use crate::envelope::{Record, Signer};
use crate::ids::PublicKey;
use crate::refusal::{ApplyError, Refusal};
use crate::signature::verify_batch;
use crate::state::{self, KeyState, Remembering, StateError, StateRead};

/// Says that a record's signatures were right under certain keys. A node keeps these by [`Record::leaf`], so that each record
/// is verified once; only verification makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    leaf: Hash,
    keys: Vec<PublicKey>,
}

impl Verified {
    /// The leaf hash of the record that was verified.
    #[must_use]
    pub const fn leaf(&self) -> &Hash {
        &self.leaf
    }

    pub(super) fn covers(&self, record: &Record, keys: &[PublicKey]) -> bool {
        self.keys == keys && self.leaf == record.leaf()
    }
}

/// Verifies the signatures of one record under its signers' keys in the state.
///
/// # Errors
/// [`ApplyError::Refused`] for an unknown member or key and for a wrong signature; [`ApplyError::State`].
pub fn verify_record(state: &dyn StateRead, record: &Record) -> Result<Verified, ApplyError> {
    let keys = signer_keys(state, record)?;
    verify_under(record, &keys).map_err(Into::into)
}

/// Verifies many records, all signatures in batches; the answer for each is what [`verify_record`] gives.
///
/// # Errors
/// [`StateError`] if the state cannot be read; per record a [`Refusal`].
pub fn verify_records(
    state: &dyn StateRead,
    records: &[&Record],
) -> Result<Vec<Result<Verified, Refusal>>, StateError> {
    let state = &Remembering::new(state);
    let mut keys = Vec::with_capacity(records.len());
    let mut items = Vec::new();
    for record in records {
        let known = match signer_keys(state, record) {
            Ok(known) => Ok(known),
            Err(ApplyError::Refused(refusal)) => Err(refusal),
            Err(ApplyError::State(e)) => return Err(e),
        };
        if let Ok(known) = &known {
            items.extend(record.signed(known));
        }
        keys.push(known);
    }
    let mut right = verify_batch(&items).into_iter();
    Ok(records
        .iter()
        .zip(keys)
        .map(|(record, keys)| {
            let keys = keys?;
            // Every signature's answer is taken, also after a wrong one, so that the answers stay in step.
            let answers: Vec<bool> = right.by_ref().take(keys.len()).collect();
            token(record, &keys, &answers)
        })
        .collect())
}

pub(super) fn verify_under(record: &Record, keys: &[PublicKey]) -> Result<Verified, Refusal> {
    token(record, keys, &verify_batch(&record.signed(keys)))
}

fn token(record: &Record, keys: &[PublicKey], answers: &[bool]) -> Result<Verified, Refusal> {
    for (i, signer) in record.signers().iter().enumerate() {
        if answers.get(i) != Some(&true) {
            return Err(Refusal::Signature {
                member: signer.member,
                key: signer.key,
            });
        }
    }
    Ok(Verified {
        leaf: record.leaf(),
        keys: keys.to_vec(),
    })
}

/// The state of a signer's key, which must be a member's.
pub(super) fn signer_key(state: &dyn StateRead, signer: &Signer) -> Result<KeyState, ApplyError> {
    if let Some(key) = state::key_state(state, &signer.member, &signer.key)? {
        return Ok(key);
    }
    let member = signer.member;
    Err(if state::member(state, &member)?.is_none() {
        Refusal::UnknownMember { member }
    } else {
        Refusal::UnknownKey {
            member,
            key: signer.key,
        }
    }
    .into())
}

fn signer_keys(state: &dyn StateRead, record: &Record) -> Result<Vec<PublicKey>, ApplyError> {
    record
        .signers()
        .iter()
        .map(|signer| Ok(signer_key(state, signer)?.key))
        .collect()
}
