//! The suite `vole-rr22-v1` against a plain join and against `dh-ristretto-v1`, and what may be seen on the way.

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

/// Values `from..from + n`, in an order of their own.
fn list(from: u64, n: u64, step: u64) -> Vec<String> {
    (0..n)
        .map(|i| format!("+86139{:08}", from + (i * step) % n.max(1)))
        .collect()
}

fn verify(a: &[String], b: &[String], seed: u64) -> machine::Transcript {
    let theirs: HashSet<_> = b.iter().collect();
    let mut once = HashSet::new();
    let expected: Vec<u64> = (0..)
        .zip(a)
        .filter(|(_, v)| theirs.contains(v) && once.insert(*v))
        .map(|(row, _)| row)
        .collect();
    let (rows, transcript) = run(Suite::VoleRr22V1, a, b, seed);
    assert!(
        rows == expected,
        "{} x {}: {} rows, expected {}",
        a.len(),
        b.len(),
        rows.len(),
        expected.len()
    );
    transcript
}

/// Disjoint, half common, one contained in the other, equal where the sizes are.
fn every_overlap(n: u64, m: u64) {
    let a = list(0, n, 7_919);
    for from in [n, n / 2, 0] {
        verify(&a, &list(from, m, 6_007), n + m + from);
    }
}

#[test]
fn small_sizes() {
    for n in [0, 1, 2, 3, 10, 100] {
        for m in [0, 1, 2, 3, 10, 100] {
            every_overlap(n, m);
        }
    }
}

#[test]
fn ten_thousand() {
    every_overlap(10_000, 10_000);
}

#[test]
fn sizes_around_a_bin() {
    for n in 65_535..=65_537 {
        let a = list(0, n, 7_919);
        verify(&a, &list(n / 2, 65_536, 6_007), n);
        verify(&a, &a, n);
    }
}

#[test]
fn unequal_sizes() {
    every_overlap(397, 333_334);
    every_overlap(333_334, 397);
}

#[test]
fn two_bins() {
    every_overlap(131_072, 1_000);
}

#[test]
#[ignore = "a minute: a million and more"]
fn large_sizes() {
    for (n, m) in [(1, 1_000_000), (1_000_000, 1), (1 << 20, 1 << 20)] {
        every_overlap(n, m);
    }
}

#[test]
fn repeats_keep_their_first_row() {
    let mut a = list(0, 500, 7);
    let mut b = list(250, 500, 11);
    a.extend_from_within(100..300);
    b.extend_from_within(0..77);
    verify(&a, &b, 3);
}

#[test]
fn both_suites_find_the_same() {
    for (n, m) in [(0, 4), (1, 1), (300, 900), (1_000, 10)] {
        let (a, b) = (list(0, n, 7), list(n / 3, m, 11));
        let (vole, _) = run(Suite::VoleRr22V1, &a, &b, 1);
        let (dh, _) = run(Suite::DhRistrettoV1, &a, &b, 1);
        assert_eq!(vole, dh);
        assert!(vole.len() as u64 == (n - n / 3).min(m));
    }
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
