//! See `tally_fuzz::match_stream`.
#![no_main]

tally_fuzz::target!(tally_fuzz::match_stream::run);
