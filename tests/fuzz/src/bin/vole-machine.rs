//! See `tally_fuzz::psi`.
#![no_main]

tally_fuzz::target!(tally_fuzz::psi::run_vole);
