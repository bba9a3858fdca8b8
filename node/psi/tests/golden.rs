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
    for (suite, golden) in LISTS.into_iter().zip(GOLDEN) {
        println!("{} {}", suite.name(), transcript(suite));
    }
    for (suite, golden) in LISTS.into_iter().zip(GOLDEN) {
        assert_eq!(transcript(suite), golden, "{}", suite.name());
    }
}
const GOLDEN: [&str; 3] = [
    "0085a4cf385c463d94cb1273c374785b4d42f943b06c89984f224ab4f2fd4d4f",
    "e6758679044e42f584da00dacadbe52a40abc5625c9c1fef59d987f6182f8adb",
    "f1a44eeb1539d389ef58b4da06dff99cb5073e1d15f8c82795e5fa60ad1e8c0a",
];
