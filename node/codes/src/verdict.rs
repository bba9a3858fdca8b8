//! What is said of a scanned code.

use std::fmt;

use crate::Error;
use crate::batch::BatchSpec;
use crate::ff1::Permutation;
use crate::gs1::Gtin;
use crate::keys::{BatchKeys, IssuerKeys, KeyEpoch};
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
    /// Reserved: issued, and this unit is withdrawn.
    Revoked,
    /// Reserved: issued, and past its date.
    Expired,
    /// Reserved: issued, and its scans fit a copied code better than an honest one.
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

    /// The verdict on an issued unit by where its batch is in its life; `scanned_before` counts deliberate scans only.
    #[must_use]
    pub const fn of_unit(status: BatchStatus, scanned_before: bool) -> Self {
        match (status, scanned_before) {
            (BatchStatus::Issued, _) => Self::NotReleased,
            (BatchStatus::Recalled, _) => Self::Recalled,
            (BatchStatus::Active, false) => Self::GenuineFirst,
            (BatchStatus::Active, true) => Self::GenuineRepeat,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
}

impl BatchChecker {
    /// For the batch `spec` whose codes were made with `keys` in `epoch`.
    #[must_use]
    pub fn new(issuer: &IssuerKeys, epoch: KeyEpoch, keys: &BatchKeys, spec: BatchSpec) -> Self {
        Self {
            spec,
            epoch,
            tag: TagMac::new(&keys.tag, issuer.issuer()),
        }
    }

    /// The batch.
    #[must_use]
    pub const fn spec(&self) -> &BatchSpec {
        &self.spec
    }
}

/// A row of the table that codes are checked against.
#[derive(Clone, Copy)]
pub struct BatchRow<'a> {
    /// The batch.
    pub batch: &'a BatchChecker,
    /// Its status in the ledger; `None` if it is not anchored there, or not as it was made here.
    pub anchored: Option<BatchStatus>,
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
/// the keys in it raise alarms. Tags are compared in constant time. At most one tag for each epoch, and for a code that is not valid one
/// for each epoch and batch.
///
/// # Errors
/// [`Error::Internal`] alone, if a live epoch has no key.
pub fn check(
    issuer: &IssuerKeys,
    table: &[BatchRow<'_>],
    gtin: &Gtin,
    serial: Serial,
) -> Result<CheckResult, Error> {
    let mut plain = Vec::with_capacity(crate::keys::MAX_EPOCHS);
    for epoch in issuer.live() {
        let permutation = Permutation::new(issuer.permutation_key(epoch)?, gtin.as_bytes());
        plain.push((epoch, decipher(&permutation, serial)));
    }
    let right = |row: &BatchRow<'_>, unit| row.batch.tag.is_right(gtin, unit);
    let home = |row: &BatchRow<'_>, epoch, index| {
        row.batch.epoch == epoch && row.batch.spec.gtin() == gtin && row.batch.spec.contains(index)
    };
    for (epoch, unit) in &plain {
        for (at, row) in table.iter().enumerate() {
            if row.anchored.is_some() && home(row, *epoch, unit.index) && right(row, *unit) {
                return Ok(CheckResult::Valid {
                    row: at,
                    index: unit.index,
                });
            }
        }
    }
    for (epoch, unit) in &plain {
        for (at, row) in table.iter().enumerate() {
            if right(row, *unit) {
                let reason = if home(row, *epoch, unit.index) {
                    AlarmReason::NotAnchored
                } else {
                    AlarmReason::OutsideBatch
                };
                return Ok(CheckResult::OutsideAnchoredRange(Alarm {
                    row: at,
                    index: unit.index,
                    reason,
                }));
            }
        }
    }
    Ok(CheckResult::Unknown)
}
