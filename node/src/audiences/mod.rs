//! Audiences at rest: sets of people, frozen and salted, each sealed under the node's storage key in a directory of its own.
//!
//! In scope: creating a set as a whole or not at all, in bounded memory, listing, reading it back verified against the root that it
//! was committed under. Out of scope: the rows of CSV files (`tally-measure`), records, matches.

mod entries;
mod error;
mod freeze;
mod meta;
mod rows;
mod store;
#[cfg(test)]
mod tests;

pub use entries::Entries;
pub use error::AudienceError;
pub use meta::{AudienceKey, AudienceMeta, MAX_AUDIENCE_NAME, check_audience_name};
pub(crate) use meta::{hash_text, text};
pub use rows::{Holds, RowsInput, RowsMeta};
pub use store::AudienceStore;
