//! Benches that need whole nodes as processes: the ledger and the scan gateway.

pub(crate) mod ledger;
mod load;
mod processes;
pub(crate) mod scan;
mod stored;
pub(crate) mod workers;
