//! See `tally_fuzz::sealed`.
#![no_main]

tally_fuzz::target!(tally_fuzz::sealed::run);
