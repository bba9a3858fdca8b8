//! Shows simulated scans to the detector as a node would: places made coarse, truths left out.

use super::{SimClaim, SimScan, SimStage};
use crate::cell::{Cell, DEFAULT_CELL, Spot};
use crate::observation::{Claim, Observation, Stage, Territory};

impl SimScan {
    /// What a node knows of this scan, with cells of the default length.
    #[must_use]
    pub fn observation(&self) -> Observation {
        Observation {
            time_ms: self.time_ms,
            source: self.source,
            spot: self.place.and_then(|place| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "radii of the simulation are whole metres"
                )]
                let accuracy_m = place.radius_m as u32;
                let cell = Cell::of(place.lat, place.lon, DEFAULT_CELL).ok()?;
                Some(Spot { cell, accuracy_m })
            }),
            claim: match self.claim {
                SimClaim::Absent => Claim::Absent,
                SimClaim::Right => Claim::Right,
                SimClaim::Wrong => Claim::Wrong,
            },
            stage: match self.stage {
                SimStage::Early => Stage::BeforeRelease,
                SimStage::Market => Stage::Market,
                SimStage::StockAfterSale => Stage::StockAfterSale,
                SimStage::Void => Stage::Void,
            },
            territory: match self.in_territory {
                None => Territory::Unknown,
                Some(true) => Territory::Inside,
                Some(false) => Territory::Outside,
            },
            failures: self.failures,
        }
    }
}
