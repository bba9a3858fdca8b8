//! See `tally_fuzz::gateway`.
#![no_main]

tally_fuzz::target!(tally_fuzz::gateway::run);
