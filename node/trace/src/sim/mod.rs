//! A simulator of honest units and of copied codes, by which the detector is judged. Deterministic from a seed.
//!
//! Its parameters are frozen: see [`params`].

pub mod cities;
mod dice;
mod model;
pub mod params;
pub mod run;
mod watch;

pub use dice::Dice;
pub use model::{Campaign, SimClaim, SimPlace, SimScan, SimStage, World};
