//! See `tally_fuzz::contracts`.
#![no_main]

tally_fuzz::target!(tally_fuzz::contracts::run);
