//! Every suite against a plain join, at the sizes where systems lose matches, and the suites against each other.
//!
//! The rule for repeats: a value that comes again in one input is left out, its first row stays, and counts are of distinct
//! values. So a match is reported once, with the row where its value came first.
//!
//! The suites by a vector correlation run at every size here; `dh-ristretto-v1`, which takes some twenty times the arithmetic, up to
//! 65,537. What is larger:
//! `cargo test --release -p tally-psi --test exactness -- --ignored`.

mod common;

use std::collections::HashSet;

use common::*;
use tally_psi::*;

fn distinct(values: &[String]) -> u64 {
    values.iter().collect::<HashSet<_>>().len() as u64
}

/// The rows that a suite finds; both sides' reports agree, and both counts are of distinct values.
fn rows(suite: Suite, a: &[String], b: &[String], seed: u64) -> Vec<u64> {
    let (mut i, mut r) = pair_of(suite, a, b, seed);
    let (report, transcript) = machine::run_in_memory(i.as_mut(), r.as_mut()).unwrap();
    let served = transcript.responder.unwrap();
    assert_eq!(served.outcome, Outcome::Served);
    assert_eq!(served.statement, report.statement);
    assert_eq!(report.statement.counts, [distinct(a), distinct(b)]);
    let Outcome::Matched { rows } = report.outcome else {
        panic!("a list gives rows");
    };
    rows
}

fn verify(suite: Suite, a: &[String], b: &[String], seed: u64) {
    let (found, expected) = (rows(suite, a, b, seed), plain_join(a, b));
    // Not `assert_eq`: a million rows would be printed.
    assert!(
        found == expected,
        "{}: {} x {}: {} rows, expected {}",
        suite.name(),
        a.len(),
        b.len(),
        found.len(),
        expected.len()
    );
}

/// Disjoint, half in common, one contained in the other (equal where the sizes are).
fn every_overlap(suite: Suite, n: u64, m: u64) {
    let a = list(0, n, 7_919);
    let mut starts = if m == 0 { vec![0] } else { vec![n, n / 2, 0] };
    starts.dedup();
    for from in starts {
        verify(suite, &a, &list(from, m, 6_007), n + m + from);
    }
}

/// The count of `cardinality` without noise.
fn verify_count(a: &[String], b: &[String], seed: u64) {
    let (mut i, mut r) = pair(
        Computation::Cardinality,
        Noise::NoneInTestNetwork,
        a,
        b,
        seed,
    );
    let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
    let value = i64::try_from(plain_join(a, b).len()).unwrap();
    assert_eq!(report.outcome, Outcome::Published { value });
    assert_eq!(transcript.responder.unwrap().outcome, report.outcome);
}

#[test]
fn small_sizes() {
    const SIZES: [u64; 6] = [0, 1, 2, 3, 10, 100];
    for (n, m) in SIZES.iter().flat_map(|n| SIZES.map(|m| (*n, m))) {
        for suite in LISTS {
            every_overlap(suite, n, m);
        }
        for from in [n, n / 2, 0] {
            verify_count(&list(0, n, 7), &list(from, m, 11), n + m + from);
        }
    }
}

#[test]
fn ten_thousand() {
    for suite in LISTS {
        every_overlap(suite, 10_000, 10_000);
    }
    verify_count(&list(0, 10_000, 7_919), &list(5_000, 10_000, 6_007), 1);
}

#[test]
fn sizes_around_two_to_the_sixteen() {
    for n in 65_535..=65_537 {
        let a = list(0, n, 7_919);
        for suite in [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1] {
            verify(suite, &a, &list(n / 2, 65_536, 6_007), n);
            verify(suite, &a, &a, n);
        }
    }
    let (a, b) = (list(0, 65_537, 7_919), list(30_000, 65_535, 6_007));
    verify(Suite::DhRistrettoV1, &a, &b, 1);
}

#[test]
fn few_against_many() {
    for (n, m) in [
        (397, 333_334),
        (333_334, 397),
        (1, 1_000_000),
        (1_000_000, 1),
    ] {
        every_overlap(Suite::VoleRr22V1, n, m);
        let (a, b) = (list(0, n, 7_919), list(n / 2, m, 6_007));
        verify(Suite::VoleRr22MaliciousV1, &a, &b, n);
    }
    for (n, m) in [(1, 20_000), (20_000, 1)] {
        verify(Suite::DhRistrettoV1, &list(0, n, 7), &list(0, m, 11), n);
    }
}

/// More than one bin of the store, and more than one block of the correlation.
#[test]
fn several_bins_and_blocks() {
    let n = 1 << 20;
    for suite in [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1] {
        every_overlap(suite, 131_072, 1_000);
        let (a, b) = (list(0, n, 7_919), list(n / 2, n, 6_007));
        verify(suite, &a, &b, 1);
    }
}

#[test]
#[ignore = "minutes of both cores: dh at what is larger than 65,537, every overlap at 2^20"]
fn large_sizes() {
    for (n, m) in [(397, 333_334), (333_334, 397), (1, 1_000_000)] {
        verify(
            Suite::DhRistrettoV1,
            &list(0, n, 7_919),
            &list(n / 2, m, 6_007),
            n,
        );
    }
    for suite in [Suite::VoleRr22V1, Suite::VoleRr22MaliciousV1] {
        every_overlap(suite, 1 << 20, 1 << 20);
    }
    let n = 1 << 20;
    verify(
        Suite::DhRistrettoV1,
        &list(0, n, 7_919),
        &list(n / 2, n, 6_007),
        1,
    );
}

#[test]
#[ignore = "4 GB and a minute: four million"]
fn four_million() {
    let n = 1 << 22;
    verify(
        Suite::VoleRr22V1,
        &list(0, n, 7_919),
        &list(n / 2, n, 6_007),
        1,
    );
}

#[test]
fn repeats_keep_their_first_row_and_count_once() {
    let mut a = list(0, 500, 7);
    let mut b = list(250, 500, 11);
    a.extend_from_within(100..300);
    // A value twice in a row, one at both ends, one a hundred times.
    a.insert(1, a[0].clone());
    a.push(a[0].clone());
    a.extend(vec![a[301].clone(); 100]);
    b.extend_from_within(0..77);
    b.extend(vec![b[5].clone(); 100]);
    for suite in LISTS {
        verify(suite, &a, &b, 3);
        // Nothing but one value.
        verify(
            suite,
            &vec!["x".to_owned(); 50],
            &vec!["x".to_owned(); 9],
            4,
        );
    }
    verify_count(&a, &b, 3);
}

/// Values that are beginnings of each other, hold zeros, or are as long as may be.
#[test]
fn awkward_values() {
    let long = |c: &str, n: usize| c.repeat(n);
    let a: Vec<String> = [
        "a", "aa", "aaa", "\0", "\0\0", " ", "a ", "A", "ä", "a\0", "\0a",
    ]
    .into_iter()
    .map(ToOwned::to_owned)
    .chain((500..=MAX_VALUE_BYTES).map(|n| long("z", n)))
    .collect();
    let b: Vec<String> = a.iter().skip(1).step_by(2).cloned().collect();
    for suite in LISTS {
        verify(suite, &a, &b, 5);
        verify(suite, &b, &a, 6);
    }
    verify_count(&a, &b, 7);
}

#[test]
fn all_suites_find_the_same() {
    for (n, m) in [(0, 4), (1, 1), (300, 900), (1_000, 10), (20_000, 10_001)] {
        let (a, b) = (list(0, n, 7), list(n / 3, m, 11));
        let [one, others @ ..] = LISTS.map(|suite| rows(suite, &a, &b, 1));
        for other in others {
            assert!(one == other, "{n} x {m}");
        }
        assert_eq!(one.len() as u64, (n - n / 3).min(m));
    }
}

/// A set of another size than was signed for it is refused by the other side, whichever it is, at its hello.
#[test]
fn unequal_claims_are_refused() {
    let (a, b) = (list(0, 20, 7), list(10, 30, 11));
    for suite in LISTS {
        for (role, claimed) in [
            (messages::Role::Initiator, 29),
            (messages::Role::Initiator, 31),
            (messages::Role::Responder, 19),
            (messages::Role::Responder, 0),
        ] {
            let open = |own, peer| {
                let mut p = params(Computation::List, Noise::NoneInTestNetwork, peer);
                p.context.suite = suite;
                let values = if own == messages::Role::Initiator {
                    &a
                } else {
                    &b
                };
                machine::open(own, p, set(values), seeds(1), sorters()).unwrap()
            };
            let of = |own, honest| if own == role { claimed } else { honest };
            let mut i = open(messages::Role::Initiator, of(messages::Role::Initiator, 30));
            let mut r = open(messages::Role::Responder, of(messages::Role::Responder, 20));
            let found = if role == messages::Role::Initiator {
                30
            } else {
                20
            };
            let got = machine::run_in_memory(i.as_mut(), r.as_mut()).map(|_| ());
            assert_eq!(
                got,
                Err(Error::Count {
                    what: "claimed elements",
                    expected: claimed,
                    found,
                })
            );
        }
    }
}
