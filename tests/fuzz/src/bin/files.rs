//! See `tally_fuzz::files`.
#![no_main]

tally_fuzz::target!(tally_fuzz::files::run);
