//! The node: consensus, network, HTTP gateway and services wired together.

pub mod admin;
pub mod audiences;
pub mod backup;
pub mod bench;
mod bucket_files;
pub mod card;
pub mod ceremony;
pub mod chain;
pub mod config;
mod database;
pub mod dealers;
mod external_sort;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod issuer;
pub mod keys;
pub mod labels;
pub mod matching;
mod membership;
pub mod passphrase;
#[cfg(test)]
mod peak;
pub mod preflight;
pub mod proofs;
pub mod psi_wire;
pub mod room;
pub mod runtime;
pub mod scans;
pub mod sealed;
pub mod snapshots;
pub mod status;
pub mod tile_export;
pub mod tiles;
pub mod vitals;
pub mod wiring;
pub mod workers;
