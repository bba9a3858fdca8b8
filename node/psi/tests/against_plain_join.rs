//! Both computations over an in-memory transport against a plain join, and what may be seen on the way.

mod common;

use std::collections::HashSet;

use common::*;
use tally_psi::messages::Message;
use tally_psi::*;

/// Lists of several frames with repeats, in no order.
fn lists() -> (Vec<String>, Vec<String>) {
    let shuffled = |from: u64, to: u64, step: u64| -> Vec<String> {
        let n = to - from;
        (0..n)
            .map(|i| format!("+86139{:08}", from + (i * step) % n))
            .collect()
    };
    let mut a = shuffled(0, 9_000, 7_919);
    let b = shuffled(5_000, 14_001, 6_007);
    a.push(a[17].clone());
    a.push(a[3].clone());
    (a, b)
}

#[test]
fn list_finds_the_rows_of_a_plain_join() {
    let (a, b) = lists();
    let (mut i, mut r) = pair(Computation::List, Noise::NoneInTestNetwork, &a, &b, 1);
    let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
    let theirs: HashSet<_> = b.iter().collect();
    let mut once = HashSet::new();
    let expected: Vec<u64> = a
        .iter()
        .enumerate()
        .filter(|(_, v)| theirs.contains(v) && once.insert(*v))
        .map(|(i, _)| i as u64)
        .collect();
    assert!(expected.len() == 4_000);
    assert_eq!(report.outcome, Outcome::Matched { rows: expected });
    let responder = transcript.responder.clone().unwrap();
    assert_eq!(responder.outcome, Outcome::Served);
    assert_eq!(responder.statement, report.statement);
    assert_eq!(report.statement.counts, [9_000, 9_001]);
    // The responder's own points leave sorted: the order of its set stays with it.
    assert!(points(&transcript, 1).is_sorted());
    assert!(!points(&transcript, 0).is_sorted());
}

#[test]
fn cardinality_without_noise_is_the_plain_count_and_everything_leaves_sorted() {
    let (a, b) = lists();
    let (mut i, mut r) = pair(
        Computation::Cardinality,
        Noise::NoneInTestNetwork,
        &a,
        &b,
        2,
    );
    let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
    let theirs: HashSet<_> = b.iter().collect();
    let expected = a
        .iter()
        .collect::<HashSet<_>>()
        .intersection(&theirs)
        .count();
    let value = i64::try_from(expected).unwrap();
    assert_eq!(report.outcome, Outcome::Published { value });
    assert_eq!(
        transcript.responder.as_ref().unwrap().outcome,
        Outcome::Published { value }
    );
    for side in 0..2 {
        let points = points(&transcript, side);
        assert!(points.is_sorted_by(|a, b| a < b) && points.len() == 10_240);
    }
    let tags: Vec<u8> = transcript
        .messages(1)
        .unwrap()
        .into_iter()
        .filter_map(|m| match m {
            Message::Tags(t) => Some(t),
            _ => None,
        })
        .flatten()
        .collect();
    // Filled up to 10,240 each: 40 + ceil(log2(10,240 * 10,240)) = 67 bits.
    assert_eq!(tags.len(), 10_240 * 9);
    assert!(tags.chunks(9).is_sorted());
}

#[test]
fn noise_is_that_of_both_sides_and_hides_in_equal_counts() {
    let noise = plan_bound(500_000, 6, 1).unwrap();
    assert_eq!(noise.bound, 25);
    let (a, b) = (values(0..40), values(25..70));
    let mut drawn = HashSet::new();
    let mut frames = HashSet::new();
    for seed in 0..24 {
        let (mut i, mut r) = pair(
            Computation::Cardinality,
            Noise::Laplace(noise),
            &a,
            &b,
            seed,
        );
        let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
        // What both sides drew, from their seeds.
        let draw = |n: u64, role: &[u8]| {
            let mut rng = noise_rng(n, role);
            sample_truncated_laplace(&noise, &mut rng).unwrap()
        };
        let l_minus_b = draw(2 * seed + 1, b"responder");
        let n2 = draw(2 * seed, b"counter");
        assert_eq!(
            report.outcome,
            Outcome::Published {
                value: 15 + l_minus_b + n2
            },
            "seed {seed}"
        );
        drawn.insert(l_minus_b);
        assert_eq!(report.statement.counts, [40 + 50, 48 + 50]);
        frames.insert(
            transcript
                .frames
                .iter()
                .map(|(s, f)| (*s, f.len()))
                .collect::<Vec<_>>(),
        );
    }
    assert!(drawn.len() > 3, "the noise varies");
    assert_eq!(frames.len(), 1, "its size shows nowhere");
}

/// The generator of a side's noise, derived here on its own: HKDF-SHA256, then SHA-512 in counter mode.
fn noise_rng(n: u64, role: &[u8]) -> SeedRng {
    let mut noise = [0; 32];
    noise[..8].copy_from_slice(&n.to_be_bytes());
    let mut seed = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &noise)
        .expand(&[b"tally/psi/v1/noise/", role].concat(), &mut seed)
        .unwrap();
    SeedRng::new(&seed)
}

#[test]
fn empty_sets_and_disjoint_sets() {
    let none: Vec<String> = Vec::new();
    let some = values(0..5);
    for (a, b) in [(&none, &none), (&none, &some), (&some, &none)] {
        for computation in [Computation::List, Computation::Cardinality] {
            let (mut i, mut r) = pair(computation, Noise::NoneInTestNetwork, a, b, 3);
            let (report, _) = machine::run_in_memory(&mut i, &mut r).unwrap();
            match report.outcome {
                Outcome::Matched { rows } => assert!(rows.is_empty()),
                Outcome::Published { value } => assert_eq!(value, 0),
                Outcome::Served | Outcome::Sums { .. } | Outcome::Listed { .. } => {
                    panic!("not the answer of a plain run")
                }
            }
        }
    }
}

#[test]
fn another_session_another_blinding_and_one_seed_the_same_stream() {
    let v = values(0..10);
    let stream = |seed: u64, session: u8| {
        let mut p = params(Computation::List, Noise::NoneInTestNetwork, 10);
        p.context.session = [session; 32];
        let mut i = Initiator::new(p.clone(), set(&v), seeds(seed), sorters()).unwrap();
        let mut r = Responder::new(p, set(&v), seeds(99), sorters()).unwrap();
        let (_, t) = machine::run_in_memory(&mut i, &mut r).unwrap();
        points(&t, 0)
    };
    assert_eq!(stream(1, 1), stream(1, 1));
    assert_ne!(stream(1, 1), stream(2, 1));
    let (x, y) = (stream(1, 1), stream(1, 2));
    assert!(x.iter().all(|p| !y.contains(p)));
}

#[test]
fn a_list_with_noise_is_refused() {
    let noise = Noise::Laplace(plan_bound(500_000, 6, 1).unwrap());
    let p = params(Computation::List, noise, 1);
    assert!(matches!(
        Initiator::new(p, set(&["a"]), seeds(1), sorters()),
        Err(Error::Noise { .. })
    ));
}

fn points(transcript: &machine::Transcript, side: usize) -> Vec<Row> {
    transcript
        .messages(side)
        .unwrap()
        .into_iter()
        .filter_map(|m| match m {
            Message::Points(p) => Some(p),
            _ => None,
        })
        .flatten()
        .collect()
}
