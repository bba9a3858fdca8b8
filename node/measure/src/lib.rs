//! Audiences in: reads CSV files of people, normalises their IDs by fixed profiles, reports every row that was not used and
//! why, and commits to the resulting set. Attributes conversions to campaigns, in the clear and as the two sides of a private
//! join: [`attribution`].
//!
//! In scope: reading from any [`std::io::Read`], the ID profiles, import reports, salted set commitments. Out of scope: files,
//! clocks, networks, the private join itself. The profiles and their numbers are those of [`tally_contracts::records`].
//!
//! ```
//! use tally_measure::{ImportOptions, Profile, import};
//!
//! let csv = "name,phone\nAda,+1 212 555 0143\nAda,+12125550143\nBob,unknown\n";
//! let options = ImportOptions::new("e164".parse::<Profile>()?);
//! let import = import(csv.as_bytes(), &options)?;
//! assert_eq!(import.ids.len(), 1);
//! assert_eq!(import.report.duplicates.first_lines, [3]);
//! assert_eq!(import.report.dropped_rows(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attribution;
mod dense;
mod error;
mod identifier;
mod import;
mod normalise;
mod record;
mod report;
mod set;

pub use dense::{DenseFinder, DenseRange, number_of};
pub use error::Error;
pub use identifier::{Identifier, MAX_IDENTIFIER_BYTES};
pub use import::{Import, ImportOptions, import, import_each};
pub use normalise::{Normalised, Normaliser, Region};
pub use record::{MAX_FIELD_BYTES, MAX_RECORD_BYTES, MAX_RECORD_LINES};
pub use report::{DropReason, ImportReport, Lines};
pub use set::{AUDIENCE_COMMITMENT, MAX_SET_SIZE, SALT_BYTES, SaltedEntry, SaltedSet, SetOpening};
pub use tally_contracts::records::{Form, IdType, Prehash, Profile};
