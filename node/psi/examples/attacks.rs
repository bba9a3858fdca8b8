//! What a media company learns of single people by asking for counts, with and without the noise and the budget: prints the table
//! of docs/attacks.md. `cargo run --release -p tally-psi --example attacks`.
//!
//! The attacker is the initiator, who sees more than the published number: it takes its own noise away, so it faces the
//! responder's alone. Its queries are many, so counts come from [`Model`], which adds the responder's noise as its machine does;
//! `tests/attacks.rs` holds the model against real runs of the protocol, and the table against its claims.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use tally_psi::{NoiseParams, SeedRng, sample_truncated_laplace};

/// The agreement's noise: epsilon 0.5, delta 10^-6.
pub(crate) const NOISE: NoiseParams = NoiseParams {
    epsilon_micro: 500_000,
    sensitivity: 1,
    bound: 25,
};
/// Queries that the budget pays for.
pub(crate) const BUDGET: u32 = 8;
/// The smallest set that the agreement allows.
pub(crate) const MIN_SET: usize = 50;

/// Trials of the documented table.
pub(crate) const TRIALS: u32 = 1_000;

/// Answers counts to the attacker.
pub(crate) trait Counter {
    /// How many of `query` the victim has, with the victim's noise; `None` once the budget is spent.
    fn count(&mut self, query: &[String]) -> Option<i64>;
}

/// What protects the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protection {
    /// The noise, or none: exact counts.
    pub(crate) noise: Option<NoiseParams>,
    /// Different queries answered at most.
    pub(crate) budget: Option<u32>,
}

/// The responder of many queries, as an agreement has it: each with its noise, the same query with the same.
pub(crate) struct Model {
    set: HashSet<String>,
    protection: Protection,
    secret: [u8; 32],
    asked: HashSet<[u8; 32]>,
}

impl Model {
    /// A victim with a set; its noise follows from its secret.
    pub(crate) fn new(set: HashSet<String>, protection: Protection, secret: [u8; 32]) -> Self {
        Self {
            set,
            protection,
            secret,
            asked: HashSet::new(),
        }
    }

    /// The seed of the noise: of the secret and the query, as the node makes it of the agreement and both roots.
    pub(crate) fn noise_seed(&self, query: &[String]) -> [u8; 32] {
        let mut sorted: Vec<&String> = query.iter().collect();
        sorted.sort();
        let mut hash = Sha256::new().chain_update(self.secret);
        for value in sorted {
            hash.update(value.len().to_be_bytes());
            hash.update(value);
        }
        hash.finalize().into()
    }
}

/// The generator that the machine of a role draws its noise from.
pub(crate) fn noise_rng(seed: &[u8; 32], role: &[u8]) -> SeedRng {
    let mut out = [0; 32];
    hkdf::Hkdf::<Sha256>::new(None, seed)
        .expand(&[b"tally/psi/v1/noise/", role].concat(), &mut out)
        .expect("32 bytes");
    SeedRng::new(&out)
}

impl Counter for Model {
    fn count(&mut self, query: &[String]) -> Option<i64> {
        let seed = self.noise_seed(query);
        let budget = self.protection.budget.map_or(usize::MAX, |b| b as usize);
        if !self.asked.contains(&seed) && self.asked.len() >= budget {
            return None;
        }
        self.asked.insert(seed);
        let distinct: HashSet<_> = query.iter().collect();
        let found = distinct
            .into_iter()
            .filter(|v| self.set.contains(*v))
            .count();
        let found = i64::try_from(found).expect("small");
        Some(match self.protection.noise {
            None => found,
            Some(noise) => {
                let mut rng = noise_rng(&seed, b"responder");
                found + sample_truncated_laplace(&noise, &mut rng).expect("fixed parameters")
            }
        })
    }
}

/// People by number; those from 1,000 on are known to the attacker to be the victim's.
fn person(n: u32) -> String {
    format!("+86139{n:08}")
}

/// Known members that make a query large enough; another `version` has others.
fn padding(version: u32) -> impl Iterator<Item = String> {
    let size = u32::try_from(MIN_SET).expect("small");
    // Neighbouring versions differ by one person: that is another set, with another noise.
    (version..version + size).map(|n| person(1_000 + n))
}

/// A victim that has each of `candidates` people (numbers from 0) as `is_member` says, and all that are known.
pub(crate) fn victim(candidates: u32, is_member: impl Fn(u32) -> bool) -> HashSet<String> {
    let known = (0..300).map(|n| person(1_000 + n));
    (0..candidates)
        .filter(|n| is_member(*n))
        .map(person)
        .chain(known)
        .collect()
}

/// Known-member padding: one target among people whom the victim is known to have. Asks `queries` times, with the same people or
/// others each time, and says whether the target is there; `None` without any answer. Also the answers that it got.
pub(crate) fn single_out(
    counter: &mut impl Counter,
    target: u32,
    queries: u32,
    fresh: bool,
) -> (Option<bool>, u32) {
    let (mut sum, mut answers) = (0, 0);
    for version in 0..queries {
        let mut query: Vec<String> = padding(if fresh { version } else { 0 }).collect();
        query.push(person(target));
        let Some(count) = counter.count(&query) else {
            break;
        };
        sum += count - i64::try_from(MIN_SET).expect("small");
        answers += 1;
    }
    // Nearer to one than to none.
    let guess = (answers > 0).then_some(2 * sum > i64::from(answers));
    (guess, answers)
}

/// Adaptive bisection: which of `candidates` people the victim has, by counts of ranges that are halved while they seem to hold
/// anybody; each count is the mean of `repeats` queries with different known members beside. Returns the people named, and the queries.
pub(crate) fn bisect(counter: &mut impl Counter, candidates: u32, repeats: u32) -> (Vec<u32>, u32) {
    let mut queries = 0;
    let mut estimate = |from: u32, to: u32| -> Option<i64> {
        let mut sum = 0;
        for version in 0..repeats {
            let mut query: Vec<String> = padding(version).collect();
            query.extend((from..to).map(person));
            sum += counter.count(&query)? - i64::try_from(MIN_SET).expect("small");
            queries += 1;
        }
        // Rounded to the nearest.
        let repeats = i64::from(repeats);
        Some((2 * sum + repeats).div_euclid(2 * repeats))
    };
    let mut named = Vec::new();
    let mut open = vec![(0, candidates)];
    while let Some((from, to)) = open.pop() {
        let Some(count) = estimate(from, to) else {
            break;
        };
        if count <= 0 {
            continue;
        }
        if count >= i64::from(to - from) {
            named.extend(from..to);
        } else {
            let middle = u32::midpoint(from, to);
            open.extend([(middle, to), (from, middle)]);
        }
    }
    (named, queries)
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What is done.
    pub(crate) attack: &'static str,
    /// Against what.
    pub(crate) against: &'static str,
    /// Queries answered, on average.
    pub(crate) queries: f64,
    /// Of targets, the part told rightly; a coin has 0.5.
    pub(crate) right: f64,
    /// Of members, the part found.
    pub(crate) found: f64,
    /// Of the people named, the part that is none.
    pub(crate) wrong: f64,
}

const EXACT: Protection = Protection {
    noise: None,
    budget: None,
};
const NOISY: Protection = Protection {
    noise: Some(NOISE),
    budget: None,
};
const BUDGETED: Protection = Protection {
    noise: Some(NOISE),
    budget: Some(BUDGET),
};

fn secret(trial: u32) -> [u8; 32] {
    Sha256::digest(trial.to_be_bytes()).into()
}

/// Whether person `n` is the victim's in a trial, for one in `of`.
fn drawn(trial: u32, n: u32, of: u32) -> bool {
    let digest = Sha256::digest([trial.to_be_bytes(), n.to_be_bytes()].concat());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).is_multiple_of(of)
}

/// The part of targets told rightly over many trials.
fn single_out_line(
    attack: &'static str,
    against: &'static str,
    protection: Protection,
    queries: u32,
    fresh: bool,
    trials: u32,
) -> Line {
    let (mut right, mut asked) = (0, 0);
    for trial in 0..trials {
        let member = drawn(trial, 0, 2);
        let mut model = Model::new(victim(1, |_| member), protection, secret(trial));
        let (guess, answers) = single_out(&mut model, 0, queries, fresh);
        right += u32::from(guess == Some(member));
        asked += answers;
    }
    let part = f64::from(right) / f64::from(trials);
    Line {
        attack,
        against,
        queries: f64::from(asked) / f64::from(trials),
        right: part,
        found: f64::NAN,
        wrong: f64::NAN,
    }
}

/// People among whom bisection searches; one in eight is the victim's.
const CANDIDATES: u32 = 64;

fn bisect_line(against: &'static str, protection: Protection, repeats: u32, trials: u32) -> Line {
    let (mut members, mut found, mut named, mut right, mut asked) = (0, 0, 0, 0, 0);
    for trial in 0..trials {
        let is_member = |n| drawn(trial, n, 8);
        let mut model = Model::new(victim(CANDIDATES, is_member), protection, secret(trial));
        let (list, queries) = bisect(&mut model, CANDIDATES, repeats);
        let hits = list.iter().filter(|n| is_member(**n)).count();
        members += (0..CANDIDATES).filter(|n| is_member(*n)).count();
        found += hits;
        named += list.len();
        asked += queries;
        let on_list: HashSet<u32> = list.into_iter().collect();
        right += (0..CANDIDATES)
            .filter(|n| is_member(*n) == on_list.contains(n))
            .count();
    }
    let part = |a: usize, b: usize| a as f64 / b.max(1) as f64;
    Line {
        attack: if repeats == 1 {
            "bisection over 64 people"
        } else {
            "bisection, each count 200 times"
        },
        against,
        queries: f64::from(asked) / f64::from(trials),
        right: part(right, trials as usize * CANDIDATES as usize),
        found: part(found, members),
        wrong: part(named - found, named),
    }
}

/// The table; fewer trials are less exact.
pub(crate) fn table(trials: u32) -> Vec<Line> {
    let few = (trials / 20).max(1);
    vec![
        single_out_line(
            "one target among known members",
            "exact counts",
            EXACT,
            1,
            true,
            trials,
        ),
        single_out_line(
            "one target among known members",
            "noise",
            NOISY,
            1,
            true,
            trials,
        ),
        single_out_line(
            "the same query 100 times",
            "noise",
            NOISY,
            100,
            false,
            trials,
        ),
        single_out_line(
            "100 queries, other known members each",
            "noise",
            NOISY,
            100,
            true,
            trials,
        ),
        single_out_line(
            "100 queries, other known members each",
            "noise, budget of 8",
            BUDGETED,
            100,
            true,
            trials,
        ),
        bisect_line("exact counts", EXACT, 1, few),
        bisect_line("noise", NOISY, 1, few),
        bisect_line("noise", NOISY, 200, (few / 5).max(1)),
        bisect_line("noise, budget of 8", BUDGETED, 1, few),
    ]
}

/// The table as it stands in the documentation.
pub(crate) fn render(lines: &[Line]) -> String {
    let mut out = String::from(
        "| attack | against | queries | told rightly | members found | named wrongly |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let percent = |part: f64| {
        if part.is_nan() {
            String::new()
        } else {
            format!("{:.0} %", part * 100.0)
        }
    };
    for l in lines {
        out += &format!(
            "| {} | {} | {:.0} | {} | {} | {} |\n",
            l.attack,
            l.against,
            l.queries,
            percent(l.right),
            percent(l.found),
            percent(l.wrong)
        );
    }
    out
}

#[allow(dead_code)]
fn main() {
    print!("{}", render(&table(TRIALS)));
}
