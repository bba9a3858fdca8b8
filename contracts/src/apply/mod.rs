//! The contracts: which records are accepted and what they change. Pure; block time is the only time.

mod agreements;
mod block;
mod book;
mod budget;
mod genesis;
mod governance;
mod matches;
mod overlap;
mod product;
mod verify;

pub use block::{BlockOutcome, execute_block};
pub use genesis::{genesis_effects, genesis_root};
pub use governance::{due_changes, members_after};
pub use verify::{Verified, verify_record, verify_records};

use crate::envelope::{Record, Signer};
use crate::genesis::Rules;
use crate::ids::{MemberId, NetworkId, PublicKey, RecordId};
use crate::records::{Body, Kind};
use crate::refusal::{ApplyError, Refusal};
use crate::state::{self, Effects, KeyState, KeyUse, Overlay, StateRead, keys};

/// How far ahead of block time a record's `valid_until_ms` may be: a day.
pub const MAX_VALIDITY_MS: u64 = 24 * 3_600_000;

/// The block that a record is carried out in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The network.
    pub network: NetworkId,
    /// The block's height.
    pub height: u64,
    /// The block's time, POSIX milliseconds.
    pub block_time_ms: u64,
}

/// Carries out a record whose signatures were verified before. A token that does not fit the record or the keys in force is
/// worth nothing: the signatures are then verified here.
///
/// # Errors
/// [`ApplyError::Refused`], which changes nothing and uses no nonce; [`ApplyError::State`].
pub fn apply(
    state: &dyn StateRead,
    record: &Record,
    verified: &Verified,
    ctx: &Context,
) -> Result<Effects, ApplyError> {
    carry_out(state, record, Some(verified), ctx)
}

/// Checks signatures and carries out a record; what a node does with a submitted one.
///
/// # Errors
/// As [`apply`].
pub fn check_and_apply(
    state: &dyn StateRead,
    record: &Record,
    ctx: &Context,
) -> Result<Effects, ApplyError> {
    carry_out(state, record, None, ctx)
}

fn carry_out(
    state: &dyn StateRead,
    record: &Record,
    verified: Option<&Verified>,
    ctx: &Context,
) -> Result<Effects, ApplyError> {
    let (body, signing) = check_envelope(state, record, ctx)?;
    let public: Vec<PublicKey> = signing.iter().map(|s| s.key).collect();
    if !verified.is_some_and(|v| v.covers(record, &public)) {
        verify::verify_under(record, &public)?;
    }
    let mut overlay = Overlay::new(state);
    for (signer, mut key) in record.signers().iter().zip(signing) {
        // A nonce of u64::MAX cannot be reached by steps of one.
        key.next_nonce = key.next_nonce.saturating_add(1);
        overlay.put(keys::signing_key(&signer.member, &signer.key), &key);
    }
    let mut call = Call {
        rules: state::rules(state)?,
        state: overlay,
        record,
        id: record.id(),
        kind: body.kind(),
        ctx: *ctx,
    };
    match &body {
        Body::RegisterProduct(b) => call.register_product(b),
        Body::IssueBatch(b) => call.issue_batch(b),
        Body::ActivateBatch(b) => call.activate_batch(b),
        Body::RecallBatch(b) => call.recall_batch(b),
        Body::RevokeCodes(b) => call.revoke_codes(b),
        Body::SetTerritory(b) => call.set_territory(b),
        Body::AnchorScans(b) => call.anchor_scans(b),
        Body::ProposeAgreement(b) => call.propose_agreement(b),
        Body::AcceptAgreement(b) => call.accept_agreement(b),
        Body::RevokeAgreement(b) => call.revoke_agreement(b),
        Body::CommitAudience(b) => call.commit_audience(b),
        Body::OpenMatch(b) => call.open_match(b),
        Body::ReleaseMatch(b) => call.release_match(b),
        Body::CloseMatch(b) => call.close_match(b),
        Body::JoinOverlap(b) => call.join_overlap(b),
        Body::ReleaseOverlap(b) => call.release_overlap(b),
        Body::CloseOverlap(b) => call.close_overlap(b),
        Body::ConfirmOverlap(b) => call.confirm_overlap(b),
        Body::ProposeChange(b) => call.propose_change(b),
        Body::Vote(b) => call.vote(b),
    }?;
    Ok(call.state.into_effects())
}

/// Everything that every record must satisfy but its signatures: network, kind, form, validity, known members and keys, the
/// right use of the keys, the next nonces. Gives the body and the signers' keys.
fn check_envelope(
    state: &dyn StateRead,
    record: &Record,
    ctx: &Context,
) -> Result<(Body, Vec<KeyState>), ApplyError> {
    let unsigned = record.unsigned();
    if unsigned.network != ctx.network {
        return Err(Refusal::Network {
            expected: ctx.network,
            found: unsigned.network,
        }
        .into());
    }
    let kind = Kind::from_code(unsigned.kind).ok_or(Refusal::UnknownKind {
        found: unsigned.kind,
    })?;
    let valid_until_ms = unsigned.valid_until_ms;
    if valid_until_ms < ctx.block_time_ms {
        return Err(Refusal::Expired {
            valid_until_ms,
            block_time_ms: ctx.block_time_ms,
        }
        .into());
    }
    let max_ms = ctx.block_time_ms.saturating_add(MAX_VALIDITY_MS);
    if valid_until_ms > max_ms {
        return Err(Refusal::ValidTooLong {
            valid_until_ms,
            max_ms,
        }
        .into());
    }
    let body = record
        .body()
        .map_err(|source| Refusal::Malformed { kind, source })?;
    let mut signing = Vec::with_capacity(record.signers().len());
    for signer in record.signers() {
        let key = verify::signer_key(state, signer)?;
        let expected = key_use(kind);
        if key.key_use != expected {
            return Err(Refusal::KeyUse {
                kind,
                key: signer.key,
                expected,
                found: key.key_use,
            }
            .into());
        }
        check_nonce(signer, key.next_nonce)?;
        signing.push(key);
    }
    Ok((body, signing))
}

const fn key_use(kind: Kind) -> KeyUse {
    match kind {
        Kind::ProposeAgreement
        | Kind::AcceptAgreement
        | Kind::RevokeAgreement
        | Kind::ProposeChange
        | Kind::Vote => KeyUse::Admin,
        Kind::RegisterProduct
        | Kind::IssueBatch
        | Kind::ActivateBatch
        | Kind::RecallBatch
        | Kind::RevokeCodes
        | Kind::SetTerritory
        | Kind::AnchorScans
        | Kind::CommitAudience
        | Kind::OpenMatch
        | Kind::ReleaseMatch
        | Kind::CloseMatch
        | Kind::JoinOverlap
        | Kind::ReleaseOverlap
        | Kind::CloseOverlap
        | Kind::ConfirmOverlap => KeyUse::Records,
    }
}

fn check_nonce(signer: &Signer, expected: u64) -> Result<(), Refusal> {
    let (key, found) = (signer.key, signer.nonce);
    match found.cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Refusal::NonceReplayed {
            key,
            expected,
            found,
        }),
        std::cmp::Ordering::Greater => Err(Refusal::NonceGap {
            key,
            expected,
            found,
        }),
    }
}

/// One record being carried out.
struct Call<'a> {
    state: Overlay<'a>,
    rules: Rules,
    record: &'a Record,
    id: RecordId,
    kind: Kind,
    ctx: Context,
}

impl Call<'_> {
    /// The member of a record that has exactly one signer.
    fn single(&self) -> Result<MemberId, Refusal> {
        match self.record.signers() {
            [one] => Ok(one.member),
            many => Err(Refusal::SignerCount {
                kind: self.kind,
                expected: 1,
                found: many.len(),
            }),
        }
    }

    /// The epoch of the block's time.
    const fn epoch(&self) -> u64 {
        // The rules bound the length from below; a zero cannot be stored.
        match self.ctx.block_time_ms.checked_div(self.rules.epoch_ms) {
            Some(epoch) => epoch,
            None => 0,
        }
    }
}
