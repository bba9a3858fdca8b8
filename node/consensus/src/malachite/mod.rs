//! The only place that knows the engine: its context, codecs, and the loop that answers it.

pub(crate) mod assembler;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod convert;
pub(crate) mod driver;
pub(crate) mod parts;
pub(crate) mod polkas;
pub(crate) mod signing;
pub(crate) mod spawn;
pub(crate) mod store;
pub(crate) mod waits;
