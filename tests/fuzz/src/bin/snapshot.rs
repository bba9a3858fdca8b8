//! See `tally_fuzz::snapshot`.
#![no_main]

tally_fuzz::target!(tally_fuzz::snapshot::run);
