//! Every byte of a run of each suite, frozen: a change here is a change of the protocol, and needs another parameter set or version.

mod common;

use common::*;
use sha2::{Digest, Sha256};
use tally_psi::*;

/// SHA-256 over all frames, in order.
fn transcript(suite: Suite) -> String {
    let (a, b) = (list(0, 3_000, 7), list(2_000, 1_500, 11));
    let (mut i, mut r) = pair_of(suite, &a, &b, 1);
    let (_, transcript) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    let mut hash = Sha256::new();
    for (_, frame) in &transcript.frames {
        hash.update(frame);
    }
    hex::encode(hash.finalize())
}

#[test]
fn transcripts_are_golden() {
    assert_eq!(LISTS.map(transcript), GOLDEN);
}
const GOLDEN: [&str; 3] = [
    "0085a4cf385c463d94cb1273c374785b4d42f943b06c89984f224ab4f2fd4d4f",
    "113f6989a309213fc47160c295c101bfc502d2cbbc7cbae8e571c0f0fd47678f",
    "e68300b4f3cd8e099e3e49d1b3139f5de0b85156c7876edd4b0ff60de5b75f58",
];
