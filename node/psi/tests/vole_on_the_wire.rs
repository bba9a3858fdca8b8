//! What may be seen on the way under the suites by a vector correlation: sizes, and orders.

mod common;

use std::collections::HashSet;

use common::*;
use tally_psi::messages::Message;
use tally_psi::*;

fn run(suite: Suite, a: &[String], b: &[String], seed: u64) -> (Vec<u64>, machine::Transcript) {
    let (mut i, mut r) = pair_of(suite, a, b, seed);
    let (report, transcript) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    let served = transcript.responder.clone().unwrap();
    assert_eq!(served.outcome, Outcome::Served);
    assert_eq!(served.statement, report.statement);
    let Outcome::Matched { rows } = report.outcome else {
        panic!("a list gives rows");
    };
    (rows, transcript)
}

/// Both suites by a vector correlation.
const SUITES: [Suite; 2] = [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1];

fn verify(suite: Suite, a: &[String], b: &[String], seed: u64) -> machine::Transcript {
    let (rows, transcript) = run(suite, a, b, seed);
    assert_eq!(rows, plain_join(a, b));
    transcript
}

fn tags(transcript: &machine::Transcript, len: usize) -> Vec<Vec<u8>> {
    let messages = transcript.messages(1).unwrap();
    let tags = messages.iter().filter_map(|m| match m {
        Message::Tags(t) => Some(t.chunks(len)),
        _ => None,
    });
    tags.flatten().map(<[u8]>::to_vec).collect()
}

#[test]
fn tags_leave_sorted_whatever_the_set_s_order() {
    let a = list(0, 1_000, 7);
    let b = list(500, 1_000, 11);
    let mut reversed = b.clone();
    reversed.reverse();
    // 40 + ceil(log2(10^6)) = 60 bits; under checks always 128.
    for (suite, len) in SUITES.into_iter().zip([8, 16]) {
        let (first, second) = (verify(suite, &a, &b, 9), verify(suite, &a, &reversed, 9));
        let tags_of = tags(&first, len);
        assert_eq!(tags_of.len(), 1_000);
        assert!(tags_of.is_sorted_by(|a, b| a < b));
        // One seed and one set: every byte is the same.
        assert!(first.frames == second.frames);
        // Another seed: no tag is.
        let other: HashSet<Vec<u8>> = tags(&verify(suite, &a, &b, 10), len).into_iter().collect();
        assert!(tags_of.iter().all(|t| !other.contains(t)));
    }
}

#[test]
fn another_session_gives_other_tags_from_the_same_seeds() {
    let v = list(0, 50, 7);
    let run = |suite: Suite, session: u8| {
        let open = |role, seed| {
            let mut p = params(Computation::List, Noise::NoneInTestNetwork, 50);
            p.context.suite = suite;
            p.context.session = [session; 32];
            machine::open(role, p, set(&v), seeds(seed), sorters()).unwrap()
        };
        let (mut i, mut r) = (
            open(messages::Role::Initiator, 1),
            open(messages::Role::Responder, 2),
        );
        let (_, t) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
        tags(&t, if suite == Suite::VoleRr22V1 { 7 } else { 16 })
    };
    for suite in SUITES {
        let (one, two) = (run(suite, 1), run(suite, 2));
        assert_eq!(one.len(), 50);
        assert!(one.iter().all(|t| !two.contains(t)));
    }
}

#[test]
fn sizes_on_the_wire_follow_from_the_counts_alone() {
    let bytes = |t: &machine::Transcript| {
        t.frames
            .iter()
            .map(|(s, f)| (*s, f.len()))
            .collect::<Vec<_>>()
    };
    let a = list(0, 10_000, 7);
    let payload = |suite| {
        let (some, none) = (
            verify(suite, &a, &list(5_000, 2_000, 11), 1),
            verify(suite, &a, &list(20_000, 2_000, 13), 2),
        );
        assert_eq!(bytes(&some), bytes(&none));
        let frames = bytes(&some).into_iter();
        frames
            .map(|(_, n)| n - messages::HEADER_BYTES)
            .sum::<usize>()
    };
    // 12,128 columns of 16 bytes, 2,000 tags of 9, 512 points, 128 * 256 words of noise, 256 * 7 transfers.
    let fixed = 2 * 57 + 50 + 2 * 50 + 11 + 2;
    let transfers = 256 * 7;
    let plain = fixed
        + 12_128 * 16
        + 2_000 * 9
        + 512 * 32
        + (transfers + 128 * 256) * 16
        + (2 * transfers + 256) * 16;
    assert_eq!(payload(Suite::VoleRr22V1), plain);
    // Tags of 16; a word more of each column of the transfers, two of the noise; twice 129 words that show them; the coin's two
    // parts, its commitment, one word shown and the answer to it.
    let checks = 2_000 * (16 - 9) + (128 * (1 + 2) + 2 * 129) * 16 + 2 * 16 + 32 + (16 + 32);
    assert_eq!(payload(Suite::VoleRr22MaliciousV1), plain + checks);
}

#[test]
fn a_count_is_not_these_suites() {
    for (suite, number) in SUITES.into_iter().zip([2, 3]) {
        let mut p = params(Computation::Cardinality, Noise::NoneInTestNetwork, 1);
        p.context.suite = suite;
        let got = VoleInitiator::new(p.clone(), set(&["a"]), seeds(1)).map(|_| ());
        assert!(matches!(
            got,
            Err(Error::Invalid {
                what: "computation for this suite",
                ..
            })
        ));
        p.context.computation = Computation::List;
        assert!(VoleInitiator::new(p.clone(), set(&["a"]), seeds(1)).is_ok());
        let got = Initiator::new(p, set(&["a"]), seeds(1), sorters()).map(|_| ());
        assert_eq!(
            got,
            Err(Error::Invalid {
                what: "suite for this machine",
                found: number
            })
        );
    }
    let p = params(Computation::List, Noise::NoneInTestNetwork, 1);
    let got = VoleResponder::new(p, set(&["a"]), seeds(1)).map(|_| ());
    assert!(matches!(got, Err(Error::Invalid { found: 1, .. })));
}
