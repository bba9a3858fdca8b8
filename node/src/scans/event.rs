//! What a dealer or shop says of a unit: it came in, or it was sold.
//!
//! The ledger need not know of single units, as little as of single scans: events stand in the issuer's own scan log, in one order with the scans,
//! and under its anchored root. So what the detector makes of them follows from the log alone.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

use super::record::{Reach, byte_enum, read_option, write_option};
use super::{CodeHash, Place, ScanId, ScannedCode, UnitRef};

/// Longest name of a dealer, in bytes.
pub const MAX_DEALER: usize = 64;

byte_enum! {
    /// What happened to a unit.
    EventKind "event kind" {
        /// A dealer or shop has it in stock.
        1 Receive "receive",
        /// It was sold to a consumer.
        2 Sell "sell",
    }
}

impl EventKind {
    /// The event of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.name() == name)
    }
}

/// One event, as it stands in the log for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradeEvent {
    /// Its name, of the same form as that of a scan.
    pub id: ScanId,
    /// POSIX milliseconds of this node's clock.
    pub time_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// The code.
    pub code: ScannedCode,
    /// The unit, which this member issued.
    pub unit: UnitRef,
    /// The name under which the dealer has its key.
    pub dealer: String,
    /// Pseudonym of the dealer, as scans have one.
    pub source: [u8; 16],
    /// Where, if it was said.
    pub place: Option<Place>,
    /// Whether that is in the batch's territory.
    pub reach: Reach,
}

impl TradeEvent {
    /// The code's hash.
    #[must_use]
    pub fn code_hash(&self) -> CodeHash {
        self.code.hash()
    }
}

impl Canonical for TradeEvent {
    fn write(&self, w: &mut Writer) {
        self.id.write(w);
        w.u64(self.time_ms);
        self.kind.write(w);
        self.code.write(w);
        self.unit.write(w);
        w.text(&self.dealer).raw(&self.source);
        write_option(w, self.place.as_ref());
        self.reach.write(w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            id: ScanId::read(r)?,
            time_ms: r.u64("time")?,
            kind: EventKind::read(r)?,
            code: ScannedCode::read(r)?,
            unit: UnitRef::read(r)?,
            dealer: r.text("dealer", MAX_DEALER)?,
            source: r.array("source")?,
            place: read_option(r, "place")?,
            reach: Reach::read(r)?,
        })
    }
}
