//! Why a record is refused: typed, with a stable code, and short enough to travel back to whoever submitted it.

use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::ids::{
    AgreementId, BatchId, ChangeId, KeyId, MemberId, NetworkId, PublicKey, SessionId,
};
use crate::records::{BudgetCap, Computation, Gtin, KeyPurpose, Kind, Profile, Suite};
use crate::state::{AgreementStatus, BatchStatus, ChangeStatus, KeyUse, MatchStatus, StateError};

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $code:literal $text:literal $variant:ident $({ $($field:ident: $ty:ty),+ $(,)? })?;)+) => {
        /// Why a record is refused. The message says what was expected and what came; the code never changes.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        // The fields are named after what the messages say of them.
        #[allow(missing_docs)]
        pub enum Refusal {
            $($(#[doc = $doc])+ #[error($text)] $variant $({ $($field: $ty),+ })?,)+
        }

        impl Refusal {
            /// Every code.
            pub const CODES: &'static [&'static str] = &[$($code),+];

            /// The stable code.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $code,)+ }
            }
        }
    };
}

refusals! {
    /// Not for this network.
    "network" "record is for network {found}, this is {expected}"
    Network { expected: NetworkId, found: NetworkId };
    /// A kind that the rules in force do not know.
    "unknown_kind" "kind {found} is not known to these rules"
    UnknownKind { found: u16 };
    /// A body that is not canonical.
    "malformed" "body of a {kind} record: {source}"
    Malformed { kind: Kind, source: CodecError };
    /// An envelope that is not canonical or too large.
    "envelope" "envelope: {message}"
    Envelope { message: String };
    /// Its time is over.
    "expired" "record was valid until {valid_until_ms} ms, block time is {block_time_ms} ms"
    Expired { valid_until_ms: u64, block_time_ms: u64 };
    /// It would be valid for longer than a day.
    "valid_too_long" "record is valid until {valid_until_ms} ms, at most {max_ms} ms is allowed"
    ValidTooLong { valid_until_ms: u64, max_ms: u64 };
    /// The signer is not a member.
    "unknown_member" "{member} is not a member"
    UnknownMember { member: MemberId };
    /// The member has no such key.
    "unknown_key" "member {member} has no key {key}"
    UnknownKey { member: MemberId, key: KeyId };
    /// The key is for something else.
    "key_use" "a {kind} record needs a key for {expected}, {key} is one for {found}"
    KeyUse { kind: Kind, key: KeyId, expected: KeyUse, found: KeyUse };
    /// Too many signers or too few.
    "signer_count" "a {kind} record needs {expected} signers, found {found}"
    SignerCount { kind: Kind, expected: usize, found: usize };
    /// The nonce was used.
    "nonce_replayed" "nonce {found} of key {key} was used, next is {expected}"
    NonceReplayed { key: KeyId, expected: u64, found: u64 };
    /// The nonce comes too early.
    "nonce_gap" "nonce {found} of key {key} comes too early, next is {expected}"
    NonceGap { key: KeyId, expected: u64, found: u64 };
    /// The signature is wrong.
    "signature" "signature by key {key} of member {member} is wrong"
    Signature { member: MemberId, key: KeyId };
    /// The member may not do this.
    "role" "a {kind} record needs the role {expected}, member {member} has {found}"
    Role { kind: Kind, member: MemberId, expected: &'static str, found: String };

    /// The GTIN has an owner.
    "gtin_taken" "GTIN {gtin} is registered by member {owner}"
    GtinTaken { gtin: Gtin, owner: MemberId };
    /// The GTIN is not registered.
    "unknown_product" "GTIN {gtin} is not registered"
    UnknownProduct { gtin: Gtin };
    /// Only the owner may.
    "not_owner" "{what} belongs to member {owner}, not to {found}"
    NotOwner { what: &'static str, owner: MemberId, found: MemberId };
    /// The batch does not start where the issuer's last one ends.
    "index" "batch starts at index {found}, expected {expected}"
    Index { expected: u64, found: u64 };
    /// No such batch.
    "unknown_batch" "batch {batch} was never issued"
    UnknownBatch { batch: BatchId };
    /// The batch is not where this step starts.
    "batch_status" "batch {batch} is {found}, it cannot become {to}"
    BatchStatus { batch: BatchId, found: BatchStatus, to: BatchStatus };

    /// A code of the batch is named that it does not have.
    "revoked_leaf" "batch {batch} has {count} codes, leaf {found} is none of them"
    RevokedLeaf { batch: BatchId, count: u64, found: u64 };

    /// The anchor is not longer than the last.
    "anchor_size" "log {log_id} has {found} leaves, the last anchor has {last}"
    AnchorSize { log_id: u16, last: u64, found: u64 };
    /// The proof does not show that the log only grew.
    "anchor_proof" "log {log_id}: consistency proof from size {last} to {found} is wrong"
    AnchorProof { log_id: u16, last: u64, found: u64 };

    /// The terms contradict themselves or the rules.
    "terms" "{what} is {found}, expected {expected}"
    Terms { what: &'static str, found: u64, expected: &'static str };
    /// An overlap of several parties, or the agreement on one, is not as it has to be.
    "overlap" "overlap_n: {reason}"
    Overlap { reason: &'static str };
    /// Another side than the agreed one asks for sums: the side that asks has the labels.
    "label_side" "member {expected} has the labels and asks, {found} has the values and answers"
    LabelSide { expected: MemberId, found: MemberId };
    /// The suite may not compute this under the rules in force.
    "suite" "suite {suite} may not compute {computation}"
    Suite { computation: Computation, suite: Suite };
    /// Exact answers exist in test networks only.
    "noise" "{computation} without noise is allowed in test networks only"
    Noise { computation: Computation };
    /// The member is not a party.
    "not_a_party" "member {member} is not a party of the agreement"
    NotAParty { member: MemberId };
    /// No such agreement.
    "unknown_agreement" "agreement {agreement} was never proposed"
    UnknownAgreement { agreement: AgreementId };
    /// The agreement is not in force, or not waiting.
    "agreement_status" "agreement {agreement} is {found}, expected {expected}"
    AgreementStatus { agreement: AgreementId, found: AgreementStatus, expected: AgreementStatus };
    /// The agreement has ended.
    "agreement_expired" "agreement {agreement} ended at {expires_ms} ms, block time is {block_time_ms} ms"
    AgreementExpired { agreement: AgreementId, expires_ms: u64, block_time_ms: u64 };
    /// The party has accepted.
    "already_accepted" "member {member} has accepted the agreement"
    AlreadyAccepted { member: MemberId };

    /// Not this epoch.
    "epoch" "audience is for epoch {found}, block time is in epoch {expected}"
    Epoch { expected: u64, found: u64 };
    /// One root for each owner, audience and epoch.
    "audience_committed" "the audience has a root for epoch {epoch}"
    AudienceCommitted { epoch: u64 };
    /// No commitment stands under this owner, epoch and label.
    "unknown_audience" "member {owner} committed no such audience for epoch {epoch}"
    UnknownAudience { owner: MemberId, epoch: u64 };
    /// Another root or size than committed.
    "audience_mismatch" "{what} of the audience of member {owner} is not the committed one"
    AudienceMismatch { owner: MemberId, what: &'static str };
    /// Other IDs than agreed.
    "profile" "audience of member {owner} has IDs {found}, the agreement says {expected}"
    Profile { owner: MemberId, expected: Profile, found: Profile };
    /// A set that is certainly too small or too large.
    "set_size" "audience of member {owner} has at most 2^{bucket} people, the agreement allows {min} to {max}"
    SetSize { owner: MemberId, bucket: u8, min: u64, max: u64 };
    /// Not in the agreement.
    "computation" "the agreement does not list {computation}"
    Computation { computation: Computation };
    /// A match needs two members, and their signatures in order.
    "match_signers" "a match of these members is signed by {expected}"
    MatchSigners { expected: &'static str };
    /// A session is used once.
    "session_used" "session {session} was used"
    SessionUsed { session: SessionId };
    /// No such match.
    "unknown_match" "match {session} was never opened"
    UnknownMatch { session: SessionId };
    /// The match is not where this step starts.
    "match_status" "match {session} is {found}, expected {expected}"
    MatchStatus { session: SessionId, found: MatchStatus, expected: &'static str };
    /// Too many audiences of one owner in one epoch.
    "audience_limit" "member {owner} has used {max} audiences in epoch {epoch}, the agreement allows no more"
    AudienceLimit { owner: MemberId, epoch: u64, max: u32 };
    /// Too many matches.
    "match_limit" "the agreement's {max} matches are used"
    MatchLimit { max: u32 };
    /// The budget does not suffice.
    "budget" "{scope} budget of member {owner}: {needed} needed, {left} left"
    Budget { scope: &'static str, owner: MemberId, needed: BudgetCap, left: BudgetCap };
    /// The receipt says something else than the ledger.
    "receipt" "{what} in the receipt is not what the ledger holds"
    Receipt { what: &'static str };
    /// A stream digest of zeros.
    "stream_digest" "a stream digest of zeros is not a digest"
    StreamDigest;

    /// No such proposal.
    "unknown_change" "change {change} was never proposed"
    UnknownChange { change: ChangeId };
    /// Votes on it are no longer taken.
    "change_status" "change {change} is {found}, votes are taken while it is open"
    ChangeStatus { change: ChangeId, found: ChangeStatus };
    /// Its time for votes is over.
    "change_expired" "votes on change {change} were taken until {expires_ms} ms, block time is {block_time_ms} ms"
    ChangeExpired { change: ChangeId, expires_ms: u64, block_time_ms: u64 };
    /// One vote a member.
    "already_voted" "member {member} has voted"
    AlreadyVoted { member: MemberId };
    /// So many have passed that no more can wait.
    "schedule_full" "{max} changes wait for their height, no more can"
    ScheduleFull { max: usize };
    /// Nobody could decide the next block.
    "no_validator" "the change would leave no validator with any power"
    NoValidator;
    /// A member without an administrator can do nothing any more.
    "last_admin_key" "member {member} would have no administrator's key left; rotate the key, or remove the member"
    LastAdminKey { member: MemberId };
    /// A member without a node is removed instead.
    "last_node" "member {member} would have no node left; remove the member instead"
    LastNode { member: MemberId };
    /// Keys are in force once, for one use, ever.
    "key_taken" "key {key} is in force or was once; make a new one"
    KeyTaken { key: PublicKey };
    /// Names are given once, ever.
    "name_taken" "a member is or was named {name}"
    NameTaken { name: String };
    /// The key to be changed, or the node named by it, is not there.
    "key_not_in_force" "member {member} has no {purpose} key {key} in force"
    KeyNotInForce { member: MemberId, purpose: KeyPurpose, key: PublicKey };
    /// An entry that a genesis would not take either.
    "entry" "entry: {message}"
    Entry { message: String };
    /// The card is not signed by an administrator that it names.
    "card" "the card of {name} is not signed by an administrator that it names"
    Card { name: String };
    /// It is so already.
    "no_change" "the change of {what} changes nothing"
    NoChange { what: &'static str };
    /// Rules go forward one version at a time.
    "rules_version" "rules version {found}, expected {expected}"
    RulesVersion { expected: u32, found: u32 };
}

impl Refusal {
    /// The code and message, as they travel.
    #[must_use]
    pub fn notice(&self) -> RefusalNotice {
        RefusalNotice {
            code: self.code().to_owned(),
            message: self.to_string(),
        }
    }
}

/// Longest code of a notice, in bytes.
pub const MAX_CODE: usize = 32;
/// Longest message of a notice, in bytes.
pub const MAX_MESSAGE: usize = 512;

/// A refusal on the wire: version, code, message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RefusalNotice {
    /// One of [`Refusal::CODES`], or one of a later version.
    pub code: String,
    /// The reason, for people.
    pub message: String,
}

impl Canonical for RefusalNotice {
    fn write(&self, w: &mut Writer) {
        w.u8(1)
            .text(clip(&self.code, MAX_CODE))
            .text(clip(&self.message, MAX_MESSAGE));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("refusal version", 1)?;
        Ok(Self {
            code: r.text("refusal code", MAX_CODE)?,
            message: r.text("refusal message", MAX_MESSAGE)?,
        })
    }
}

/// The longest start of `text` that has at most `max` bytes.
fn clip(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// What carrying out a record can end in, besides its effects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The record is refused, and would be by every node.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node cannot read its state: nothing is known about the record.
    #[error(transparent)]
    State(#[from] StateError),
}
