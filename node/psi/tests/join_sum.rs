//! Private sums against the same sums in the clear; noise, padding, ranges; attribution over the sample journeys.

mod sum_common;

use proptest::prelude::*;
use sum_common::*;
use tally_measure::attribution::{Windows, attribute};
use tally_psi::sum::{
    LabelledSetBuilder, MAX_LABELS, MAX_QUANTITIES, SumInitiator, SumNoise, SumResponder, SumTerms,
    ValueNoise, ValuedSetBuilder,
};
use tally_psi::*;

fn rows(n: u32) -> (Labelled, Valued) {
    let a = (0..n)
        .map(|i| {
            let (label, class) = (i % 3, i % 2);
            (
                format!("k{i}"),
                u16::try_from(label).unwrap(),
                u16::try_from(class).unwrap(),
            )
        })
        .collect();
    let b = (n / 2..n + n / 2)
        .map(|i| (format!("k{i}"), vec![u64::from(i) * 100, 1]))
        .collect();
    (a, b)
}

#[test]
fn sums_equal_the_plain_ones_at_many_sizes() {
    let terms = terms(3, &[2, 5], &[100_000, 1]);
    for n in [0, 1, 2, 3, 8, 9, 40, 300] {
        let (a, b) = rows(n);
        let (mut i, mut r) = pair(&terms, &a, &b, u64::from(n));
        assert_eq!(run(&mut i, &mut r), plain(&terms, &a, &b), "n {n}");
    }
}

#[test]
fn one_side_may_be_empty() {
    let terms = terms(3, &[2, 5], &[100_000, 1]);
    let (a, b) = rows(20);
    for (a, b) in [(vec![], b.clone()), (a, vec![])] {
        let (mut i, mut r) = pair(&terms, &a, &b, 1);
        assert_eq!(run(&mut i, &mut r), [0; 6]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_rows_add_up(
        a in prop::collection::btree_map(0_u16..60, (0_u16..4, 0_u16..3), 0..40),
        b in prop::collection::btree_map(0_u16..60, 0_u64..1000, 0..40),
        seed in 0_u64..1000,
    ) {
        let terms = terms(4, &[1, 60, 420], &[1000]);
        let a: Labelled = a.into_iter().map(|(k, (l, c))| (format!("k{k}"), l, c)).collect();
        let b: Valued = b.into_iter().map(|(k, v)| (format!("k{k}"), vec![v])).collect();
        let (mut i, mut r) = pair(&terms, &a, &b, seed);
        prop_assert_eq!(run(&mut i, &mut r), plain(&terms, &a, &b));
    }
}

#[test]
fn labels_below_their_minimum_go_to_label_0() {
    let mut terms = terms(3, &[1], &[1000]);
    let rows: Labelled = (0..9)
        .map(|i| (format!("k{i}"), if i < 4 { 1 } else { 2 }, 0))
        .collect();
    let values: Valued = (0..9).map(|i| (format!("k{i}"), vec![10 + i])).collect();
    // Label 1 has four people, label 2 five; at, above and below the minimum.
    for (minimum, expected) in [
        ([0, 4, 5], [0, 46, 80]),
        ([0, 5, 5], [46, 0, 80]),
        ([0, 5, 6], [126, 0, 0]),
        ([99, 4, 5], [0, 46, 80]),
    ] {
        terms.minimum_people = minimum.to_vec();
        let (mut i, mut r) = pair(&terms, &rows, &values, 3);
        assert_eq!(run(&mut i, &mut r), expected, "{minimum:?}");
    }
}

/// Frames have the same lengths for all true sizes that share their public ones, matched or not, whatever was drawn.
#[test]
fn frames_of_sums_depend_on_public_sizes_alone() {
    let mut terms = terms(2, &[1, 2], &[100]);
    terms.noise = noise(&terms, 700_000);
    let shape = |first: u64, second: u64, entries: u64, matched: u64, seed| {
        let group = |label: u16, n| (0..n).map(move |k| (format!("{label}-{k}"), label, label));
        let a: Labelled = group(0, first).chain(group(1, second)).collect();
        let b: Valued = (0..entries)
            .map(|k| {
                let met = if k < matched { "0" } else { "x" };
                (format!("{met}-{k}"), vec![k % 100])
            })
            .collect();
        let (mut i, mut r) = pair(&terms, &a, &b, seed);
        let (_, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
        let frames = transcript.frames.iter();
        frames.map(|(side, f)| (*side, f.len())).collect::<Vec<_>>()
    };
    let known = shape(64, 8, 128, 0, 1);
    for (first, second, entries, matched, seed) in [
        (57, 0, 113, 50, 2),
        (60, 3, 120, 60, 3),
        (64, 8, 128, 64, 4),
        (63, 1, 127, 1, 5),
    ] {
        assert_eq!(shape(first, second, entries, matched, seed), known);
    }
    assert_ne!(shape(65, 8, 128, 0, 6), known);
    assert_ne!(shape(64, 9, 128, 0, 7), known);
    assert_ne!(shape(64, 8, 129, 0, 8), known);
}

/// Both noises together: the published sum of an empty label, over many runs, follows the sum of two truncated Laplace variables.
#[test]
fn published_noise_is_that_of_two_sides() {
    let mut terms = terms(1, &[1], &[1]);
    let values = ValueNoise {
        epsilon_micro: 700_000,
        sensitivity: 1,
        bound: 6,
    };
    terms.noise = SumNoise::Laplace {
        matches: NoiseParams {
            epsilon_micro: 700_000,
            sensitivity: 1,
            bound: 2,
        },
        values: vec![values],
    };
    let a: Labelled = vec![("k1".into(), 0, 0), ("k2".into(), 0, 0)];
    let b: Valued = vec![("k2".into(), vec![1]), ("k3".into(), vec![1])];
    let runs = 800;
    let mut seen = [0_f64; 25];
    let mut sizes = std::collections::BTreeSet::new();
    for seed in 0..runs {
        let (mut i, mut r) = pair(&terms, &a, &b, seed);
        let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
        let Outcome::Sums { values } = report.outcome else {
            panic!("no sums");
        };
        // One is the true sum.
        seen[usize::try_from(values[0] - 1 + 12).unwrap()] += 1.0;
        let of: Vec<usize> = transcript.frames.iter().map(|(_, f)| f.len()).collect();
        sizes.insert(of);
    }
    assert_eq!(sizes.len(), 1, "byte counts do not depend on any draw");
    let a = (-0.7_f64).exp();
    let one: Vec<f64> = (-6_i32..=6).map(|z| a.powi(z.abs())).collect();
    let total: f64 = one.iter().sum();
    let mut both = [0.0; 25];
    for (x, p) in one.iter().enumerate() {
        for (y, q) in one.iter().enumerate() {
            both[x + y] += p * q / total / total;
        }
    }
    let (mut chi, mut cells, mut rest) = (0.0, 0.0, (0.0, 0.0));
    #[allow(clippy::cast_precision_loss)]
    for (p, s) in both.iter().zip(&seen) {
        let expected = p * runs as f64;
        if expected < 15.0 {
            rest = (rest.0 + expected, rest.1 + s);
        } else {
            chi += (s - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    chi += (rest.1 - rest.0).powi(2) / rest.0.max(1.0);
    assert!(
        chi < cells + 5.0 * (2.0_f64 * cells).sqrt(),
        "chi-square {chi} over {cells} cells"
    );
}

#[test]
fn the_same_query_draws_the_same_noise_and_another_side_draws_another() {
    let mut terms = terms(3, &[1], &[500]);
    terms.noise = noise(&terms, 500_000);
    let (a, b): (Labelled, Valued) = (vec![("k".into(), 1, 0)], vec![("k".into(), vec![77])]);
    let of = |session, noise_a: u64, noise_b: u64| {
        let seeds = |n: u64, s: u8| {
            let mut noise = [0; 32];
            noise[..8].copy_from_slice(&n.to_be_bytes());
            Seeds::from_parts([s; 32], noise)
        };
        let mut i = SumInitiator::new(
            params(&terms, session),
            labelled(&terms, &a),
            seeds(noise_a, session),
        )
        .unwrap();
        let mut r = SumResponder::new(
            params(&terms, session),
            valued(&terms, &b),
            seeds(noise_b, session + 100),
        )
        .unwrap();
        run(&mut i, &mut r)
    };
    let first = of(1, 1, 2);
    assert_eq!(of(9, 1, 2), first, "another session averages nothing out");
    // Every label is noised, also those with nothing in them; each side's draw counts.
    assert_ne!(of(1, 3, 2), first);
    assert_ne!(of(1, 1, 3), first);
    assert!(first[0] != 0 || first[2] != 0);
    let SumNoise::Laplace { values, .. } = &terms.noise else {
        panic!("no noise");
    };
    let bound = 2 * i64::try_from(values[0].bound).unwrap();
    for (sum, exact) in first.iter().zip([0, 77, 0]) {
        assert!((sum - exact).abs() <= bound);
    }
}

/// What two runs of the same sets send has nothing in common: no element, tag or ciphertext, also of an empty label.
#[test]
fn two_sessions_share_no_element() {
    let terms = terms(2, &[1], &[500]);
    let (a, b) = (vec![("k".into(), 1, 0)], vec![("k".into(), vec![77])]);
    let rows = |session: u8| {
        let mut i = SumInitiator::new(
            params(&terms, session),
            labelled(&terms, &a),
            seeds(session.into()),
        )
        .unwrap();
        let mut r = SumResponder::new(
            params(&terms, session),
            valued(&terms, &b),
            seeds(u64::from(session) + 50),
        )
        .unwrap();
        let (_, t) = machine::run_in_memory(&mut i, &mut r).unwrap();
        let mut rows = std::collections::HashSet::new();
        for (_, frame) in t.frames {
            match messages::HEADER_BYTES {
                h if [2, 33, 34].contains(&frame[0]) => {
                    rows.extend(frame[h..].chunks_exact(32).map(<[u8]>::to_vec));
                }
                h if frame[0] == 35 => {
                    rows.extend(frame[h + 4..].chunks_exact(32).map(<[u8]>::to_vec));
                }
                _ => {}
            }
        }
        rows
    };
    let (one, two) = (rows(1), rows(2));
    assert!(one.len() > 20);
    assert!(one.is_disjoint(&two));
}

#[test]
fn sums_that_could_leave_the_range_are_refused_at_set_up() {
    let good = terms(2, &[420], &[1 << 20]);
    assert!(good.verify().is_ok());
    // 2^40 / (420 * 2^20) is 2496: of the padded sizes, 2048 and 2560 lie on its two sides.
    let b = |n: u32| -> Valued { (0..n).map(|i| (format!("k{i}"), vec![1])).collect() };
    let set = |n: u32| {
        let mut set = ValuedSetBuilder::new(IdType(1), Profile(1), 1);
        for (key, values) in b(n) {
            set.push(key.as_bytes(), &values).unwrap();
        }
        set.finish(&good, n.into())
    };
    assert!(set(2048).is_ok());
    assert!(matches!(
        set(2049),
        Err(Error::SumRange {
            bits: 41,
            max_bits: 40
        })
    ));
    // The noise's room counts too: twice a bound just below 2^39 leaves none for a sum.
    let mut noisy = terms(2, &[1], &[1]);
    noisy.noise = noise(&noisy, 500_000);
    let with_bound = |bound| {
        let mut t = noisy.clone();
        if let SumNoise::Laplace { values, .. } = &mut t.noise {
            values[0].bound = bound;
        }
        t.verify()
    };
    assert!(with_bound((1 << 39) - 1).is_ok());
    assert!(matches!(with_bound(1 << 39), Err(Error::SumRange { .. })));
    assert!(matches!(with_bound(1 << 40), Err(Error::Noise { .. })));
    // The label side refuses by the hello, before it blinds.
    let (a, values) = (vec![("k".into(), 1, 0)], b(3));
    let mut i = SumInitiator::new(params(&good, 2), labelled(&good, &a), seeds(1)).unwrap();
    assert!(matches!(i.poll(), Ok(Output::Send(_))));
    let hello = messages_of_hello(&good, 2560);
    assert!(matches!(i.input(&hello), Err(Error::SumRange { .. })));
    drop(values);
}

fn messages_of_hello(terms: &SumTerms, entries: u64) -> Vec<u8> {
    use tally_psi::sum::messages::{Sizes, SumHello, SumMessage};
    // The digest is in an honest responder's hello.
    let mut r = SumResponder::new(params(terms, 2), valued(terms, &vec![]), seeds(4)).unwrap();
    let mut i = SumInitiator::new(params(terms, 2), labelled(terms, &vec![]), seeds(5)).unwrap();
    let Ok(Output::Send(first)) = i.poll() else {
        panic!("no hello");
    };
    r.input(&first).unwrap();
    let Ok(Output::Send(answer)) = r.poll() else {
        panic!("no hello");
    };
    let SumMessage::Hello(hello) = SumMessage::decode(&answer).unwrap() else {
        panic!("no hello");
    };
    SumMessage::Hello(SumHello {
        sizes: Sizes::Entries(entries),
        ..hello
    })
    .encode()
    .unwrap()
}

#[test]
fn terms_and_sets_that_do_not_fit_are_refused() {
    let good = terms(2, &[1, 2], &[100]);
    let bad = |change: &dyn Fn(&mut SumTerms)| {
        let mut t = good.clone();
        change(&mut t);
        assert!(t.verify().is_err(), "{t:?}");
        assert!(SumInitiator::new(params(&t, 1), labelled(&good, &vec![]), seeds(1)).is_err());
        assert!(SumResponder::new(params(&t, 1), valued(&good, &vec![]), seeds(1)).is_err());
    };
    bad(&|t| t.minimum_people.clear());
    bad(&|t| t.minimum_people = vec![0; MAX_LABELS + 1]);
    bad(&|t| t.weights.clear());
    bad(&|t| t.weights = vec![2, 1]);
    bad(&|t| t.weights = vec![0, 1]);
    bad(&|t| t.weights = vec![1, 3]);
    bad(&|t| t.value_caps.clear());
    bad(&|t| t.value_caps = vec![0]);
    bad(&|t| t.value_caps = vec![1; MAX_QUANTITIES + 1]);
    bad(&|t| t.slots = 2);
    bad(&|t| t.max_label_rows = u64::MAX);
    bad(&|t| t.max_entries = u64::MAX);
    // Noise below what one person can change, in matches and in sums.
    let noisy = |t: &mut SumTerms| {
        t.noise = noise(t, 500_000);
    };
    bad(&|t| {
        noisy(t);
        t.entries_per_person = 2;
    });
    bad(&|t| {
        noisy(t);
        t.value_caps = vec![101];
    });
    bad(&|t| {
        noisy(t);
        t.value_caps = vec![100, 1];
    });
    let push = |label, class, twice: bool| {
        let mut set = LabelledSetBuilder::new(IdType(1), Profile(1));
        set.push(label, class, b"k").unwrap();
        if twice {
            set.push(1, 0, b"k").unwrap();
        }
        set.finish(&good, &[1, 1]).map(|_| ())
    };
    assert!(push(1, 1, false).is_ok());
    assert!(matches!(push(2, 0, false), Err(Error::Terms { .. })));
    assert!(matches!(push(0, 2, false), Err(Error::Terms { .. })));
    assert!(matches!(push(0, 0, true), Err(Error::Duplicate { .. })));
    let mut set = ValuedSetBuilder::new(IdType(1), Profile(1), 1);
    set.push(b"k", &[101]).unwrap();
    assert!(set.push(b"l", &[]).is_err());
    assert!(matches!(set.finish(&good, 1), Err(Error::TooLong { .. })));
    let mut set = ValuedSetBuilder::new(IdType(1), Profile(1), 1);
    set.push(b"k", &[1]).unwrap();
    // One row, no entry.
    assert!(matches!(set.finish(&good, 0), Err(Error::TooLong { .. })));
}

#[test]
fn sizes_are_padded_by_at_most_a_quarter() {
    assert_eq!(
        [0, 1, 8, 9, 10, 11, 17, 4097].map(public_size),
        [8, 8, 8, 10, 10, 12, 20, 5120]
    );
    for n in 1..20_000_u64 {
        let b = public_size(n);
        assert!(b >= n && (n <= 8 || b * 4 <= n * 5 + 4), "{n} {b}");
        assert_eq!(public_size(b), b);
    }
}

/// A slice of the sample: every 80th person for linear, every 20th for the others; equal to the plain reference, and with noise
/// within its bounds.
#[test]
fn attribution_over_journeys_equals_the_reference() {
    let windows = Windows::click_7_view_1();
    for (model, step) in [
        (tally_measure::attribution::SumModel::LastTouch, 20),
        (tally_measure::attribution::SumModel::First, 20),
        (LINEAR, 80),
    ] {
        let Some((touches, conversions, labels)) = journeys(|n| n % step == 0) else {
            return;
        };
        let mut terms = attribution_terms(&labels, &model, &windows);
        let reference =
            attribute(&touches, &conversions, labels.count(), &model, &windows).unwrap();
        assert!(reference.iter().sum::<u64>() > 0);
        let sums = |terms: &SumTerms| {
            let mut i = SumInitiator::new(
                params(terms, 1),
                media_set(&touches, terms, &model, &windows),
                seeds(1),
            )
            .unwrap();
            let mut r = SumResponder::new(
                params(terms, 1),
                brand_set(&conversions, terms, &model, &windows),
                seeds(2),
            )
            .unwrap();
            run(&mut i, &mut r)
        };
        let exact: Vec<i64> = reference
            .iter()
            .map(|v| i64::try_from(*v).unwrap())
            .collect();
        assert_eq!(sums(&terms), exact, "{model}");
        if model == LINEAR {
            continue;
        }
        terms.noise = noise(&terms, 1_000_000);
        let SumNoise::Laplace { values, .. } = &terms.noise else {
            panic!("no noise");
        };
        let bound = 2 * i64::try_from(values[0].bound).unwrap();
        let noised = sums(&terms);
        assert_ne!(noised, exact);
        for (n, e) in noised.iter().zip(&exact) {
            assert!((n - e).abs() <= bound);
        }
    }
}
