//! Measurements of the product by the product, one module for each `tally bench` command.

mod column;
pub mod psi;
