//! Measurements of the product by the product, one module for each `tally bench` command.

pub mod attribution;
mod column;
pub mod empty;
pub mod issue;
pub mod kit;
pub mod psi;
mod psi_buckets;
