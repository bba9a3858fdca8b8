//! Codes that an issuer prints on its goods: made from keys, checked with keys, and bound into two Merkle trees per batch, so that
//! the number of codes is public and a code outside an anchored batch is refused.
//!
//! In scope: GS1 keys and Digital Link URIs (GS1 Digital Link 1.4, uncompressed), Crockford base 32, FF1 (NIST SP 800-38G) at
//! 100 bits, unit codes, claim codes, batch trees and openings, verdicts, QR and Data Matrix symbols (feature `symbols`, so that who only
//! verifies builds no image crates). Out of scope: disk, network, clocks and scan counts; randomness is passed in.
//!
//! ```
//! use rand_core::OsRng;
//! use tally_codes::batch::{
//!     BatchBuild, BatchSpec, Deriver, RowBuffers, RowFormat, RowForms, verify_unit_opening,
//! };
//! use tally_codes::gs1::{Gtin, UrlBase};
//! use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys};
//!
//! # fn main() -> Result<(), tally_codes::Error> {
//! let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut OsRng);
//! let keys = BatchKeys::generate(&mut OsRng);
//! let spec = BatchSpec::new("09521234543213".parse()?, 0, 1000)?;
//! let deriver = Deriver::new(&issuer, issuer.current(), &keys, spec)?;
//!
//! let base = UrlBase::parse("https://id.example")?;
//! let mut build = BatchBuild::new(&deriver, &RowForms::outer(RowFormat::Csv, base));
//! let mut rows = RowBuffers::default();
//! while build.next_rows(&mut rows) {
//!     assert!(rows.outer.starts_with(b"HTTPS://ID.EXAMPLE/01/09521234543213/21/"));
//! }
//! let trees = build.finish()?;
//!
//! let opening = deriver.unit_opening(17, |level, i| trees.unit.node(level, i))?;
//! verify_unit_opening(&trees.unit.root(), 1000, &opening)?;
//! # Ok(())
//! # }
//! ```

pub mod batch;
pub mod claim;
pub mod crockford;
mod error;
pub mod ff1;
pub mod gs1;
pub mod keys;
#[cfg(feature = "symbols")]
pub mod matrix;
mod order;
mod prf;
pub mod qr;
pub mod unit;
pub mod verdict;

pub use claim::ClaimCode;
pub use error::Error;
pub use unit::Serial;
pub use verdict::{CheckResult, Verdict};
