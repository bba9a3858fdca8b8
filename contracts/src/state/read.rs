//! Typed reading of the state.

use super::governance::{ChangeState, RetiredKey, Schedule};
use super::overlap::OverlapState;
use super::values::{
    AgreementState, AnchorState, AudienceState, BatchState, Budget, KeyState, MatchState,
    NetworkInfo, ProductState, RevokedState, TerritoryState,
};
use super::{StateError, StateRead, keys};
use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::genesis::{MemberEntry, Rules};
use crate::ids::{
    AgreementId, AudienceLabel, BatchId, ChangeId, KeyId, MemberId, PublicKey, SessionId,
};
use crate::records::{Gtin, RevokedPart};
use crate::validators::ValidatorSet;

/// The typed value under a key.
///
/// # Errors
/// [`StateError`] if the store fails or the value is damaged.
pub fn read<T: Canonical>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, StateError> {
    let Some(bytes) = state.get(key)? else {
        return Ok(None);
    };
    T::from_bytes(&bytes)
        .map(Some)
        .map_err(|source| StateError::Damaged {
            key: keys::show(key),
            source,
        })
}

fn required<T: Canonical>(state: &dyn StateRead, key: &[u8]) -> Result<T, StateError> {
    read(state, key)?.ok_or_else(|| StateError::Missing {
        key: keys::show(key),
    })
}

macro_rules! readers {
    ($($(#[$meta:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $value:ty = $key:expr;)+) => {$(
        $(#[$meta])*
        ///
        /// # Errors
        /// [`StateError`].
        pub fn $name(state: &dyn StateRead, $($arg: $ty),*) -> Result<Option<$value>, StateError> {
            read(state, &$key)
        }
    )+};
}

readers! {
    /// A member by its ID.
    member(id: &MemberId) -> MemberEntry = keys::member(id);
    /// A signing key.
    key_state(owner: &MemberId, id: &KeyId) -> KeyState = keys::signing_key(owner, id);
    /// A product.
    product(gtin: &Gtin) -> ProductState = keys::product(gtin);
    /// A batch.
    batch(id: &BatchId) -> BatchState = keys::batch(id);
    /// A part of the void list of a batch.
    revoked(batch: &BatchId, part: u32) -> RevokedState = keys::revoked(batch, part);
    /// Where a batch is meant to be sold; `None` if its owner does not say.
    territory(batch: &BatchId) -> TerritoryState = keys::territory(batch);
    /// The last anchor of a member's log.
    anchor(owner: &MemberId, log_id: u16) -> AnchorState = keys::anchor(owner, log_id);
    /// An agreement.
    agreement(id: &AgreementId) -> AgreementState = keys::agreement(id);
    /// A committed audience.
    audience(owner: &MemberId, epoch: u64, label: &AudienceLabel) -> AudienceState = keys::audience(owner, epoch, label);
    /// A proposal of governance.
    change(id: &ChangeId) -> ChangeState = keys::change(id);
    /// A key that was in force once.
    retired_key(key: &PublicKey) -> RetiredKey = keys::retired_key(key);
    /// A match.
    match_state(session: &SessionId) -> MatchState = keys::match_session(session);
    /// An overlap of several parties.
    overlap(session: &SessionId) -> OverlapState = keys::overlap_session(session);
}

/// Every member, ascending by ID; at most 64.
///
/// # Errors
/// [`StateError`].
pub fn members(state: &dyn StateRead) -> Result<Vec<MemberEntry>, StateError> {
    state
        .scan(keys::MEMBER.as_bytes())?
        .into_iter()
        .map(|(key, value)| {
            MemberEntry::from_bytes(&value).map_err(|source| StateError::Damaged {
                key: keys::show(&key),
                source,
            })
        })
        .collect()
}

/// The proposals that have passed and are not in force yet.
///
/// # Errors
/// [`StateError`].
pub fn schedule(state: &dyn StateRead) -> Result<Schedule, StateError> {
    Ok(read(state, &keys::schedule())?.unwrap_or_default())
}

/// A member by its name.
///
/// # Errors
/// [`StateError`].
pub fn member_by_name(
    state: &dyn StateRead,
    name: &str,
) -> Result<Option<MemberEntry>, StateError> {
    match read::<Id<16>>(state, &keys::member_name(name))? {
        Some(id) => member(state, &MemberId(id.0)),
        None => Ok(None),
    }
}

/// The batch of an owner that starts at an index.
///
/// # Errors
/// [`StateError`].
pub fn batch_by_range(
    state: &dyn StateRead,
    owner: &MemberId,
    first_index: u64,
) -> Result<Option<BatchId>, StateError> {
    Ok(read::<Id<16>>(state, &keys::batch_range(owner, first_index))?.map(|id| BatchId(id.0)))
}

/// The first index that an owner's next batch must have.
///
/// # Errors
/// [`StateError`].
pub fn next_index(state: &dyn StateRead, owner: &MemberId) -> Result<u64, StateError> {
    Ok(read::<Count64>(state, &keys::batch_next(owner))?.map_or(0, |n| n.0))
}

/// How many codes of a batch are void.
///
/// # Errors
/// [`StateError`].
pub fn revoked_count(state: &dyn StateRead, batch: &BatchId) -> Result<u64, StateError> {
    Ok(read::<Count64>(state, &keys::revoked_count(batch))?.map_or(0, |n| n.0))
}

/// Whether the code whose leaf is at this place of its batch's unit tree is void.
///
/// # Errors
/// [`StateError`].
pub fn is_revoked(state: &dyn StateRead, batch: &BatchId, leaf: u64) -> Result<bool, StateError> {
    let part = revoked(state, batch, RevokedPart::number_of(leaf))?;
    Ok(part.is_some_and(|p| p.leaves.contains(leaf)))
}

/// What stands under one of the budget keys; nothing is zero.
///
/// # Errors
/// [`StateError`].
pub fn budget(state: &dyn StateRead, key: &[u8]) -> Result<Budget, StateError> {
    Ok(read(state, key)?.unwrap_or_default())
}

/// Whether a list of the owner's epoch was released to the analyst.
///
/// # Errors
/// [`StateError`].
pub fn disclosed(
    state: &dyn StateRead,
    owner: &MemberId,
    epoch: u64,
    analyst: &MemberId,
) -> Result<bool, StateError> {
    Ok(state
        .get(&keys::disclosed(owner, epoch, analyst))?
        .is_some())
}

/// The network.
///
/// # Errors
/// [`StateError`], also if the state has no genesis.
pub fn network_info(state: &dyn StateRead) -> Result<NetworkInfo, StateError> {
    required(state, &keys::network())
}

/// The rules in force.
///
/// # Errors
/// [`StateError`], also if the state has no genesis.
pub fn rules(state: &dyn StateRead) -> Result<Rules, StateError> {
    required(state, &keys::rules())
}

/// The validators in force.
///
/// # Errors
/// [`StateError`], also if the state has no genesis.
pub fn validators(state: &dyn StateRead) -> Result<ValidatorSet, StateError> {
    required(state, &keys::validators())
}

/// A bare u64, as under [`keys::batch_next`].
struct Count64(u64);

impl Canonical for Count64 {
    fn write(&self, w: &mut Writer) {
        w.u64(self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.u64("count").map(Self)
    }
}

/// The count under a key such as [`keys::audience_count`]; nothing is zero.
pub(crate) fn read_count32(state: &dyn StateRead, key: &[u8]) -> Result<u32, StateError> {
    Ok(read::<Count32>(state, key)?.map_or(0, |n| n.0))
}

/// A bare u32.
struct Count32(u32);

impl Canonical for Count32 {
    fn write(&self, w: &mut Writer) {
        w.u32(self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.u32("count").map(Self)
    }
}

/// A bare identifier.
struct Id<const N: usize>([u8; N]);

impl<const N: usize> Canonical for Id<N> {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.array("identifier").map(Self)
    }
}
