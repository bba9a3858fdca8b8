//! Scenarios over whole networks that are held to times: each has the machine for itself, by [`Scenario::run_alone`].
//!
//! [`Scenario::run_alone`]: tally_tests::Scenario::run_alone

mod absent_proposer;
mod faults;
mod flood;
mod garbage;
