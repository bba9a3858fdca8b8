//! What may be seen on the way under `vole-rr22-v1`: sizes, and orders.

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

fn verify(a: &[String], b: &[String], seed: u64) -> machine::Transcript {
    let (rows, transcript) = run(Suite::VoleRr22V1, a, b, seed);
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
    let (first, second) = (verify(&a, &b, 9), verify(&a, &reversed, 9));
    // 40 + ceil(log2(10^6)) = 60 bits.
    let tags_of = tags(&first, 8);
    assert_eq!(tags_of.len(), 1_000);
    assert!(tags_of.is_sorted_by(|a, b| a < b));
    // One seed and one set: every byte is the same.
    assert!(first.frames == second.frames);
    // Another seed: no tag is.
    let other: HashSet<Vec<u8>> = tags(&verify(&a, &b, 10), 8).into_iter().collect();
    assert!(tags_of.iter().all(|t| !other.contains(t)));
}

#[test]
fn another_session_gives_other_tags_from_the_same_seeds() {
    let v = list(0, 50, 7);
    let run = |session: u8| {
        let open = |role, seed| {
            let mut p = params(Computation::List, Noise::NoneInTestNetwork, 50);
            p.context.suite = Suite::VoleRr22V1;
            p.context.session = [session; 32];
            machine::open(role, p, set(&v), seeds(seed), sorters()).unwrap()
        };
        let (mut i, mut r) = (
            open(messages::Role::Initiator, 1),
            open(messages::Role::Responder, 2),
        );
        let (_, t) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
        tags(&t, 7)
    };
    let (one, two) = (run(1), run(2));
    assert_eq!(one.len(), 50);
    assert!(one.iter().all(|t| !two.contains(t)));
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
    let (some, none) = (
        verify(&a, &list(5_000, 2_000, 11), 1),
        verify(&a, &list(20_000, 2_000, 13), 2),
    );
    assert_eq!(bytes(&some), bytes(&none));
    // 12,128 columns of 16 bytes, 2,000 tags of 9, 512 points, 128 * 256 words of noise, 256 * 7 transfers.
    let payload: usize = bytes(&some)
        .iter()
        .map(|(_, n)| n - messages::HEADER_BYTES)
        .sum();
    let fixed = 2 * 57 + 50 + 2 * 50 + 11 + 2;
    let transfers = 256 * 7;
    let expected = fixed
        + 12_128 * 16
        + 2_000 * 9
        + 512 * 32
        + (transfers + 128 * 256) * 16
        + (2 * transfers + 256) * 16;
    assert_eq!(payload, expected);
}

#[test]
fn a_count_is_not_this_suite_s() {
    let mut p = params(Computation::Cardinality, Noise::NoneInTestNetwork, 1);
    p.context.suite = Suite::VoleRr22V1;
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
    assert!(matches!(
        got,
        Err(Error::Invalid {
            what: "suite for this machine",
            found: 2
        })
    ));
}
