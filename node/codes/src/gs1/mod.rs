//! GS1 keys, application identifiers and Digital Link URIs (GS1 General Specifications 25; GS1 Digital Link 1.4, uncompressed).

pub mod ai;
mod charset;
mod coupon;
mod gtin;
mod link;
mod lists;
mod rules;
mod table;
mod url;

pub use charset::is_set_82;
pub use gtin::{Gtin, Lot, MAX_LOT, check_digit};
pub use link::{DigitalLink, Element, LinkOptions};
pub use url::UrlBase;
