//! Items that are shown a page at a time give the very run that a set in memory gives; a source that breaks its word ends it.

mod common;

use common::{params, seeds, set, sorters};
use tally_psi::messages::Role;
use tally_psi::*;

/// Values in memory, shown as if they were elsewhere.
struct Shown(Vec<String>);

impl ItemSource for Shown {
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), Error> {
        let rest = self.0.split_off(max.min(self.0.len()));
        std::mem::replace(&mut self.0, rest)
            .iter()
            .try_for_each(|v| each(v.as_bytes()))
    }
}

fn stream(values: &[String], count: u64) -> ItemStream {
    let source = Box::new(Shown(values.to_vec()));
    ItemStream::new(IdType(1), Profile(1), count, source)
}

fn values(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|i| format!("+86139{i:08}")).collect()
}

fn noise() -> Noise {
    Noise::Laplace(NoiseParams {
        epsilon_micro: 500_000,
        sensitivity: 1,
        bound: 60,
    })
}

type Frames = Vec<(usize, Vec<u8>)>;

/// A count of `a` with `b`; says the result and every frame.
fn run(a: impl Into<Items>, b: impl Into<Items>, counts: [u64; 2], noise: &Noise) -> (i64, Frames) {
    let computation = Computation::Cardinality;
    let open = |role, items: Items, peer, seed| {
        let params = params(computation, *noise, peer);
        machine::open(role, params, items, seeds(seed), sorters()).unwrap()
    };
    let mut a = open(Role::Initiator, a.into(), counts[1], 1);
    let mut b = open(Role::Responder, b.into(), counts[0], 2);
    let (report, transcript) = machine::run_in_memory(&mut *a, &mut *b).unwrap();
    let Outcome::Published { value } = report.outcome else {
        panic!("no count");
    };
    (value, transcript.frames)
}

#[test]
fn a_stream_gives_the_very_bytes_that_a_set_gives() {
    for noise in [Noise::NoneInTestNetwork, noise()] {
        // More than two frames of items, dummies and fillers behind them in the frame of the last items.
        for (a, b) in [(20_000, 9_000), (8192, 8193), (3, 17_000), (1, 1)] {
            let (a, b) = (values(0, a), values(100, 100 + b));
            let counts = [a.len() as u64, b.len() as u64];
            let (value, frames) = run(set(&a), set(&b), counts, &noise);
            let streams = || (stream(&a, counts[0]), stream(&b, counts[1]));
            assert_eq!(
                run(streams().0, streams().1, counts, &noise),
                (value, frames.clone())
            );
            assert_eq!(run(set(&a), streams().1, counts, &noise), (value, frames));
            if matches!(noise, Noise::NoneInTestNetwork) {
                let plain = a.iter().filter(|v| b.contains(v)).count();
                assert_eq!(value, plain as i64);
            }
        }
    }
}

#[test]
fn a_source_that_is_short_or_repeats_itself_ends_the_run() {
    let other = values(0, 50);
    let mut repeated = values(0, 9_000);
    // In one page, and in two, where the sorted points meet.
    for (from, to) in [(7, 8), (7, 8_900)] {
        let kept = std::mem::replace(&mut repeated[to], format!("+86139{from:08}"));
        let mut a = open(stream(&repeated, 9_000), other.len() as u64);
        let mut b = answering(&other);
        let error = machine::run_in_memory(&mut a, &mut b).unwrap_err();
        assert!(
            matches!(error, Error::Count { .. } | Error::Internal { .. }),
            "{error}"
        );
        repeated[to] = kept;
    }
    let mut a = open(stream(&values(0, 8_999), 9_000), 50);
    let mut b = answering(&other);
    let error = machine::run_in_memory(&mut a, &mut b).unwrap_err();
    assert!(matches!(error, Error::Count { found: 807, .. }), "{error}");
}

/// Who answers an initiator that claims 9,000 items.
fn answering(values: &[String]) -> Responder {
    let params = params(Computation::Cardinality, Noise::NoneInTestNetwork, 9_000);
    Responder::new(params, set(values), seeds(2), sorters()).unwrap()
}

fn open(items: ItemStream, peer: u64) -> Initiator {
    let params = params(Computation::Cardinality, Noise::NoneInTestNetwork, peer);
    Initiator::new(params, items, seeds(1), sorters()).unwrap()
}

#[test]
fn who_names_rows_needs_a_set() {
    let refused = |computation, suite, role| {
        let mut params = params(computation, Noise::NoneInTestNetwork, 3);
        params.context.suite = suite;
        let items = stream(&values(0, 3), 3);
        machine::open(role, params, items, seeds(1), sorters())
            .err()
            .unwrap()
    };
    for (suite, role) in [
        (Suite::DhRistrettoV1, Role::Initiator),
        (Suite::VoleRr22V1, Role::Initiator),
        (Suite::VoleRr22V1, Role::Responder),
        (Suite::VoleRr22MaliciousV1, Role::Responder),
    ] {
        let error = refused(Computation::List, suite, role);
        assert!(matches!(error, Error::Invalid { found: 3, .. }), "{error}");
    }
}
