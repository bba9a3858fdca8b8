//! The node: consensus, network, HTTP gateway and services wired together.

pub mod card;
pub mod chain;
pub mod ceremony;
pub mod config;
pub mod files;
pub mod keys;
pub mod passphrase;
pub mod scans;
pub mod sealed;
