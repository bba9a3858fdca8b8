//! What is said of a scanned code.

use std::fmt;

use crate::Error;
use crate::batch::BatchSpec;
use crate::ff1::Permutation;
use crate::gs1::Gtin;
use crate::keys::{BatchKeys, IssuerKeys, KeyEpoch, MAX_EPOCHS};
use crate::order::{LeafOrder, Tree};
use crate::unit::{Serial, TagMac, decipher};

/// What a person who scans a code is told. None accuses that person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Issued, released, and never scanned before.
    GenuineFirst,
    /// Issued, released, and scanned before.
    GenuineRepeat,
    /// Issued, and its batch is not released for sale.
    NotReleased,
    /// Issued, and its batch is recalled.
    Recalled,
    /// Not a code that was issued.
    Unknown,
    /// The issuer could not be asked; it will be asked again.
    CannotVerifyNow,
    /// Issued, and this unit is withdrawn: a wasted label, a lost pack.
    Revoked,
    /// Issued, released, and its last day is over.
    Expired,
    /// Issued, and its scans fit a copied code better than an honest one.
    Suspect,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::GenuineFirst,
        Self::GenuineRepeat,
        Self::NotReleased,
        Self::Recalled,
        Self::Unknown,
        Self::CannotVerifyNow,
        Self::Revoked,
        Self::Expired,
        Self::Suspect,
    ];

    /// Its word in the API, stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GenuineFirst => "genuine_first",
            Self::GenuineRepeat => "genuine_repeat",
            Self::NotReleased => "not_released",
            Self::Recalled => "recalled",
            Self::Unknown => "unknown",
            Self::CannotVerifyNow => "cannot_verify_now",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Suspect => "suspect",
        }
    }

    /// Why an issued unit is not good, whoever scanned it before; `None` if it is. A recall is told before all else, since it may be about
    /// somebody's health; then that the unit is void; then that its batch was never released; then that its last day is over.
    #[must_use]
    pub const fn of_standing(standing: Standing) -> Option<Self> {
        match standing {
            Standing {
                status: BatchStatus::Recalled,
                ..
            } => Some(Self::Recalled),
            Standing { void: true, .. } => Some(Self::Revoked),
            Standing {
                status: BatchStatus::Issued,
                ..
            } => Some(Self::NotReleased),
            Standing { expired: true, .. } => Some(Self::Expired),
            Standing {
                status: BatchStatus::Active,
                ..
            } => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an issued unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Where its batch is in its life.
    pub status: BatchStatus,
    /// Whether this one unit is withdrawn.
    pub void: bool,
    /// Whether its last day is over.
    pub expired: bool,
}

/// Where an anchored batch is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchStatus {
    /// Codes exist, goods are not released.
    Issued,
    /// Released.
    Active,
    /// Recalled, for ever.
    Recalled,
}

/// What is needed of a batch to check its codes. Secret: no text form.
pub struct BatchChecker {
    spec: BatchSpec,
    epoch: KeyEpoch,
    tag: TagMac,
    order: LeafOrder,
}

impl BatchChecker {
    /// For the batch `spec` whose codes were made with `keys` in `epoch`.
    #[must_use]
    pub fn new(issuer: &IssuerKeys, epoch: KeyEpoch, keys: &BatchKeys, spec: BatchSpec) -> Self {
        Self {
            spec,
            epoch,
            tag: TagMac::new(&keys.tag, issuer.issuer()),
            order: LeafOrder::new(&keys.order, Tree::Unit, spec.count()),
        }
    }

    /// The batch.
    #[must_use]
    pub const fn spec(&self) -> &BatchSpec {
        &self.spec
    }

    /// The place of a unit's leaf in the batch's unit tree. It is in every proof of the unit, and says nothing of its index.
    ///
    /// # Errors
    /// [`Error::Range`] if the batch has no such index.
    pub fn leaf_index(&self, index: u64) -> Result<u64, Error> {
        Ok(self.order.leaf(self.spec.offset(index)?))
    }
}

/// What a check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckResult {
    /// Issued: in an anchored batch, with the right tag.
    Valid {
        /// Row of the batch in the table.
        row: usize,
        /// Index of the unit within its issuer.
        index: u64,
        /// Where the batch is in its life.
        status: BatchStatus,
    },
    /// No key of this issuer made it.
    Unknown,
    /// A key of this issuer made it, but no anchored batch holds it. Unknown to the asker; an alarm to the issuer.
    OutsideAnchoredRange(Alarm),
}

/// Somebody with the issuer's keys made a code that was never issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Row of the batch whose key made it.
    pub row: usize,
    /// The index in the code.
    pub index: u64,
    /// How it is outside.
    pub reason: AlarmReason,
}

/// How a code with a right tag is outside the anchored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmReason {
    /// Its batch is made here but not anchored: printed too early, or never announced.
    NotAnchored,
    /// The index, the product or the epoch is not that of the batch whose key made it.
    OutsideBatch,
}

impl AlarmReason {
    /// Its word in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAnchored => "not_anchored",
            Self::OutsideBatch => "outside_batch",
        }
    }
}

/// Checks a code against the issuer's live epochs and `table`, which should hold every batch of the issuer, anchored or not: only
/// the keys in it raise alarms. `anchored` says where the batch of a row is in its life, `None` if the ledger does not have it, or
/// not as it was made here; it is asked once or twice, for batches whose key made the code. Tags are compared in constant time.
///
/// # Errors
/// What `anchored` returns, and [`Error::Internal`].
pub fn check<'a, E: From<Error>>(
    issuer: &IssuerKeys,
    table: &(impl Iterator<Item = &'a BatchChecker> + Clone),
    gtin: &Gtin,
    serial: Serial,
    mut anchored: impl FnMut(usize) -> Result<Option<BatchStatus>, E>,
) -> Result<CheckResult, E> {
    let mut plain = Vec::with_capacity(MAX_EPOCHS);
    for epoch in issuer.live() {
        let permutation = Permutation::new(issuer.permutation_key(epoch)?, gtin.as_bytes());
        plain.push((epoch, decipher(&permutation, serial)));
    }
    let mut alarm = None;
    for (epoch, unit) in &plain {
        for (row, batch) in table.clone().enumerate() {
            let home = batch.epoch == *epoch
                && batch.spec.gtin() == gtin
                && batch.spec.contains(unit.index);
            if !home || !batch.tag.is_right(gtin, *unit) {
                continue;
            }
            let index = unit.index;
            match anchored(row)? {
                Some(status) => return Ok(CheckResult::Valid { row, index, status }),
                None => {
                    alarm = Some(Alarm {
                        row,
                        index,
                        reason: AlarmReason::NotAnchored,
                    });
                }
            }
        }
    }
    // Every key of the issuer is tried, so that a code made with one outside its own batch is noticed.
    for (_, unit) in &plain {
        if alarm.is_some() {
            break;
        }
        alarm = table
            .clone()
            .position(|batch| batch.tag.is_right(gtin, *unit))
            .map(|row| Alarm {
                row,
                index: unit.index,
                reason: AlarmReason::OutsideBatch,
            });
    }
    Ok(alarm.map_or(CheckResult::Unknown, CheckResult::OutsideAnchoredRange))
}
