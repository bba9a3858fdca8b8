//! Two desks in one process: streams in memory, and a ledger in memory that runs the real contracts.

mod faults;
mod kit;
mod scenarios;
mod sums;
