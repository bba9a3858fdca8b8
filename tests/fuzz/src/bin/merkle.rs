//! See `tally_fuzz::merkle`.
#![no_main]

tally_fuzz::target!(tally_fuzz::merkle::run);
