//! See `tally_fuzz::evidence`.
#![no_main]

tally_fuzz::target!(tally_fuzz::evidence::run);
