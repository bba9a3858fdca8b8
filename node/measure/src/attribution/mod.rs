//! Attribution: who gets the credit for a conversion, in the clear and as a private join.
//!
//! A conversion closes nothing: each one by itself credits the touches that are eligible for it. A touch is eligible if
//! `touch < conversion <= touch + window(kind)`. So the credit of one person's touches is a function of the conversion's time
//! alone, constant between touches and window ends, and known to the media side alone. That makes it a join:
//!
//! - the media side cuts the time of each person into [`segments`] of constant credit and each of these into dyadic intervals;
//! - the brand side takes, for each conversion, the dyadic intervals that hold its time, one a level;
//! - a conversion meets exactly one interval of a segment, and its value goes to the labels of that segment by their weights.
//!
//! [`attribute`] is the plain reference; [`media_keys`] and [`brand_keys`] are the two sides of the join. Integers throughout:
//! POSIX seconds, minor units of the currency, weights over [`SumModel::unit`]. The model, and a label's terms, are
//! those of an agreement.

mod dyadic;
mod frozen;
mod journeys;
mod keys;
mod labels;
mod model;
mod reference;
mod segments;

pub use tally_contracts::records::{SumLabel, SumModel};

pub use dyadic::{Interval, MAX_TIME, ancestors, cover};
pub use journeys::{
    ConversionColumns, Conversions, Journeys, RowReport, TouchColumns, import_conversions,
    import_touches,
};
pub use keys::{KEY_SUFFIX_BYTES, brand_keys, brand_rows_per_conversion, media_keys};
pub use labels::Labels;
pub use model::{Credit, Share, Windows, credit};
pub use reference::attribute;
pub use segments::{Segment, segments};

/// Most touches of one person that are taken.
pub const MAX_TOUCHES: usize = 10_000;

/// How somebody met a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TouchKind {
    /// Saw it.
    View,
    /// Acted on it.
    Click,
}

/// One touch. A person's touches are ordered by time, and those of one second by where they stood in the import.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// POSIX seconds, below [`MAX_TIME`].
    pub at: u64,
    /// The label that it counts for: an index into [`Labels`].
    pub label: u16,
    /// View or click.
    pub kind: TouchKind,
}

/// One conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// POSIX seconds, below [`MAX_TIME`].
    pub at: u64,
    /// Minor units of the currency.
    pub value: u64,
}
