//! What messages carry besides their content: the noise's distribution over whole runs, and orders of two runs. That sizes do not
//! depend on the draw is shown in `against_plain_join.rs`.

mod common;

use common::*;
use tally_psi::messages::Message;
use tally_psi::*;

/// Runs whose noise is looked at.
const RUNS: u32 = 1_500;

/// Published counts of so many runs of the protocol against the exact odds of two noises together, by chi-square.
#[test]
fn published_counts_follow_the_distribution() {
    let noise = NoiseParams {
        epsilon_micro: 700_000,
        sensitivity: 1,
        bound: 4,
    };
    let (a, b) = (list(0, 3, 1), list(1, 3, 1));
    let mut seen = [0_f64; 17];
    for seed in 0..RUNS {
        let (mut i, mut r) = pair(
            Computation::Cardinality,
            Noise::Laplace(noise),
            &a,
            &b,
            seed.into(),
        );
        let (report, _) = machine::run_in_memory(&mut i, &mut r).unwrap();
        let Outcome::Published { value } = report.outcome else {
            panic!("no count");
        };
        seen[usize::try_from(value - 2 + 8).unwrap()] += 1.0;
    }
    let one: Vec<f64> = (-4_i32..=4)
        .map(|z| (-0.7 * f64::from(z.abs())).exp())
        .collect();
    let total: f64 = one.iter().sum();
    let mut both = [0.0; 17];
    for (i, x) in one.iter().enumerate() {
        for (j, y) in one.iter().enumerate() {
            both[i + j] += x / total * y / total;
        }
    }
    // The rarest are put into one cell.
    let (mut chi, mut cells, mut rest) = (0.0, 0.0, (0.0, 0.0));
    for (p, s) in both.iter().zip(seen) {
        let expected = p * f64::from(RUNS);
        if expected < 10.0 {
            rest = (rest.0 + expected, rest.1 + s);
        } else {
            chi += (s - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    chi += (rest.1 - rest.0).powi(2) / rest.0;
    let bound = cells + 4.0 * (2.0_f64 * cells).sqrt();
    assert!(chi < bound, "chi-square {chi} over {cells} cells");
    // The test can fail: noise of one side alone, or none, is far from it.
    assert!(seen[8] < 0.4 * f64::from(RUNS) && seen[4] > 0.0 && seen[12] > 0.0);
}

/// Senders and lengths of all frames of a count, in order.
fn shape(noise: Noise, initiator: u64, responder: u64, seed: u64) -> Vec<(usize, usize)> {
    let (a, b) = (list(0, initiator, 1), list(initiator / 2, responder, 1));
    let (mut i, mut r) = pair(Computation::Cardinality, noise, &a, &b, seed);
    let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
    if noise == Noise::NoneInTestNetwork {
        let value = i64::try_from(initiator - initiator / 2).unwrap();
        assert_eq!(report.outcome, Outcome::Published { value });
    }
    let frames = transcript.frames.iter();
    frames.map(|(side, f)| (*side, f.len())).collect()
}

/// Sizes from 897 to 1,024 look alike, whatever was drawn; counts stay exact. One more person is another size.
#[test]
fn frames_depend_on_public_sizes_alone() {
    let noise = NoiseParams {
        epsilon_micro: 500_000,
        sensitivity: 1,
        bound: 25,
    };
    for noise in [Noise::NoneInTestNetwork, Noise::Laplace(noise)] {
        let known = shape(noise, 1_024, 2_048, 1);
        for (initiator, responder, seed) in [
            (897, 1_793, 2),
            (1_000, 2_000, 3),
            (1_023, 1_800, 4),
            (1_024, 2_048, 5),
        ] {
            assert_eq!(shape(noise, initiator, responder, seed), known);
        }
        assert_ne!(shape(noise, 1_025, 2_048, 6), known);
        assert_ne!(shape(noise, 896, 2_048, 7), known);
        assert_ne!(shape(noise, 1_024, 2_049, 8), known);
    }
}

/// A peer that does not fill up its set is refused.
#[test]
fn a_size_that_is_not_public_is_refused() {
    let claim = |count| {
        let mut p = params(Computation::Cardinality, Noise::NoneInTestNetwork, 0);
        p.peer = PeerCount::AtMost(1_000);
        let mut r = Responder::new(p.clone(), set(&["a"]), seeds(1), sorters()).unwrap();
        let hello = Message::Hello(messages::Hello {
            suite: p.context.suite,
            computation: p.context.computation,
            role: messages::Role::Initiator,
            count,
            noise: p.noise,
            context: p.context.digest(),
        });
        assert!(matches!(r.poll(), Ok(Output::NeedFrame)));
        r.input(&hello.encode().unwrap())
    };
    assert_eq!(claim(896), Ok(()));
    // The cap's own public size.
    assert_eq!(claim(1_024), Ok(()));
    assert!(matches!(claim(1_000), Err(Error::Invalid { .. })));
    assert!(matches!(claim(9), Err(Error::Invalid { .. })));
    assert!(matches!(claim(1_280), Err(Error::TooLong { .. })));
}

/// Points that one side sends, in order.
fn points(transcript: &machine::Transcript, side: usize) -> Vec<Row> {
    let messages = transcript.messages(side).unwrap().into_iter();
    let points = messages.filter_map(|m| match m {
        Message::Points(p) => Some(p),
        _ => None,
    });
    points.flatten().collect()
}

/// Where each of the own items stands among the points of a side in one run: an item's point is that of a run with it alone, under the
/// same seeds.
fn places(computation: Computation, side: usize, values: &[String], seed: u64) -> Vec<usize> {
    let other = list(500, 3, 1);
    let sent = |values: &[String]| {
        let (a, b) = if side == 0 {
            (values, &other[..])
        } else {
            (&other[..], values)
        };
        let (mut i, mut r) = pair(computation, Noise::NoneInTestNetwork, a, b, seed);
        let (_, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
        points(&transcript, side)
    };
    let all = sent(values);
    let alone = |v: &String| sent(std::slice::from_ref(v));
    // Runs with one item share their fillers, and nothing else.
    let other_alone = values.last().map_or_else(Vec::new, alone);
    values
        .iter()
        .enumerate()
        .map(|(place, v)| {
            let mut own = alone(v);
            if own.len() > 1 {
                let others = if place + 1 == values.len() {
                    alone(&values[0])
                } else {
                    other_alone.clone()
                };
                own.retain(|p| !others.contains(p));
            }
            let [own] = own[..] else {
                panic!("an item has one point");
            };
            all.iter().position(|p| *p == own).unwrap()
        })
        .collect()
}

/// Pairs of items that stand in one order in the one run and in the other order in the other.
fn inversions(one: &[usize], two: &[usize]) -> usize {
    let n = one.len();
    (0..n)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .filter(|(i, j)| (one[*i] < one[*j]) != (two[*i] < two[*j]))
        .count()
}

/// Orders of two runs have as many inversions as independent ones: n (n - 1) / 4 on average, with a variance of
/// n (n - 1) (2 n + 5) / 72. So has the order of a run against that of the set.
#[test]
fn orders_of_two_runs_are_independent() {
    let values = list(0, 60, 7);
    let n = values.len() as f64;
    let mean = n * (n - 1.0) / 4.0;
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 72.0).sqrt();
    let own: Vec<usize> = (0..values.len()).collect();
    for (computation, side) in [
        (Computation::Cardinality, 0),
        (Computation::Cardinality, 1),
        (Computation::List, 1),
    ] {
        let runs: Vec<Vec<usize>> = (1..5)
            .map(|s| places(computation, side, &values, s))
            .collect();
        for (k, one) in runs.iter().enumerate() {
            for two in runs[..k].iter().chain([&own]) {
                let off = (inversions(one, two) as f64 - mean).abs() / deviation;
                assert!(off < 4.0, "{computation:?}, side {side}: {off} deviations");
            }
        }
    }
    // Where the order is kept by purpose, the test sees it.
    let kept = places(Computation::List, 0, &values, 1);
    assert_eq!(inversions(&kept, &own), 0);
}
