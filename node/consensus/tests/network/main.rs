//! Networks of real engines on loopback. One program: each that links the engine takes minutes to build.

mod common;
mod decisions;
mod half_open;
mod locked;
