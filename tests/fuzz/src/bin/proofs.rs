//! See `tally_fuzz::proofs`.
#![no_main]

tally_fuzz::target!(tally_fuzz::proofs::run);
