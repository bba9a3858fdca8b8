//! Notices codes that were copied, from where, when and by whom they are scanned.
//!
//! In scope: the bounded history of a code ([`history`]), its score with reasons ([`score`]), statistics over batches and regions
//! ([`stats`]), who tries invented codes ([`probing`]), coarse places ([`cell`]), and the simulator by which all that is judged
//! ([`sim`]). Out of scope: clocks, files, network; whether a code was issued at all (`tally-codes`); telling anybody.
//!
//! A copy cannot be prevented and a score proves nothing: it says how much better "this code is on several packs" explains the scans
//! than "people scanned one pack" does.
//!
//! ```
//! use tally_trace::cell::{Cell, Spot};
//! use tally_trace::history::History;
//! use tally_trace::observation::{Claim, Observation, Stage, Territory};
//! use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
//!
//! # fn main() -> Result<(), tally_trace::Error> {
//! let day_ms = 24 * 3_600_000;
//! let mut history = History::new();
//! for (day, person, cell) in [(0, 1, "wx4g"), (5, 2, "wtw3"), (9, 3, "ws0e")] {
//!     history.observe(&Observation {
//!         time_ms: day * day_ms,
//!         source: [person; 16],
//!         spot: Some(Spot { cell: Cell::parse(cell)?, accuracy_m: 50_000 }),
//!         claim: Claim::Absent,
//!         stage: Stage::Market,
//!         territory: Territory::Unknown,
//!         failures: 0,
//!     });
//! }
//! let found = history.assess();
//! assert!(found.is_suspect(DEFAULT_THRESHOLD_MNAT));
//! assert_eq!(found.reasons[1].to_string(), "it was scanned in 3 places far from each other");
//! # Ok(())
//! # }
//! ```

mod burst;
pub mod cell;
mod error;
pub mod geo;
pub mod history;
pub mod observation;
pub mod probing;
pub mod ratio;
pub mod score;
pub mod sim;
pub mod stats;

pub use error::Error;
