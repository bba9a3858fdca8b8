//! See `tally_fuzz::node`.
#![no_main]

tally_fuzz::target!(tally_fuzz::node::run);
