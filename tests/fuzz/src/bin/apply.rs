//! See `tally_fuzz::apply`.
#![no_main]

tally_fuzz::target!(tally_fuzz::apply::run);
