//! See `tally_fuzz::swarm`.
#![no_main]

tally_fuzz::target!(tally_fuzz::swarm::run);
