//! The engine's messages and the parts of blocks: what is read is written back byte for byte, and parts come together right.

use tally_consensus::fuzzing::{assemble, decode_all, sample_parts, samples};

use crate::{Seeds, named, same};

/// Bytes for every decoder, and as parts one after the other.
pub fn run(bytes: &[u8]) {
    for (name, again) in decode_all(bytes) {
        same(name, bytes, &again);
    }
    assert_eq!(assemble(bytes), Ok(()));
}

/// One of each message.
pub fn seeds() -> Seeds {
    let mut out = named(samples());
    out.push(("parts".into(), sample_parts()));
    out
}
