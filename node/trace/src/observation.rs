//! What the detector is told of one scan.

use crate::cell::Spot;

/// What became of the claim code of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// None came.
    Absent,
    /// It is that of this unit.
    Right,
    /// It is not, though its check character is right.
    Wrong,
}

/// Where the unit stood when it was scanned, by what its issuer knew then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its batch was not activated.
    BeforeRelease,
    /// Activated, but it had not left the issuer.
    BeforeShipment,
    /// On the market.
    Market,
    /// A shop or dealer scanned it as stock after its sale was recorded.
    StockAfterSale,
    /// Its batch was recalled.
    Recalled,
    /// It stands on a void list: a label written off as waste, or a unit taken back.
    Void,
}

/// Whether the scan was made where the unit was shipped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Territory {
    /// The territory or the place is not known.
    Unknown,
    /// Inside.
    Inside,
    /// Outside.
    Outside,
}

/// One scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// POSIX milliseconds.
    pub time_ms: u64,
    /// Pseudonym of who scanned: a keyed hash; the same person may have several.
    pub source: [u8; 16],
    /// Where, if it is known.
    pub spot: Option<Spot>,
    /// What became of the claim code.
    pub claim: Claim,
    /// Where the unit stood.
    pub stage: Stage,
    /// Whether it was in its territory.
    pub territory: Territory,
    /// Codes that this source tried in the last day and that nobody issued.
    pub failures: u32,
}
