//! Desks in one process: streams in memory, and a ledger in memory that runs the real contracts.

mod buckets;
mod faults;
mod killed;
mod kit;
mod overlap;
mod overlap_memory;
mod scenarios;
mod sums;
mod workers;
