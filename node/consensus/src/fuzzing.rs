//! The engine's messages as bytes, for the fuzz targets alone: no part of the interface.

use crate::malachite::codec::fuzzing;

/// Every message that these bytes are, by name, encoded again.
#[must_use]
pub fn decode_all(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    fuzzing::decode_all(bytes)
        .into_iter()
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .collect()
}

/// One encoding of each message, by name.
#[must_use]
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    fuzzing::samples()
        .into_iter()
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .collect()
}

/// Hands the parts in `bytes`, one encoding after the other, to an assembler.
///
/// # Errors
/// What an assembler must never do, in words.
pub fn assemble(bytes: &[u8]) -> Result<(), String> {
    fuzzing::assemble(bytes)
}

/// Parts for [`assemble`].
#[must_use]
pub fn sample_parts() -> Vec<u8> {
    fuzzing::sample_parts()
}
