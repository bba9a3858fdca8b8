//! See `tally_fuzz::measure`.
#![no_main]

tally_fuzz::target!(tally_fuzz::measure::run);
