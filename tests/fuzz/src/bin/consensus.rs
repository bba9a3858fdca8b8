//! See `tally_fuzz::consensus`.
#![no_main]

tally_fuzz::target!(tally_fuzz::consensus::run);
