//! Private stores at rest: an append-only log and small files, both sealed with XChaCha20-Poly1305 under the node's storage key.
//!
//! In scope: bytes that are durable when a call returns, unreadable without the key, and that cannot be changed, moved or swapped
//! unnoticed. Out of scope: what the bytes mean, and retention. Cutting whole frames off the end of a log is not noticed here: the
//! anchored size of the log shows it.

mod error;
mod file;
mod frame;
mod key;
mod log;
mod reader;
mod row;
mod segment;
#[cfg(test)]
mod tests;

pub use error::SealedError;
pub use file::{MAX_SEALED_FILE_BYTES, read_sealed, write_sealed};
pub use key::StorageKey;
pub use log::{LogOptions, Repair, SealedLog};
pub use reader::{Position, SealedReader};
pub use row::RowSealer;
