//! The node: consensus, network, HTTP gateway and services wired together.

pub mod sealed;
