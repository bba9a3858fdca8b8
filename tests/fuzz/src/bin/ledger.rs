//! See `tally_fuzz::ledger`.
#![no_main]

tally_fuzz::target!(tally_fuzz::ledger::run);
