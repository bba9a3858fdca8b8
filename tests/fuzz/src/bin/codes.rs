//! See `tally_fuzz::codes`.
#![no_main]

tally_fuzz::target!(tally_fuzz::codes::run);
