//! Sets, parameters and machines for the scenarios.
#![allow(dead_code)]

use std::collections::HashSet;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tally_psi::*;

pub(crate) fn context(computation: Computation) -> Context {
    Context {
        network: [1; 32],
        suite: Suite::DhRistrettoV1,
        computation,
        session: session_id(&[2; 32], &[3; 32]),
        initiator: Party {
            member: [4; 16],
            node: [5; 32],
        },
        responder: Party {
            member: [6; 16],
            node: [7; 32],
        },
        agreement: [8; 32],
        initiator_root: [9; 32],
        responder_root: [10; 32],
    }
}

pub(crate) fn set<T: AsRef<[u8]>>(values: &[T]) -> ItemSet {
    let mut builder = ItemSetBuilder::new(IdType(1), Profile(1));
    for v in values {
        builder.push(v.as_ref()).unwrap();
    }
    builder.finish().unwrap()
}

pub(crate) fn seeds(n: u64) -> Seeds {
    let mut noise = [0; 32];
    noise[..8].copy_from_slice(&n.to_be_bytes());
    Seeds::new(&mut ChaCha20Rng::seed_from_u64(n), noise)
}

pub(crate) fn params(computation: Computation, noise: Noise, peer: u64) -> Params {
    Params {
        context: context(computation),
        noise,
        peer: PeerCount::Exactly(peer),
    }
}

pub(crate) fn sorters() -> Box<MemorySorters> {
    Box::new(MemorySorters::new(1 << 21))
}

/// Machines of a suite for two value lists and `list`.
pub(crate) fn pair_of<T: AsRef<[u8]>>(
    suite: Suite,
    a: &[T],
    b: &[T],
    seed: u64,
) -> (Box<dyn Machine>, Box<dyn Machine>) {
    let (a, b) = (set(a), set(b));
    let (na, nb) = (a.len() as u64, b.len() as u64);
    let open = |role, peer, set, seed| {
        let mut params = params(Computation::List, Noise::NoneInTestNetwork, peer);
        params.context.suite = suite;
        machine::open(role, params, set, seeds(seed), sorters()).unwrap()
    };
    (
        open(messages::Role::Initiator, nb, a, 2 * seed),
        open(messages::Role::Responder, na, b, 2 * seed + 1),
    )
}

/// Machines for two value lists.
pub(crate) fn pair<T: AsRef<[u8]>>(
    computation: Computation,
    noise: Noise,
    a: &[T],
    b: &[T],
    seed: u64,
) -> (Initiator, Responder) {
    let (a, b) = (set(a), set(b));
    let (na, nb) = (a.len() as u64, b.len() as u64);
    (
        Initiator::new(
            params(computation, noise, nb),
            a,
            seeds(2 * seed),
            sorters(),
        )
        .unwrap(),
        Responder::new(
            params(computation, noise, na),
            b,
            seeds(2 * seed + 1),
            sorters(),
        )
        .unwrap(),
    )
}

pub(crate) fn values(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|i| format!("1390000{i:04}")).collect()
}

/// Values `from..from + n`, in an order of their own.
pub(crate) fn list(from: u64, n: u64, step: u64) -> Vec<String> {
    (0..n)
        .map(|i| format!("+86139{:08}", from + (i * step) % n.max(1)))
        .collect()
}

/// Rows of `a` whose value is in `b`, each value's first row alone.
pub(crate) fn plain_join(a: &[String], b: &[String]) -> Vec<u64> {
    let theirs: HashSet<_> = b.iter().collect();
    let mut once = HashSet::new();
    (0..)
        .zip(a)
        .filter(|(_, v)| theirs.contains(v) && once.insert(*v))
        .map(|(row, _)| row)
        .collect()
}

/// The suites that compute a list.
pub(crate) const LISTS: [Suite; 3] = [
    Suite::DhRistrettoV1,
    Suite::VoleRr22V1,
    Suite::VoleRr22MaliciousV1,
];
