//! See `tally_fuzz::sum`.
#![no_main]

tally_fuzz::target!(tally_fuzz::sum::run);
