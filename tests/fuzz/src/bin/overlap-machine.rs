//! See `tally_fuzz::overlap`.
#![no_main]

tally_fuzz::target!(tally_fuzz::overlap::run_machine);
