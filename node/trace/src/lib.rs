//! Notices codes that were copied, from where, when and by whom they are scanned.
//!
//! In scope: a simulator of honest and of copied codes. Out of scope: clocks, files, network; whether a code was issued at all
//! (`tally-codes`).

pub mod geo;
pub mod sim;
