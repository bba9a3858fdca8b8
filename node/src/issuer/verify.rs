//! Verifying codes and opening units.

use std::sync::atomic::{AtomicU64, Ordering};

use tally_codes::batch::{UnitOpening, verify_unit_opening};
use tally_codes::claim::ClaimOutcome;
use tally_codes::verdict::{self, AlarmReason, Standing, Verdict, check};
use tally_codes::{CheckResult, Serial};
use tally_contracts::ids::BatchId;
use tally_contracts::records::{ExpiryDate, Gtin, Territory};
use tally_contracts::state::{self, BatchStatus};
use tally_ledger::Ledger;
use tally_merkle::Hash;

use super::meta::damaged;
use super::store::{Loaded, Loadout, TREES_FILE};
use super::trees::TreeFile;
use super::{BatchMeta, IssuerError, IssuerStore};
use crate::files::FileError;
use crate::scans::{ClaimCheck, Issuer, ScannedCode, UnitFinding, UnitRef};

/// A batch as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchoredBatch {
    /// Index of the first unit.
    pub first_index: u64,
    /// Units.
    pub count: u64,
    /// Where it is in its life.
    pub status: BatchStatus,
    /// Root of the tree of unit codes.
    pub unit_root: Hash,
    /// Root of the tree of nullifiers.
    pub redemption_root: Hash,
    /// The last day on which its units are good, if there is one.
    pub expires: Option<ExpiryDate>,
}

/// The batches in the ledger's state.
pub trait AnchoredBatches: Send + Sync {
    /// The batch of an ID; `None` if it is not anchored.
    ///
    /// # Errors
    /// Why the ledger cannot be asked now.
    fn batch(&self, id: &BatchId) -> Result<Option<AnchoredBatch>, String>;

    /// Whether the code whose leaf has this place in the batch's unit tree is void.
    ///
    /// # Errors
    /// Why the ledger cannot be asked now.
    fn is_revoked(&self, id: &BatchId, leaf: u64) -> Result<bool, String>;

    /// Where the batch is meant to be sold; `None` if its owner does not say.
    ///
    /// # Errors
    /// Why the ledger cannot be asked now.
    fn territory(&self, id: &BatchId) -> Result<Option<Territory>, String>;
}

impl AnchoredBatches for Ledger {
    fn batch(&self, id: &BatchId) -> Result<Option<AnchoredBatch>, String> {
        let batch = state::batch(self.state(), id).map_err(|e| e.to_string())?;
        Ok(batch.map(|b| AnchoredBatch {
            first_index: b.first_index,
            count: b.count,
            status: b.status,
            unit_root: b.unit_root,
            redemption_root: b.redemption_root,
            expires: b.expires,
        }))
    }

    fn is_revoked(&self, id: &BatchId, leaf: u64) -> Result<bool, String> {
        state::is_revoked(self.state(), id, leaf).map_err(|e| e.to_string())
    }

    fn territory(&self, id: &BatchId) -> Result<Option<Territory>, String> {
        let said = state::territory(self.state(), id).map_err(|e| e.to_string())?;
        Ok(said.map(|t| t.territory))
    }
}

/// A ledger without batches, for who asks it nothing.
pub(crate) struct NoneAnchored;

impl AnchoredBatches for NoneAnchored {
    fn batch(&self, _: &BatchId) -> Result<Option<AnchoredBatch>, String> {
        Ok(None)
    }

    fn is_revoked(&self, _: &BatchId, _: u64) -> Result<bool, String> {
        Ok(false)
    }

    fn territory(&self, _: &BatchId) -> Result<Option<Territory>, String> {
        Ok(None)
    }
}

/// What is known of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It is a unit of an anchored batch.
    Issued {
        /// The batch.
        batch: BatchId,
        /// Index of the unit within the issuer.
        index: u64,
        /// Where the batch is in its life.
        status: BatchStatus,
        /// Whether this one unit is withdrawn.
        void: bool,
        /// The last day on which it is good, if there is one.
        expires: Option<ExpiryDate>,
    },
    /// It is not.
    Unknown,
    /// The ledger cannot be asked now.
    Unavailable,
}

/// What is known of a code and of the claim code that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOutcome {
    /// The unit code.
    pub finding: Finding,
    /// The claim code; absent if the unit is not issued.
    pub claim: ClaimOutcome,
}

/// Shows that a unit is in an anchored batch, to be put beside a proof of the batch's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProof {
    /// The batch.
    pub batch: BatchId,
    /// Units of the batch.
    pub count: u64,
    /// The anchored root.
    pub unit_root: Hash,
    /// Opens the unit's leaf under it.
    pub opening: UnitOpening,
}

/// How often what was found, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Codes verified.
    pub checks: u64,
    /// Of these: no key of ours made them. Many in a short time are guesses.
    pub tag_failures: u64,
    /// Of these: a key of ours made them, outside their batch. Somebody inside prints codes.
    pub alarms_outside_batch: u64,
    /// Of these: of a batch that is not anchored. Printed too early, or never announced.
    pub alarms_not_anchored: u64,
    /// Claim codes that were not those of their unit.
    pub wrong_claims: u64,
}

impl Counters {
    /// What the operator should know of them and do.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.alarms_outside_batch > 0 {
            out.push(format!(
                "alarm: {} scans of codes that this member's keys made outside every anchored batch. Somebody who holds the keys \
                 prints codes; the log names batch and index. Find out who can read this node's `codes` folder, and begin a new \
                 epoch: `tally codes new-epoch`",
                self.alarms_outside_batch
            ));
        }
        if self.alarms_not_anchored > 0 {
            out.push(format!(
                "alarm: {} scans of codes of a batch that is not in the ledger: labels left the printer too early, or a batch was \
                 never announced",
                self.alarms_not_anchored
            ));
        }
        out
    }
}

#[derive(Default)]
pub(super) struct Tally {
    checks: AtomicU64,
    tag_failures: AtomicU64,
    alarms_outside_batch: AtomicU64,
    alarms_not_anchored: AtomicU64,
    wrong_claims: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl IssuerStore {
    /// Verifies a code as it was read, and the claim code as it was typed. A right code outside the anchored batches is unknown to the asker,
    /// is counted as an alarm and logged. Microseconds; one look into the ledger for a code that a key of ours made.
    #[must_use]
    pub fn verify(&self, gtin: &Gtin, serial: &str, claim: Option<&str>) -> VerifyOutcome {
        count(&self.tally.checks);
        let loadout = self.loadout();
        let unknown = VerifyOutcome {
            finding: Finding::Unknown,
            claim: ClaimOutcome::Absent,
        };
        let found = self
            .find(&loadout, gtin, serial)
            .and_then(|found| match found {
                Some((batch, index, anchored)) => {
                    let void = self.is_void(batch, index)?;
                    Ok(Some((batch, index, anchored, void)))
                }
                None => Ok(None),
            });
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                tracing::warn!(error = %e, "a code cannot be verified now");
                return VerifyOutcome {
                    finding: Finding::Unavailable,
                    ..unknown
                };
            }
        };
        let Some((batch, index, anchored, void)) = found else {
            return unknown;
        };
        // Most scans come without a claim code; then nothing has to be derived.
        let derived = claim.map(|typed| {
            let unit = batch.deriver(&loadout.issuer)?.unit(index)?;
            Ok::<_, tally_codes::Error>(ClaimOutcome::of(Some(typed), &unit.claim))
        });
        let claim = match derived.transpose() {
            Ok(claim) => claim.unwrap_or(ClaimOutcome::Absent),
            Err(e) => {
                tracing::error!(error = %e, batch = %batch.meta.id, "a unit of a batch cannot be derived");
                return VerifyOutcome {
                    finding: Finding::Unavailable,
                    ..unknown
                };
            }
        };
        if claim == ClaimOutcome::Wrong {
            count(&self.tally.wrong_claims);
        }
        VerifyOutcome {
            finding: Finding::Issued {
                batch: batch.meta.id,
                index,
                status: anchored.status,
                void,
                expires: anchored.expires,
            },
            claim,
        }
    }

    /// Opens the leaf of a unit in its batch's tree, checked against the anchored root. About a millisecond.
    ///
    /// # Errors
    /// [`IssuerError::NotIssued`], [`IssuerError::Unavailable`], [`IssuerError::Damaged`] if the stored tree does not lead to the root.
    pub fn proof(&self, gtin: &Gtin, serial: &str) -> Result<UnitProof, IssuerError> {
        let loadout = self.loadout();
        let (batch, index, _) = self
            .find(&loadout, gtin, serial)?
            .ok_or(IssuerError::NotIssued)?;
        let (meta, path) = (&batch.meta, batch.dir.join(TREES_FILE));
        let trees = TreeFile::open(&path, meta.count).map_err(FileError::new("open", &path))?;
        let opening = batch
            .deriver(&loadout.issuer)?
            .unit_opening(index, |level, position| {
                trees
                    .unit_node(level, position)
                    .map_err(|e| IssuerError::from(FileError::new("read", &path)(e)))
            })?;
        verify_unit_opening(&meta.unit_root, meta.count, &opening)
            .map_err(|_| damaged(&path, "a stored node does not lead to the anchored root"))?;
        Ok(UnitProof {
            batch: meta.id,
            count: meta.count,
            unit_root: meta.unit_root,
            opening,
        })
    }

    /// How often what was found.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Counters {
            checks: get(&self.tally.checks),
            tag_failures: get(&self.tally.tag_failures),
            alarms_outside_batch: get(&self.tally.alarms_outside_batch),
            alarms_not_anchored: get(&self.tally.alarms_not_anchored),
            wrong_claims: get(&self.tally.wrong_claims),
        }
    }

    /// The unit of a code, if it is in an anchored batch.
    fn find<'a>(
        &self,
        loadout: &'a Loadout,
        gtin: &Gtin,
        serial: &str,
    ) -> Result<Option<(&'a Loaded, u64, AnchoredBatch)>, IssuerError> {
        let gtin = tally_codes::gs1::Gtin::from_bytes(gtin.as_bytes())?;
        let Ok(serial) = serial.parse::<Serial>() else {
            count(&self.tally.tag_failures);
            return Ok(None);
        };
        let table = loadout.batches.iter().map(|b| &b.checker);
        let mut anchored = None;
        let found = check(&loadout.issuer, &table, &gtin, serial, |row| {
            anchored = loadout
                .batches
                .get(row)
                .map(|b| self.anchored(&b.meta))
                .transpose()?
                .flatten();
            Ok::<_, IssuerError>(anchored.as_ref().map(|a| status_in_codes(a.status)))
        })?;
        match found {
            CheckResult::Valid { row, index, .. } => Ok(loadout
                .batches
                .get(row)
                .zip(anchored)
                .map(|(b, anchored)| (&**b, index, anchored))),
            CheckResult::Unknown => {
                count(&self.tally.tag_failures);
                Ok(None)
            }
            CheckResult::OutsideAnchoredRange(alarm) => {
                count(match alarm.reason {
                    AlarmReason::OutsideBatch => &self.tally.alarms_outside_batch,
                    AlarmReason::NotAnchored => &self.tally.alarms_not_anchored,
                });
                let batch = loadout
                    .batches
                    .get(alarm.row)
                    .map(|b| b.meta.id.to_string());
                tracing::warn!(
                    reason = alarm.reason.name(),
                    batch,
                    index = alarm.index,
                    "a code was made with our keys outside the anchored batches"
                );
                Ok(None)
            }
        }
    }

    /// Whether one unit of a batch is withdrawn.
    pub(super) fn is_void(&self, batch: &Loaded, index: u64) -> Result<bool, IssuerError> {
        let leaf = batch.checker.leaf_index(index)?;
        self.ledger
            .is_revoked(&batch.meta.id, leaf)
            .map_err(|reason| IssuerError::Unavailable { reason })
    }

    /// A batch as the ledger has it, if it has it as it was made here.
    pub(super) fn anchored(&self, meta: &BatchMeta) -> Result<Option<AnchoredBatch>, IssuerError> {
        let anchored = self
            .ledger
            .batch(&meta.id)
            .map_err(|reason| IssuerError::Unavailable { reason })?;
        Ok(anchored.filter(|a| meta.is(a)))
    }
}

const fn status_in_codes(status: BatchStatus) -> verdict::BatchStatus {
    match status {
        BatchStatus::Issued => verdict::BatchStatus::Issued,
        BatchStatus::Active => verdict::BatchStatus::Active,
        BatchStatus::Recalled => verdict::BatchStatus::Recalled,
    }
}

impl Issuer for IssuerStore {
    fn territory(&self, batch: &BatchId) -> Option<Territory> {
        self.ledger.territory(batch).unwrap_or_else(|reason| {
            // Scans are taken all the same: then they are neither inside nor outside.
            tracing::warn!(reason, %batch, "the territory of a batch cannot be read");
            None
        })
    }

    fn expires(&self, batch: &BatchId) -> Option<ExpiryDate> {
        self.ledger
            .batch(batch)
            .unwrap_or_else(|reason| {
                tracing::warn!(reason, %batch, "the expiry date of a batch cannot be read");
                None
            })
            .and_then(|b| b.expires)
    }

    fn verify(
        &self,
        code: &ScannedCode,
        claim: Option<&str>,
        now_ms: u64,
    ) -> (UnitFinding, ClaimCheck) {
        let outcome = Self::verify(self, code.gtin(), code.serial(), claim);
        let finding = match outcome.finding {
            Finding::Issued {
                batch,
                index,
                status,
                void,
                expires,
            } => {
                let unit = UnitRef { batch, index };
                let standing = Standing {
                    status: status_in_codes(status),
                    void,
                    expired: expires.is_some_and(|date| date.is_over(now_ms)),
                };
                match Verdict::of_standing(standing) {
                    None => UnitFinding::Released(unit),
                    Some(Verdict::Recalled) => UnitFinding::Recalled(unit),
                    Some(Verdict::Revoked) => UnitFinding::Revoked(unit),
                    Some(Verdict::NotReleased) => UnitFinding::NotReleased(unit),
                    Some(Verdict::Expired) => UnitFinding::Expired(unit),
                    Some(other) => {
                        tracing::error!(verdict = %other, "a unit stands in no known way");
                        UnitFinding::Unavailable
                    }
                }
            }
            Finding::Unknown => UnitFinding::Unknown,
            Finding::Unavailable => UnitFinding::Unavailable,
        };
        let claim = match outcome.claim {
            // A typing error is no guess: it is as if nothing had come.
            ClaimOutcome::Absent | ClaimOutcome::Mistyped => ClaimCheck::Absent,
            ClaimOutcome::Right => ClaimCheck::Right,
            ClaimOutcome::Wrong => ClaimCheck::Wrong,
        };
        (finding, claim)
    }
}
