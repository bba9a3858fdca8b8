//! What stands under the state's keys. Every value starts with its own version byte.

use tally_merkle::Hash;

use crate::codec::{Canonical, CodecError, Reader, Writer};
use crate::genesis::{MAX_NETWORK_NAME, NetworkKind};
use crate::ids::{AgreementId, MemberId, NetworkId, PublicKey, RecordId};
use crate::records::{
    AudienceRef, BudgetCap, Computation, ExpiryDate, Gtin, Lot, MAX_DESCRIPTION, MAX_PARTIES,
    MAX_REASON, Noise, Profile, ProposeAgreement, RevokedLeaves, Territory,
};
use crate::records::{read_count_charge, read_expiry, write_expiry};

pub(super) const VERSION: u8 = 1;
pub(super) const WHAT: &str = "state value version";

// Used by the values of governance too.
macro_rules! byte_enum {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// The number in the state.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Canonical for $name {
            fn write(&self, w: &mut Writer) {
                w.u8(self.code());
            }

            fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
                match r.u8($what)? {
                    $($code => Ok(Self::$variant),)+
                    found => Err(CodecError::Invalid { what: $what, found: found.into() }),
                }
            }
        }
    };
}

pub(super) use byte_enum;

byte_enum! {
    /// What a signing key may sign.
    KeyUse, "key use" {
        /// Everyday records, by a node.
        Records = 1 "records",
        /// Agreements and governance, by an administrator.
        Admin = 2 "admin",
    }
}

byte_enum! {
    /// Where a batch is in its life.
    BatchStatus, "batch status" {
        /// Codes exist, goods are not released.
        Issued = 1 "issued",
        /// Released.
        Active = 2 "active",
        /// Recalled, for ever.
        Recalled = 3 "recalled",
    }
}

byte_enum! {
    /// Where an agreement is in its life. Expiry is told by the time, not by this.
    AgreementStatus, "agreement status" {
        /// Some party, or the helper, has not accepted.
        Proposed = 1 "proposed",
        /// All have.
        Active = 2 "active",
        /// A party has ended it, for ever.
        Revoked = 3 "revoked",
    }
}

byte_enum! {
    /// Where a match is in its life.
    MatchStatus, "match status" {
        /// Budget is reserved.
        Open = 1 "open",
        /// Budget is spent.
        Released = 2 "released",
        /// All signed the receipt.
        Done = 3 "done",
        /// It broke.
        Failed = 4 "failed",
        /// Called off.
        Cancelled = 5 "cancelled",
    }
}

/// Under [`super::keys::network`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The network ID.
    pub network: NetworkId,
    /// Test or live.
    pub kind: NetworkKind,
    /// The network's name.
    pub name: String,
    /// When the genesis was drawn up, POSIX milliseconds.
    pub created_ms: u64,
}

impl Canonical for NetworkInfo {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(&self.network.0)
            .u8(self.kind.code())
            .text(&self.name)
            .u64(self.created_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            network: NetworkId(r.array("network")?),
            kind: NetworkKind::read(r)?,
            name: r.text("network name", MAX_NETWORK_NAME)?,
            created_ms: r.u64("time of creation")?,
        })
    }
}

/// Under [`super::keys::signing_key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The key.
    pub key: PublicKey,
    /// What it may sign.
    pub key_use: KeyUse,
    /// The nonce that its next record must have.
    pub next_nonce: u64,
}

impl Canonical for KeyState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.key.0);
        self.key_use.write(w);
        w.u64(self.next_nonce);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            key: PublicKey(r.array("public key")?),
            key_use: KeyUse::read(r)?,
            next_nonce: r.u64("nonce")?,
        })
    }
}

/// Under [`super::keys::product`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductState {
    /// The only member that may issue codes for it.
    pub owner: MemberId,
    /// What it is.
    pub description: String,
    /// Its brand name.
    pub brand: String,
    /// The record that registered it.
    pub record: RecordId,
}

impl Canonical for ProductState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .raw(&self.owner.0)
            .text(&self.description)
            .text(&self.brand)
            .raw(&self.record.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            owner: MemberId(r.array("owner")?),
            description: r.text("description", MAX_DESCRIPTION)?,
            brand: r.text("brand name", MAX_DESCRIPTION)?,
            record: RecordId(r.array("record ID")?),
        })
    }
}

/// Under [`super::keys::batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchState {
    /// The issuer.
    pub owner: MemberId,
    /// The product.
    pub gtin: Gtin,
    /// The lot.
    pub lot: Lot,
    /// Index of the first unit.
    pub first_index: u64,
    /// Units.
    pub count: u64,
    /// Root of the tree of unit codes.
    pub unit_root: Hash,
    /// Root of the tree of redemption nullifiers.
    pub redemption_root: Hash,
    /// When the units expire.
    pub expires: Option<ExpiryDate>,
    /// Where it is in its life.
    pub status: BatchStatus,
    /// The record that issued it.
    pub record: RecordId,
    /// Block time of its last change of status, POSIX milliseconds.
    pub changed_ms: u64,
    /// Why it was recalled; empty otherwise.
    pub recall_reason: String,
}

impl BatchState {
    /// Whether a unit's index is in the batch.
    #[must_use]
    pub const fn contains(&self, index: u64) -> bool {
        index >= self.first_index && index - self.first_index < self.count
    }
}

impl Canonical for BatchState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.owner.0);
        self.gtin.write(w);
        self.lot.write(w);
        w.u64(self.first_index)
            .u64(self.count)
            .raw(self.unit_root.as_bytes())
            .raw(self.redemption_root.as_bytes());
        write_expiry(w, self.expires.as_ref());
        self.status.write(w);
        w.raw(&self.record.0)
            .u64(self.changed_ms)
            .text(&self.recall_reason);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            owner: MemberId(r.array("owner")?),
            gtin: Gtin::read(r)?,
            lot: Lot::read(r)?,
            first_index: r.u64("first index")?,
            count: r.u64("count")?,
            unit_root: Hash(r.array("unit root")?),
            redemption_root: Hash(r.array("redemption root")?),
            expires: read_expiry(r)?,
            status: BatchStatus::read(r)?,
            record: RecordId(r.array("record ID")?),
            changed_ms: r.u64("time of change")?,
            recall_reason: r.text("reason", MAX_REASON)?,
        })
    }
}

/// Under [`super::keys::revoked`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedState {
    /// What is void of this part of the batch, at least one leaf.
    pub leaves: RevokedLeaves,
}

impl Canonical for RevokedState {
    fn write(&self, w: &mut Writer) {
        self.leaves.write(w.u8(VERSION));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            leaves: RevokedLeaves::read(r)?,
        })
    }
}

/// Under [`super::keys::territory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerritoryState {
    /// Where the batch is meant to be sold, one area at least.
    pub territory: Territory,
    /// The record that said so.
    pub record: RecordId,
    /// Block time, POSIX milliseconds.
    pub set_ms: u64,
}

impl Canonical for TerritoryState {
    fn write(&self, w: &mut Writer) {
        self.territory.write(w.u8(VERSION));
        w.raw(&self.record.0).u64(self.set_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        let territory = Territory::read(r)?;
        if territory.is_empty() {
            return Err(CodecError::Invalid {
                what: "number of areas",
                found: 0,
            });
        }
        Ok(Self {
            territory,
            record: RecordId(r.array("record ID")?),
            set_ms: r.u64("time of the territory")?,
        })
    }
}

/// Under [`super::keys::anchor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorState {
    /// Leaves in the log.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The record that anchored it.
    pub record: RecordId,
    /// Block time, POSIX milliseconds.
    pub anchored_ms: u64,
}

impl Canonical for AnchorState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION)
            .u64(self.size)
            .raw(self.root.as_bytes())
            .raw(&self.record.0)
            .u64(self.anchored_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            size: r.u64("log size")?,
            root: Hash(r.array("log root")?),
            record: RecordId(r.array("record ID")?),
            anchored_ms: r.u64("time of anchor")?,
        })
    }
}

/// Under [`super::keys::agreement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreementState {
    /// The terms.
    pub terms: ProposeAgreement,
    /// Who proposed it.
    pub proposer: MemberId,
    /// Who has agreed, the proposer among them, ascending.
    pub accepted: Vec<MemberId>,
    /// Where it is in its life.
    pub status: AgreementStatus,
    /// Matches opened so far.
    pub matches: u32,
    /// Block time of the proposal, POSIX milliseconds.
    pub proposed_ms: u64,
}

impl Canonical for AgreementState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION);
        self.terms.write(w);
        w.raw(&self.proposer.0).list(&self.accepted, |w, m| {
            w.raw(&m.0);
        });
        self.status.write(w);
        w.u32(self.matches).u64(self.proposed_ms);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            terms: ProposeAgreement::read(r)?,
            proposer: MemberId(r.array("proposer")?),
            accepted: r.list("accepted", MAX_PARTIES + 1, |r| {
                Ok(MemberId(r.array("party")?))
            })?,
            status: AgreementStatus::read(r)?,
            matches: r.u32("matches")?,
            proposed_ms: r.u64("time of proposal")?,
        })
    }
}

/// Under [`super::keys::audience`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceState {
    /// The committed root.
    pub root: Hash,
    /// The committed size bucket.
    pub size_bucket: u8,
    /// Its IDs.
    pub profile: Profile,
    /// The record that committed it.
    pub record: RecordId,
}

impl Canonical for AudienceState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(self.root.as_bytes()).u8(self.size_bucket);
        self.profile.write(w);
        w.raw(&self.record.0);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            root: Hash(r.array("audience root")?),
            size_bucket: r.u8("size bucket")?,
            profile: Profile::read(r)?,
            record: RecordId(r.array("record ID")?),
        })
    }
}

/// Under the three budget keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Gone.
    pub spent: BudgetCap,
    /// Held by open matches.
    pub reserved: BudgetCap,
}

impl Canonical for Budget {
    fn write(&self, w: &mut Writer) {
        self.spent.write(w.u8(VERSION));
        self.reserved.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        Ok(Self {
            spent: BudgetCap::read(r)?,
            reserved: BudgetCap::read(r)?,
        })
    }
}

/// Under [`super::keys::match_session`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchState {
    /// The agreement.
    pub agreement: AgreementId,
    /// What is computed.
    pub computation: Computation,
    /// The agreement's noise.
    pub noise: Noise,
    /// What it costs each owner.
    pub charge: BudgetCap,
    /// What it costs the responder besides; see [`crate::records::MatchReceipt::count_spent`].
    pub count_charge: BudgetCap,
    /// The side that asked.
    pub initiator: MemberId,
    /// The other side.
    pub responder: MemberId,
    /// What the initiator brings.
    pub initiator_audience: AudienceRef,
    /// What the responder brings.
    pub responder_audience: AudienceRef,
    /// Where it is in its life.
    pub status: MatchStatus,
    /// The record that opened it.
    pub record: RecordId,
    /// Block time of the opening, POSIX milliseconds.
    pub opened_ms: u64,
    /// Digest of the initiator's stream; zero until released.
    pub initiator_stream: Hash,
    /// Digest of the receipt; zero unless done.
    pub receipt: Hash,
}

impl MatchState {
    /// Whether the budget has been spent: released, whatever came after.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.initiator_stream != Hash([0; 32])
    }
}

impl MatchState {
    /// What it costs one of its two owners.
    #[must_use]
    pub fn charge_of(&self, owner: &MemberId) -> BudgetCap {
        let besides = if *owner == self.responder {
            self.count_charge
        } else {
            BudgetCap::default()
        };
        // What does not fit is over every cap.
        self.charge.saturating_plus(&besides)
    }
}

impl Canonical for MatchState {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).raw(&self.agreement.0);
        self.computation.write(w);
        self.noise.write(w);
        self.charge.write(w);
        if self.computation == Computation::JoinSum {
            self.count_charge.write(w);
        }
        w.raw(&self.initiator.0).raw(&self.responder.0);
        self.initiator_audience.write(w);
        self.responder_audience.write(w);
        self.status.write(w);
        w.raw(&self.record.0)
            .u64(self.opened_ms)
            .raw(self.initiator_stream.as_bytes())
            .raw(self.receipt.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version(WHAT, VERSION)?;
        let agreement = RecordId(r.array("agreement ID")?);
        let computation = Computation::read(r)?;
        Ok(Self {
            agreement,
            computation,
            noise: Noise::read(r)?,
            charge: BudgetCap::read(r)?,
            count_charge: read_count_charge(r, computation)?,
            initiator: MemberId(r.array("initiator")?),
            responder: MemberId(r.array("responder")?),
            initiator_audience: AudienceRef::read(r)?,
            responder_audience: AudienceRef::read(r)?,
            status: MatchStatus::read(r)?,
            record: RecordId(r.array("record ID")?),
            opened_ms: r.u64("time of opening")?,
            initiator_stream: Hash(r.array("stream digest")?),
            receipt: Hash(r.array("receipt digest")?),
        })
    }
}
