//! State keys, one constructor for each namespace, public so that auditors can name what they want proven.
//!
//! A key is its namespace (ASCII, ending in `/`, none the start of another) and then fixed-length binary parts, so that the
//! keys of one owner or one agreement are next to each other. `docs/formats.md` has the table.

use crate::ids::{
    AgreementId, AudienceLabel, BatchId, ChangeId, KeyId, MemberId, PublicKey, SessionId,
};
use crate::records::Gtin;

macro_rules! namespaces {
    ($($(#[$meta:meta])* $name:ident = $text:literal),+ $(,)?) => {
        $($(#[$meta])* pub const $name: &str = $text;)+

        /// All namespaces.
        pub const NAMESPACES: &[&str] = &[$($name),+];
    };
}

namespaces! {
    /// [`super::NetworkInfo`].
    NETWORK = "net/info/",
    /// [`crate::Rules`].
    RULES = "net/rules/",
    /// [`crate::ValidatorSet`].
    VALIDATORS = "net/validators/",
    /// [`crate::MemberEntry`] by member ID.
    MEMBER = "member/",
    /// Member ID by name.
    MEMBER_NAME = "member-name/",
    /// [`super::KeyState`] by member ID and key ID.
    KEY = "key/",
    /// [`super::ProductState`] by GTIN.
    PRODUCT = "product/",
    /// [`super::BatchState`] by batch ID.
    BATCH = "batch/",
    /// Batch ID by owner and first index.
    BATCH_RANGE = "batch-range/",
    /// u64 by owner: the index after its last batch.
    BATCH_NEXT = "batch-next/",
    /// [`super::RevokedState`] by batch ID and part: which of 2,048 leaves are void; absent if none is.
    REVOKED = "revoked/",
    /// u64 by batch ID: how many of its codes are void.
    REVOKED_COUNT = "revoked-count/",
    /// [`super::TerritoryState`] by batch ID; absent if none was said.
    TERRITORY = "territory/",
    /// [`super::AnchorState`] by member ID and log ID.
    ANCHOR = "anchor/",
    /// [`super::AgreementState`] by agreement ID.
    AGREEMENT = "agreement/",
    /// [`super::AudienceState`] by owner, epoch and label.
    AUDIENCE = "audience/",
    /// Empty value: the audience was used, by agreement, owner, epoch and label.
    AUDIENCE_USED = "audience-used/",
    /// u32 by agreement, owner and epoch: how many audiences were used.
    AUDIENCE_COUNT = "audience-count/",
    /// [`super::MatchState`] by session ID.
    MATCH = "match/",
    /// [`super::OverlapState`] by session ID.
    OVERLAP = "overlap/",
    /// [`super::Budget`] by owner and epoch, over all analysts.
    BUDGET_EPOCH = "budget-epoch/",
    /// [`super::Budget`] by owner, epoch and analyst.
    BUDGET_ANALYST = "budget-analyst/",
    /// [`super::Budget`] by owner and analyst, over all epochs.
    BUDGET_LIFETIME = "budget-lifetime/",
    /// Empty value: a list was released, by owner, epoch and analyst.
    DISCLOSED = "disclosed/",
    /// [`super::ChangeState`] by proposal ID.
    CHANGE = "change/",
    /// [`super::Schedule`].
    SCHEDULE = "net/schedule/",
    /// [`super::RetiredKey`] by public key.
    RETIRED_KEY = "key-retired/",
}

fn key(namespace: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = namespace.as_bytes().to_vec();
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The network's name, kind and time of creation.
#[must_use]
pub fn network() -> Vec<u8> {
    key(NETWORK, &[])
}

/// The rules in force.
#[must_use]
pub fn rules() -> Vec<u8> {
    key(RULES, &[])
}

/// The validator set in force.
#[must_use]
pub fn validators() -> Vec<u8> {
    key(VALIDATORS, &[])
}

/// A member.
#[must_use]
pub fn member(id: &MemberId) -> Vec<u8> {
    key(MEMBER, &[&id.0])
}

/// A member's ID under its name.
#[must_use]
pub fn member_name(name: &str) -> Vec<u8> {
    key(MEMBER_NAME, &[name.as_bytes()])
}

/// A signing key of a member.
#[must_use]
pub fn signing_key(member: &MemberId, id: &KeyId) -> Vec<u8> {
    key(KEY, &[&member.0, &id.0])
}

/// A product.
#[must_use]
pub fn product(gtin: &Gtin) -> Vec<u8> {
    key(PRODUCT, &[gtin.as_bytes()])
}

/// A batch.
#[must_use]
pub fn batch(id: &BatchId) -> Vec<u8> {
    key(BATCH, &[&id.0])
}

/// The batch of an owner that starts at an index. The batch of a unit is the last of its owner at or before the unit's index.
#[must_use]
pub fn batch_range(owner: &MemberId, first_index: u64) -> Vec<u8> {
    key(BATCH_RANGE, &[&owner.0, &first_index.to_be_bytes()])
}

/// An owner's next free index.
#[must_use]
pub fn batch_next(owner: &MemberId) -> Vec<u8> {
    key(BATCH_NEXT, &[&owner.0])
}

/// A part of the void list of a batch.
#[must_use]
pub fn revoked(batch: &BatchId, part: u32) -> Vec<u8> {
    key(REVOKED, &[&batch.0, &part.to_be_bytes()])
}

/// How many codes of a batch are void.
#[must_use]
pub fn revoked_count(batch: &BatchId) -> Vec<u8> {
    key(REVOKED_COUNT, &[&batch.0])
}

/// Where a batch is meant to be sold.
#[must_use]
pub fn territory(batch: &BatchId) -> Vec<u8> {
    key(TERRITORY, &[&batch.0])
}

/// The last anchor of a log.
#[must_use]
pub fn anchor(member: &MemberId, log_id: u16) -> Vec<u8> {
    key(ANCHOR, &[&member.0, &log_id.to_be_bytes()])
}

/// An agreement.
#[must_use]
pub fn agreement(id: &AgreementId) -> Vec<u8> {
    key(AGREEMENT, &[&id.0])
}

/// A committed audience.
#[must_use]
pub fn audience(owner: &MemberId, epoch: u64, label: &AudienceLabel) -> Vec<u8> {
    key(AUDIENCE, &[&owner.0, &epoch.to_be_bytes(), &label.0])
}

/// That matches of an agreement used an audience.
#[must_use]
pub fn audience_used(
    agreement: &AgreementId,
    owner: &MemberId,
    epoch: u64,
    label: &AudienceLabel,
) -> Vec<u8> {
    key(
        AUDIENCE_USED,
        &[&agreement.0, &owner.0, &epoch.to_be_bytes(), &label.0],
    )
}

/// How many audiences of an owner matches of an agreement used in an epoch.
#[must_use]
pub fn audience_count(agreement: &AgreementId, owner: &MemberId, epoch: u64) -> Vec<u8> {
    key(
        AUDIENCE_COUNT,
        &[&agreement.0, &owner.0, &epoch.to_be_bytes()],
    )
}

/// A match.
#[must_use]
pub fn match_session(session: &SessionId) -> Vec<u8> {
    key(MATCH, &[&session.0])
}

/// An overlap of several parties.
#[must_use]
pub fn overlap_session(session: &SessionId) -> Vec<u8> {
    key(OVERLAP, &[&session.0])
}

/// What an owner's epoch has cost, over all analysts.
#[must_use]
pub fn budget_epoch(owner: &MemberId, epoch: u64) -> Vec<u8> {
    key(BUDGET_EPOCH, &[&owner.0, &epoch.to_be_bytes()])
}

/// What one analyst had of an owner's epoch.
#[must_use]
pub fn budget_analyst(owner: &MemberId, epoch: u64, analyst: &MemberId) -> Vec<u8> {
    key(
        BUDGET_ANALYST,
        &[&owner.0, &epoch.to_be_bytes(), &analyst.0],
    )
}

/// What one analyst had of an owner, over all epochs.
#[must_use]
pub fn budget_lifetime(owner: &MemberId, analyst: &MemberId) -> Vec<u8> {
    key(BUDGET_LIFETIME, &[&owner.0, &analyst.0])
}

/// That an owner's epoch was disclosed to an analyst by a list.
#[must_use]
pub fn disclosed(owner: &MemberId, epoch: u64, analyst: &MemberId) -> Vec<u8> {
    key(DISCLOSED, &[&owner.0, &epoch.to_be_bytes(), &analyst.0])
}

/// A proposal of governance.
#[must_use]
pub fn change(id: &ChangeId) -> Vec<u8> {
    key(CHANGE, &[&id.0])
}

/// The proposals that have passed and are not in force yet.
#[must_use]
pub fn schedule() -> Vec<u8> {
    key(SCHEDULE, &[])
}

/// That a key was in force once.
#[must_use]
pub fn retired_key(public: &PublicKey) -> Vec<u8> {
    key(RETIRED_KEY, &[&public.0])
}

/// A key for people: its namespace as text and the rest in hex.
#[must_use]
pub fn show(key: &[u8]) -> String {
    let namespace = NAMESPACES
        .iter()
        .find(|n| key.starts_with(n.as_bytes()))
        .copied()
        .unwrap_or_default();
    let rest = key.get(namespace.len()..).unwrap_or_default();
    format!("{namespace}{}", hex::encode(rest))
}

#[cfg(test)]
mod tests {
    use super::NAMESPACES;

    #[test]
    fn no_namespace_starts_another() {
        for (i, a) in NAMESPACES.iter().enumerate() {
            assert!(a.ends_with('/'));
            for (j, b) in NAMESPACES.iter().enumerate() {
                assert!(i == j || !b.starts_with(a), "{a} starts {b}");
            }
        }
    }
}
