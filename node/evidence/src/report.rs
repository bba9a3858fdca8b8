//! What a proof proves, as values.

use tally_codes::gs1::Gtin;
use tally_contracts::NetworkKind;
use tally_contracts::ids::{BatchId, KeyId, MemberId, NetworkId, RecordId, SessionId};
use tally_contracts::records::{Body, Close, ExpiryDate, Lot, OverlapClose};
use tally_contracts::state::{AgreementState, BatchStatus, KeyUse, MatchState, OverlapState};
use tally_merkle::Hash;

use crate::UnitCode;
use crate::scan::ScanReceipt;
use crate::state::Statement;

/// What a proof proves, and on whose word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The network.
    pub network: NetworkId,
    /// Its name in the genesis.
    pub network_name: String,
    /// Test or live.
    pub network_kind: NetworkKind,
    /// Entries under the checkpoint.
    pub tree_size: u64,
    /// The checkpoint's root.
    pub tree_root: Hash,
    /// The member whose node signed the checkpoint as the log, by name.
    pub signed_by: Vec<String>,
    /// The validators that cosigned it.
    pub cosigners: Vec<Cosigner>,
    /// How many validators had to.
    pub needed: usize,
    /// Validators of the network.
    pub validators: usize,
    /// The members of the genesis with their names.
    pub members: Vec<(MemberId, String)>,
    /// The entry that the proof's own index and hashes are of: the record as it was signed, or for a statement on the state the
    /// last BlockInfo. For tools that know C2SP tlog-proof and not our extra.
    pub entry: Vec<u8>,
    /// What is proven.
    pub proven: Proven,
}

impl Report {
    /// The name of a member of the genesis.
    #[must_use]
    pub fn name(&self, id: &MemberId) -> Option<String> {
        let found = self.members.iter().find(|(member, _)| member == id);
        found.map(|(_, name)| name.clone())
    }
}

/// A validator that cosigned the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigner {
    /// Its name in the policy: that of its member.
    pub name: String,
    /// When, by its own clock, in POSIX seconds.
    pub time_s: u64,
}

/// What is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// One code, released and not recalled.
    Code(Box<CodeReport>),
    /// One record.
    Record(Box<RecordReport>),
    /// One scan.
    Scan(Box<ScanReport>),
    /// A statement on the state.
    State(Box<StateReport>),
    /// How a match ended.
    Match(Box<MatchReport>),
    /// How an overlap ended.
    Overlap(Box<OverlapReport>),
}

/// What is proven of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeReport {
    /// The code.
    pub code: UnitCode,
    /// What the product is, as its owner registered it.
    pub description: String,
    /// The brand on it, as its owner registered it.
    pub brand: String,
    /// The lot.
    pub lot: Lot,
    /// The last day on which the units of the batch are good.
    pub expires: Option<ExpiryDate>,
    /// The batch.
    pub batch: BatchId,
    /// Units in the batch.
    pub units: u64,
    /// The member that issued it.
    pub issuer: MemberId,
    /// The issuer's name in the genesis.
    pub issuer_name: String,
    /// The record that issued the batch.
    pub record: RecordId,
    /// Its index among the ledger's entries.
    pub index: u64,
    /// Height of the block that it is in.
    pub issued_height: u64,
    /// Time of that block, POSIX milliseconds.
    pub issued_ms: u64,
    /// Where the batch is in its life, as of the time and height below.
    pub status: BatchStatus,
    /// Time of the block in which the status last changed, POSIX milliseconds.
    pub status_since_ms: u64,
    /// Why it was recalled; empty otherwise.
    pub recall_reason: String,
    /// Whether this one code is void.
    pub revoked: bool,
    /// Height of the last block under the checkpoint: nothing is known of later ones.
    pub as_of_height: u64,
    /// Time of that block, POSIX milliseconds.
    pub as_of_ms: u64,
}

impl CodeReport {
    /// Whether its last day was over everywhere at the time that this is of.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|date| date.is_over(self.as_of_ms))
    }

    /// The product's number.
    #[must_use]
    pub const fn gtin(&self) -> &Gtin {
        &self.code.gtin
    }
}

/// What is proven of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordReport {
    /// Its ID.
    pub record: RecordId,
    /// What it says.
    pub body: Body,
    /// Who signed it.
    pub signatories: Vec<Signatory>,
    /// Its index among the ledger's entries.
    pub index: u64,
    /// Height of the block that it is in.
    pub height: u64,
    /// Time of that block, POSIX milliseconds.
    pub time_ms: u64,
}

/// A signer of a record, whose signature was verified under a key of the genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatory {
    /// The member.
    pub member: MemberId,
    /// Its name in the genesis.
    pub name: String,
    /// The key.
    pub key: KeyId,
    /// What the key may sign.
    pub key_use: KeyUse,
}

/// What is proven of a scan: what the node that took it said and signed at the time, and since when it cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanReport {
    /// What was said and signed. Its time is that of the node's clock.
    pub receipt: ScanReceipt,
    /// The code, if it was named and is the one that was scanned; a proof has only its hash.
    pub code: Option<UnitCode>,
    /// The member that took the scan, by its name in the genesis.
    pub member_name: String,
    /// The records key that signed the receipt.
    pub key: KeyId,
    /// Leaves in the log that was anchored.
    pub anchored_size: u64,
    /// The record that anchored it. The scan existed before its block.
    pub anchored: RecordReport,
}

/// What is proven of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReport {
    /// What the state says.
    pub statement: Statement,
    /// Height of the last block under the checkpoint: nothing is known of later ones.
    pub as_of_height: u64,
    /// Time of that block, POSIX milliseconds.
    pub as_of_ms: u64,
}

/// What is proven of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchReport {
    /// The match.
    pub session: SessionId,
    /// The side that asked, by its name in the genesis.
    pub initiator_name: String,
    /// The other side.
    pub responder_name: String,
    /// How it ended, with the receipt that both signed if it is done.
    pub close: Close,
    /// The match in the state.
    pub matched: MatchState,
    /// The agreement in the state.
    pub agreement: AgreementState,
    /// The record that closed it.
    pub closed: RecordReport,
    /// Height of the last block under the checkpoint.
    pub as_of_height: u64,
    /// Time of that block, POSIX milliseconds.
    pub as_of_ms: u64,
}

/// What is proven of an overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlapReport {
    /// The overlap.
    pub session: SessionId,
    /// The parties by their names in the genesis, in the order of the agreement.
    pub party_names: Vec<String>,
    /// The helper, likewise.
    pub helper_name: String,
    /// How it ended, with the receipt that the helper signed if it counted.
    pub close: OverlapClose,
    /// The overlap in the state: who has joined with what, what it costs each, who has confirmed the receipt.
    pub overlap: OverlapState,
    /// The agreement in the state.
    pub agreement: AgreementState,
    /// The record that closed it.
    pub closed: RecordReport,
    /// The confirmations of the parties that have given theirs, in the order of the agreement.
    pub confirmed: Vec<RecordReport>,
    /// Height of the last block under the checkpoint.
    pub as_of_height: u64,
    /// Time of that block, POSIX milliseconds.
    pub as_of_ms: u64,
}

impl OverlapReport {
    /// Names of the parties that have not confirmed the receipt; none where there is no receipt.
    #[must_use]
    pub fn waits_for(&self) -> Vec<&str> {
        let has_receipt = matches!(self.close, OverlapClose::Done(_));
        let parties = self.overlap.parties.iter().zip(&self.party_names);
        parties
            .filter(|(party, _)| has_receipt && !party.confirmed)
            .map(|(_, name)| name.as_str())
            .collect()
    }
}
