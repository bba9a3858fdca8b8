//! The attacks of docs/attacks.md: their model against real runs of the protocol, and what they recover.

mod common;

#[path = "../examples/attacks.rs"]
mod attacks;

use std::collections::HashSet;
use std::sync::LazyLock;

use attacks::*;
use common::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tally_psi::*;

static TABLE: LazyLock<Vec<Line>> = LazyLock::new(|| table(TRIALS));

/// The victim's machine answers each query, and the attacker's takes its own noise away again.
struct Protocol {
    set: Vec<String>,
    model: Model,
    runs: u64,
}

impl Counter for Protocol {
    fn count(&mut self, query: &[String]) -> Option<i64> {
        self.runs += 1;
        let attacker = [7; 32];
        let mut rng = ChaCha20Rng::seed_from_u64(self.runs);
        let noise = Noise::Laplace(NOISE);
        let open = |peer| params(Computation::Cardinality, noise, peer);
        let (a, b) = (set(query), set(&self.set));
        let (na, nb) = (a.len() as u64, b.len() as u64);
        let theirs = self.model.noise_seed(query);
        let mut i = Initiator::new(open(nb), a, Seeds::new(&mut rng, attacker), sorters()).unwrap();
        let mut r = Responder::new(open(na), b, Seeds::new(&mut rng, theirs), sorters()).unwrap();
        let (report, _) = machine::run_in_memory(&mut i, &mut r).unwrap();
        let Outcome::Published { value } = report.outcome else {
            panic!("no count");
        };
        let own = sample_truncated_laplace(&NOISE, &mut noise_rng(&attacker, b"counter")).unwrap();
        Some(value - own)
    }
}

#[test]
fn the_model_answers_as_the_protocol_does() {
    let protection = Protection {
        noise: Some(NOISE),
        budget: None,
    };
    // Some of the known ones are enough here.
    let mut set: Vec<String> = victim(20, |n| n % 3 == 0).into_iter().collect();
    set.sort();
    set.truncate(150);
    let model = || Model::new(set.iter().cloned().collect(), protection, [3; 32]);
    let mut protocol = Protocol {
        set: set.clone(),
        model: model(),
        runs: 0,
    };
    let (mut one, mut two) = (model(), model());
    for fresh in [false, true] {
        let asked = single_out(&mut protocol, 3, 6, fresh);
        assert_eq!(asked, single_out(&mut one, 3, 6, fresh));
    }
    assert_eq!(bisect(&mut protocol, 20, 1), bisect(&mut two, 20, 1));
    assert!(protocol.runs > 12);
}

#[test]
fn exact_counts_give_everybody_away_and_noise_with_a_budget_does_not() {
    let lines = &*TABLE;
    let right: Vec<f64> = lines[..5].iter().map(|l| l.right).collect();
    // One exact count tells; one with noise of epsilon 0.5 hardly: no guess is right more often than e^0.5 in 1 + e^0.5, 62 %.
    assert_eq!(right[0], 1.0);
    assert!((0.5..0.69).contains(&right[1]), "{right:?}");
    // Asking again brings the same noise. Other known members bring another: without a budget that is the end.
    assert!((right[2] - right[1]).abs() < 1e-9);
    assert!(right[3] > 0.9 && right[4] < 0.82, "{right:?}");
    assert!((lines[4].queries - f64::from(BUDGET)).abs() < 1e-9);
    let [exact, noisy, averaged, budget] = &lines[5..] else {
        panic!("nine lines");
    };
    assert!(exact.found == 1.0 && exact.wrong == 0.0);
    assert!(noisy.found < 0.9 && noisy.wrong > 0.3, "{noisy:?}");
    assert!(
        averaged.found > 0.95 && averaged.wrong < 0.05,
        "{averaged:?}"
    );
    assert!(
        budget.found < 0.3 && budget.queries <= f64::from(BUDGET),
        "{budget:?}"
    );
}

/// What the documentation quotes is what the example prints.
#[test]
fn the_documented_table_is_the_example_s() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/attacks.md");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains(&render(&TABLE)), "{}", render(&TABLE));
}

/// A budget counts different queries, and refuses every further one.
#[test]
fn a_spent_budget_answers_what_it_has_answered() {
    let protection = Protection {
        noise: Some(NOISE),
        budget: Some(2),
    };
    let mut model = Model::new(HashSet::new(), protection, [1; 32]);
    let query = |n: u32| vec![format!("{n}")];
    let first = model.count(&query(1));
    assert!(first.is_some() && model.count(&query(2)).is_some());
    assert_eq!(model.count(&query(3)), None);
    assert_eq!(model.count(&query(1)), first);
}
