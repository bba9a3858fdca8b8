//! Measurements of the product by the product, one module for each `tally bench` command.

pub mod psi;
