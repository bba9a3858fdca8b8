//! `overlap_n` in memory: exact without noise, what each side sees, the noise's distribution, and what is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tally_psi::overlap::*;
use tally_psi::*;

fn party(n: u8) -> Party {
    Party {
        member: [n; 16],
        node: [n; 32],
    }
}

fn terms(parties: u8, noise: OverlapNoise) -> OverlapTerms {
    OverlapTerms {
        network: [1; 32],
        session: [2; 32],
        parties: (10..10 + parties).map(party).collect(),
        helper: Some(party(99)),
        agreement: [3; 32],
        roots: (0..parties).map(|n| [n; 32]).collect(),
        noise,
        max_items: 1 << 20,
        min_result: 0,
    }
}

const SMALL: OverlapNoise = OverlapNoise::Laplace {
    regions: NoiseParams {
        epsilon_micro: 1_000_000,
        sensitivity: 2,
        bound: 6,
    },
    published: NoiseParams {
        epsilon_micro: 1_000_000,
        sensitivity: 1,
        bound: 4,
    },
};

fn set(values: &[u32]) -> ItemSet {
    let mut builder = ItemSetBuilder::new(IdType(1), Profile(1));
    for v in values {
        builder.push(format!("+86139{v:08}").as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

fn seeds(session: u64, noise: u64) -> Seeds {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&noise.to_be_bytes());
    Seeds::new(&mut ChaCha20Rng::seed_from_u64(session), bytes)
}

fn sorters() -> Box<MemorySorters> {
    Box::new(MemorySorters::new(1 << 21))
}

fn machines(
    terms: &OverlapTerms,
    sets: &[Vec<u32>],
    session: u64,
    noise: u64,
) -> (Vec<OverlapParty>, OverlapHelper) {
    let items = sets.iter().map(|values| set(values).into()).collect();
    machines_of(terms, items, session, noise)
}

fn machines_of(
    terms: &OverlapTerms,
    items: Vec<Items>,
    session: u64,
    noise: u64,
) -> (Vec<OverlapParty>, OverlapHelper) {
    let at = |i: usize| i as u64 + 1;
    let parties = items
        .into_iter()
        .enumerate()
        .map(|(i, items)| {
            let seeds = seeds(session * 100 + at(i), noise * 100 + at(i));
            OverlapParty::new(terms.clone(), i, items, seeds, sorters()).unwrap()
        })
        .collect();
    let seeds = seeds(session * 100, noise * 100);
    let helper = OverlapHelper::new(terms.clone(), seeds, sorters()).unwrap();
    (parties, helper)
}

fn run(terms: &OverlapTerms, sets: &[Vec<u32>], session: u64, noise: u64) -> OverlapTranscript {
    run_of(machines(terms, sets, session, noise))
}

fn run_of((mut parties, mut helper): (Vec<OverlapParty>, OverlapHelper)) -> OverlapTranscript {
    let mut parties: Vec<&mut dyn OverlapMachine> = parties
        .iter_mut()
        .map(|p| p as &mut dyn OverlapMachine)
        .collect();
    run_overlap_in_memory(&mut parties, &mut helper).unwrap()
}

/// Values in memory, shown as if they were elsewhere.
struct Shown(VecDeque<u32>);

impl ItemSource for Shown {
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), Error> {
        let many = max.min(self.0.len());
        self.0
            .drain(..many)
            .try_for_each(|v| each(format!("+86139{v:08}").as_bytes()))
    }
}

#[test]
fn lists_that_are_streams_give_the_very_bytes_that_sets_give() {
    // Two frames of pseudonyms and more, one, and none.
    let most = 2 * u32::try_from(messages::ROWS_PER_FRAME).unwrap() + 77;
    let sets: Vec<Vec<u32>> = vec![(0..most).collect(), (most / 2..most + 90).collect(), vec![]];
    for noise in [OverlapNoise::NoneInTestNetwork, SMALL] {
        let terms = terms(3, noise);
        let streams = sets.iter().map(|values| {
            let source = Box::new(Shown(values.iter().copied().collect()));
            ItemStream::new(IdType(1), Profile(1), values.len() as u64, source).into()
        });
        let streamed = run_of(machines_of(&terms, streams.collect(), 1, 2));
        assert!(streamed.frames == run(&terms, &sets, 1, 2).frames);
    }
}

fn in_all(sets: &[Vec<u32>]) -> i64 {
    let sets: Vec<HashSet<u32>> = sets.iter().map(|s| s.iter().copied().collect()).collect();
    let common = sets[0]
        .iter()
        .filter(|v| sets.iter().all(|s| s.contains(v)));
    i64::try_from(common.count()).unwrap()
}

/// Every pseudonym, and the lists that have it: all that the helper can make of what it gets.
fn view_of_helper(transcript: &OverlapTranscript) -> HashMap<[u8; PSEUDONYM_BYTES], u32> {
    let mut view = HashMap::new();
    for (from, to, frame) in &transcript.frames {
        let (Peer::Party(i), Peer::Helper) = (from, to) else {
            continue;
        };
        if let Ok(OverlapMessage::Pseudonyms(bytes)) = OverlapMessage::decode(frame) {
            for p in bytes.as_chunks::<PSEUDONYM_BYTES>().0 {
                *view.entry(*p).or_insert(0) |= 1 << i;
            }
        }
    }
    view
}

fn regions(view: &HashMap<[u8; PSEUDONYM_BYTES], u32>) -> BTreeMap<u32, i64> {
    let mut counts = BTreeMap::new();
    for set in view.values() {
        *counts.entry(*set).or_insert(0) += 1;
    }
    counts
}

#[test]
fn without_noise_the_count_is_that_of_a_plain_join() {
    let cases: Vec<Vec<Vec<u32>>> = vec![
        vec![vec![], vec![], vec![]],
        vec![vec![1], vec![1], vec![1]],
        vec![vec![1], vec![1], vec![2]],
        vec![vec![], (0..100).collect(), (0..100).collect()],
        vec![(0..100).collect(), (50..150).collect(), (75..175).collect()],
        // Pairs share much, all three nothing.
        vec![
            (0..20).collect(),
            (10..30).collect(),
            (20..30).chain(0..10).collect(),
        ],
        // One contained in the next, very unequal, repeats in the input.
        vec![
            vec![7, 7, 8, 9, 7],
            (0..1_000).collect(),
            (0..20_000).collect(),
        ],
        vec![
            (0..9_000).collect(),
            (0..18_000).step_by(2).collect(),
            (0..27_000).step_by(3).collect(),
            (0..45_000).step_by(5).collect(),
        ],
        vec![(0..8_193).collect(); 4],
        (0..5).map(|i| (i * 10..i * 10 + 60).collect()).collect(),
        (0..8).map(|i| (i..40 - i).collect()).collect(),
    ];
    for sets in cases {
        let parties = u8::try_from(sets.len()).unwrap();
        let transcript = run(
            &terms(parties, OverlapNoise::NoneInTestNetwork),
            &sets,
            1,
            1,
        );
        let expected = in_all(&sets);
        assert_eq!(transcript.reports.len(), sets.len() + 1);
        for report in &transcript.reports {
            assert_eq!(report.published.value, expected);
            assert_eq!(report.statement, transcript.reports[0].statement);
        }
        assert_eq!(transcript.reports[sets.len()].seals.len(), sets.len());
    }
}

/// What the helper sees, held against the truth: padded sizes; for each set of two or more parties the number of people that exactly
/// those share, plus a draw that it does not know; and nothing that a pseudonym could be made from.
#[test]
fn the_helper_sees_padded_sizes_and_noisy_numbers() {
    let sets: Vec<Vec<u32>> = vec![
        (0..100).collect(),
        (50..160).collect(),
        (75..140).collect(),
        (0..90).collect(),
    ];
    let terms = terms(4, SMALL);
    let mut truth = BTreeMap::new();
    for v in 0..160 {
        let lists = (0..4).filter(|i| sets[*i].contains(&v));
        *truth.entry(lists.fold(0, |m, i| m | 1 << i)).or_insert(0) += 1;
    }
    let mut draws = BTreeSet::new();
    let mut sizes = BTreeSet::new();
    for noise in 0..40 {
        let transcript = run(&terms, &sets, noise, noise);
        let seen = regions(&view_of_helper(&transcript));
        let mut drawn = Vec::new();
        for set in (0_u32..16).filter(|s| s.count_ones() >= 2) {
            let draw = seen.get(&set).unwrap_or(&0) - truth.get(&set).unwrap_or(&0);
            assert!((0..=12).contains(&draw), "{set:b}: {draw}");
            drawn.push(draw);
        }
        // Sums over sets do not cancel the draws either.
        draws.insert(drawn.iter().sum::<i64>());
        assert!(drawn.iter().collect::<BTreeSet<_>>().len() > 1);
        let lengths: Vec<(Peer2, Peer2, usize)> = transcript
            .frames
            .iter()
            .map(|(from, to, frame)| (number(*from), number(*to), frame.len()))
            .collect();
        sizes.insert(lengths);
        // Sizes: a party of 100 items is one of 112, and has 7 pools of 12.
        let counts: Vec<u64> = transcript.reports[0]
            .statement
            .streams
            .iter()
            .map(|(count, _)| *count)
            .collect();
        assert_eq!(counts, [112 + 84, 112 + 84, 80 + 84, 96 + 84]);
        // Nobody holds the exact number: the helper's own noise is on top of the parties'.
        for report in &transcript.reports {
            let seen_by_helper = seen.get(&15).unwrap_or(&0) - 6;
            assert!((report.published.value - seen_by_helper).abs() <= 4);
        }
    }
    assert!(draws.len() > 10, "{draws:?}");
    assert_eq!(sizes.len(), 1, "frames and their sizes tell nothing");
}

type Peer2 = usize;

fn number(peer: Peer) -> Peer2 {
    match peer {
        Peer::Party(i) => i,
        Peer::Helper => 255,
    }
}

/// No share of the key reaches the helper, no pseudonym a party, and a party gets nothing of the others but a share and the result.
#[test]
fn who_gets_which_frames() {
    let sets: Vec<Vec<u32>> = (0..5).map(|i| (i * 10..i * 10 + 60).collect()).collect();
    let transcript = run(&terms(5, SMALL), &sets, 3, 3);
    for (from, to, frame) in &transcript.frames {
        let name = OverlapMessage::decode(frame).ok().unwrap().name();
        let allowed: &[&str] = match (from, to) {
            (Peer::Party(_), Peer::Helper) => &["hello", "pseudonyms", "end", "ack"],
            (Peer::Helper, Peer::Party(_)) => &["hello", "published", "final"],
            (Peer::Party(a), Peer::Party(b)) if a != b => &["share"],
            _ => &[],
        };
        assert!(allowed.contains(&name), "{from:?} to {to:?}: {name}");
        // Identifiers are in no frame.
        assert!(!frame.windows(6).any(|w| w == b"+86139"));
    }
    let shares: Vec<&Vec<u8>> = transcript
        .frames
        .iter()
        .filter(|(_, to, _)| *to != Peer::Helper)
        .filter(|(from, _, _)| *from != Peer::Helper)
        .map(|(_, _, frame)| frame)
        .collect();
    assert_eq!(shares.len(), 20);
    for (_, to, frame) in &transcript.frames {
        if *to == Peer::Helper {
            for share in &shares {
                // Version and digest of the terms are public; both shares follow.
                for part in share[38..].chunks(16) {
                    assert!(!frame.windows(16).any(|w| w == part));
                }
            }
        }
    }
}

/// A helper cannot link two sessions: the key is fresh. Asking again draws the same noise, so it does not average out.
#[test]
fn sessions_share_no_pseudonym_and_repeats_share_the_noise() {
    let sets: Vec<Vec<u32>> = vec![(0..40).collect(); 3];
    let first = run(&terms(3, SMALL), &sets, 1, 9);
    let mut second_terms = terms(3, SMALL);
    second_terms.session = [7; 32];
    let second = run(&second_terms, &sets, 2, 9);
    assert_eq!(
        first.reports[0].published.value,
        second.reports[0].published.value
    );
    let (a, b) = (view_of_helper(&first), view_of_helper(&second));
    assert_eq!(regions(&a), regions(&b));
    assert!(a.keys().all(|p| !b.contains_key(p)));
    let other: BTreeSet<i64> = (0..30)
        .map(|noise| {
            run(&terms(3, SMALL), &sets, 1, noise).reports[0]
                .published
                .value
        })
        .collect();
    assert!(other.len() > 4, "{other:?}");
}

/// A count below the smallest result never leaves the helper: all of them look alike, from 0 on.
#[test]
fn counts_below_the_smallest_result_look_alike() {
    let common = |n: u32| -> Vec<Vec<u32>> {
        (0..3_u32)
            .map(|i| {
                (0..n)
                    .chain(1_000 * (i + 1)..1_000 * (i + 1) + 20)
                    .collect()
            })
            .collect()
    };
    let mut terms = terms(3, OverlapNoise::NoneInTestNetwork);
    terms.min_result = 5;
    for (n, expected) in [(0, 4), (1, 4), (4, 4), (5, 5), (6, 6)] {
        for report in run(&terms, &common(n), 1, 1).reports {
            assert_eq!(report.published.value, expected);
        }
    }
    // The salt is the helper's, the same for all, and another in every session.
    let salt = |session| {
        let reports = run(&terms, &common(6), session, 1).reports;
        assert!(reports.iter().all(|r| r.published == reports[0].published));
        reports[0].published.salt
    };
    assert_ne!(salt(1), salt(2));
}

/// Published minus true is the sum of both draws: chi-square against the distribution, computed from its definition.
#[test]
fn the_noise_follows_its_distribution() {
    let sets: Vec<Vec<u32>> = vec![vec![1, 2], vec![2, 3], vec![2, 4]];
    let terms = terms(3, SMALL);
    let weights = |b: i64, d: f64| {
        let w: Vec<f64> = (-b..=b).map(|z| (-(z.abs() as f64) / d).exp()).collect();
        let total: f64 = w.iter().sum();
        w.into_iter().map(move |w| w / total).collect::<Vec<_>>()
    };
    let (regions, published) = (weights(6, 2.0), weights(4, 1.0));
    let mut expected = [0.0; 21];
    for (i, p) in regions.iter().enumerate() {
        for (j, q) in published.iter().enumerate() {
            expected[i + j] += p * q;
        }
    }
    let runs = 3_000_u32;
    let mut found = [0_u32; 21];
    for noise in 0..runs {
        let value = run(&terms, &sets, 1, noise.into()).reports[0]
            .published
            .value;
        found[usize::try_from(value - 1 + 10).unwrap()] += 1;
    }
    // The rare ends count as one.
    let (mut chi, mut cells, mut rare) = (0.0, 0, (0.0, 0.0));
    for (p, n) in expected.iter().zip(found) {
        let e = p * f64::from(runs);
        if e < 8.0 {
            rare = (rare.0 + e, rare.1 + f64::from(n));
        } else {
            chi += (f64::from(n) - e).powi(2) / e;
            cells += 1;
        }
    }
    chi += (rare.1 - rare.0).powi(2) / rare.0;
    println!("chi-square {chi:.1} over {} cells", cells + 1);
    // 99.99 percent of 20 degrees of freedom are below 52.4; the seeds are fixed.
    assert!(cells >= 11 && chi < 45.0, "{chi}");
}

#[test]
fn terms_are_refused_that_do_not_fit() {
    let good = terms(3, SMALL);
    let refused = |change: &dyn Fn(&mut OverlapTerms), why: &str| {
        let mut terms = good.clone();
        change(&mut terms);
        let party = OverlapParty::new(terms.clone(), 0, set(&[1]), seeds(1, 1), sorters());
        let helper = OverlapHelper::new(terms.clone(), seeds(1, 1), sorters());
        for error in [party.err(), helper.err()] {
            let text = error.unwrap().to_string();
            assert!(text.contains(why), "{text}");
        }
    };
    assert!(good.verify().is_ok());
    refused(&|t| t.helper = None, "no helper is agreed");
    refused(
        &|t| t.helper = Some(t.parties[1]),
        "helper is one of the parties",
    );
    refused(
        &|t| t.parties[1].member = t.parties[0].member,
        "named twice",
    );
    refused(&|t| t.parties.truncate(2), "three to eight");
    refused(
        &|t| {
            t.parties = (10..19).map(party).collect();
            t.roots = vec![[0; 32]; 9];
        },
        "three to eight",
    );
    refused(&|t| t.roots.truncate(2), "committed set");
    refused(&|t| t.max_items = 0, "bound on items");
    refused(
        &|t| {
            if let OverlapNoise::Laplace { regions, .. } = &mut t.noise {
                regions.sensitivity = 1;
            }
        },
        "twice the sensitivity",
    );
    refused(
        &|t| {
            if let OverlapNoise::Laplace { regions, .. } = &mut t.noise {
                regions.bound = 1 << 20;
            }
            t.parties = (10..18).map(party).collect();
            t.roots = vec![[0; 32]; 8];
        },
        "pools of dummies",
    );
    let mut small = good.clone();
    small.max_items = 1;
    assert!(OverlapParty::new(small, 0, set(&[1, 2]), seeds(1, 1), sorters()).is_err());
    assert!(OverlapParty::new(good, 3, set(&[1]), seeds(1, 1), sorters()).is_err());
}

/// Every field of the terms is in their digest.
#[test]
fn the_digest_binds_every_field() {
    let base = terms(3, SMALL);
    let changes: [&dyn Fn(&mut OverlapTerms); 9] = [
        &|t| t.network[0] ^= 1,
        &|t| t.session[0] ^= 1,
        &|t| t.parties.swap(0, 1),
        &|t| t.helper = Some(party(98)),
        &|t| t.agreement[0] ^= 1,
        &|t| t.roots[2][5] ^= 1,
        &|t| t.max_items += 1,
        &|t| t.noise = OverlapNoise::NoneInTestNetwork,
        &|t| {
            if let OverlapNoise::Laplace { published, .. } = &mut t.noise {
                published.bound += 1;
            }
        },
    ];
    let mut seen = BTreeSet::from([base.digest()]);
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        assert!(seen.insert(other.digest()));
    }
}

/// A run whose frames pass `tamper`, which may change, drop (`None`) or leave them. Returns who reported success, the helper last, and
/// the first error.
fn tampered(
    terms: &OverlapTerms,
    sets: &[Vec<u32>],
    mut tamper: impl FnMut(usize, Peer, Peer, Vec<u8>) -> Option<Vec<u8>>,
) -> (Vec<bool>, Option<Error>) {
    let (mut parties, mut helper) = machines(terms, sets, 1, 1);
    let n = sets.len();
    let mut machines: Vec<&mut dyn OverlapMachine> = parties
        .iter_mut()
        .map(|p| p as &mut dyn OverlapMachine)
        .collect();
    machines.push(&mut helper);
    let mut inboxes = vec![VecDeque::new(); n + 1];
    let mut done = vec![false; n + 1];
    let (mut sent, mut error) = (0, None);
    let mut dead = vec![false; n + 1];
    loop {
        let mut moved = false;
        for at in 0..=n {
            let me = if at == n {
                Peer::Helper
            } else {
                Peer::Party(at)
            };
            while !done[at] && !dead[at] {
                let machine = &mut machines[at];
                let step = match machine.poll() {
                    Ok(OverlapOutput::Send { to, frame }) => {
                        let place = if to == Peer::Helper { n } else { number(to) };
                        if let Some(frame) = tamper(sent, me, to, frame.to_vec()) {
                            inboxes[place].push_back((me, frame));
                        }
                        sent += 1;
                        Ok(())
                    }
                    Ok(OverlapOutput::Progress(_)) => Ok(()),
                    Ok(OverlapOutput::NeedFrame) => match inboxes[at].pop_front() {
                        Some((from, frame)) => machine.input(from, &frame),
                        None => break,
                    },
                    Ok(OverlapOutput::NeedSeal(_)) => machine.seal(vec![]),
                    Ok(OverlapOutput::CheckSeal { .. }) => machine.accept_seal(),
                    Ok(OverlapOutput::NeedRelease(_)) => machine.release(),
                    Ok(OverlapOutput::Done(_)) => {
                        done[at] = true;
                        Ok(())
                    }
                    Err(e) => Err(e),
                };
                if let Err(e) = step {
                    dead[at] = true;
                    error.get_or_insert(e);
                }
                moved = true;
            }
        }
        if !moved {
            return (done, error);
        }
    }
}

#[test]
fn a_run_cut_behind_any_frame_never_splits_success_wrongly() {
    let sets: Vec<Vec<u32>> = vec![(0..10).collect(); 3];
    let terms = terms(3, SMALL);
    let mut total = 0;
    let (done, error) = tampered(&terms, &sets, |i, _, _, f| {
        total = i + 1;
        Some(f)
    });
    assert!(done.iter().all(|d| *d) && error.is_none());
    for cut in 0..total {
        let (done, error) = tampered(&terms, &sets, |i, _, _, f| (i < cut).then_some(f));
        assert!(error.is_none());
        // A party succeeds only once the helper has every party's ack; so every party holds the count by then.
        let helper = done[3];
        assert!(helper || done[..3].iter().all(|d| !d), "cut at {cut}");
        // Only the finals come after the helper's success.
        assert_eq!(helper, cut >= total - 3, "cut at {cut} of {total}");
    }
}

/// Any bit of any frame changed: an error and no success on one side with another value, or no harm.
#[test]
fn changed_frames_are_refused() {
    let sets: Vec<Vec<u32>> = vec![(0..10).collect(); 3];
    let terms = terms(3, SMALL);
    let mut frames = Vec::new();
    tampered(&terms, &sets, |_, from, to, f| {
        frames.push((from, to, f.len()));
        Some(f)
    });
    let mut refused = 0;
    for (number, (from, _, len)) in frames.iter().enumerate() {
        for place in (0..*len).step_by(1 + len / 40) {
            let (done, error) = tampered(&terms, &sets, |i, _, _, mut f| {
                if i == number {
                    f[place] ^= 4;
                }
                Some(f)
            });
            let complete = done.iter().all(|d| *d);
            // What no machine can tell without the hosts' seals: another share, or another value.
            let may_pass = number < 9 || *from == Peer::Helper;
            assert!(error.is_some() || may_pass, "frame {number}, byte {place}");
            assert!(error.is_none() || !complete);
            refused += u32::from(error.is_some());
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn a_deviating_party_is_refused_with_its_reason() {
    let sets: Vec<Vec<u32>> = vec![(0..10).collect(); 3];
    let terms = terms(3, SMALL);
    let edit = |change: &dyn Fn(&mut OverlapMessage)| {
        let (done, error) = tampered(&terms, &sets, |_, from, to, f| {
            if (from, to) != (Peer::Party(1), Peer::Helper) {
                return Some(f);
            }
            let mut message = OverlapMessage::decode(&f).ok().unwrap();
            change(&mut message);
            Some(message.encode().unwrap())
        });
        assert!(done.iter().all(|d| !d));
        error.unwrap()
    };
    let pseudonyms = |change: &dyn Fn(&mut Vec<u8>)| {
        edit(&|m| {
            if let OverlapMessage::Pseudonyms(bytes) = m {
                change(bytes);
            }
        })
    };
    // The same one twice, to count twice.
    assert_eq!(
        pseudonyms(&|b| b.copy_within(0..16, 16)),
        Error::Duplicate { index: 1 }
    );
    assert!(matches!(
        pseudonyms(&|b| b[..32].rotate_left(16)),
        Error::Unsorted { index: 1, .. }
    ));
    assert!(matches!(
        pseudonyms(&|b| b.truncate(b.len() - 16)),
        Error::Count { .. }
    ));
    assert!(matches!(
        pseudonyms(&|b| b.extend_from_slice(&[0xff; 16])),
        Error::Count { .. }
    ));
    let size = |n: u64| {
        edit(&|m| {
            if let OverlapMessage::Hello { count, .. } = m {
                *count = n;
            }
        })
    };
    // 10 items are padded to 10; nine pools of this party's three sets are 36 more.
    for (n, reason) in [
        (47, true),
        (0, true),
        (35, true),
        (u64::MAX, false),
        (1 << 22, false),
    ] {
        match size(n) {
            Error::Invalid { .. } => assert!(reason, "{n}"),
            Error::TooLong { .. } => assert!(!reason, "{n}"),
            other => panic!("{other}"),
        }
    }
    let end = |change: &dyn Fn(&mut u64, &mut [u8; 32])| {
        edit(&|m| {
            if let OverlapMessage::End { count, digest, .. } = m {
                change(count, digest);
            }
        })
    };
    assert!(matches!(end(&|n, _| *n += 1), Error::Count { .. }));
    assert!(matches!(end(&|_, d| d[3] ^= 1), Error::Digest { .. }));
    // A party under other terms.
    let other = edit(&|m| {
        if let OverlapMessage::Hello { terms, .. } = m {
            terms[0] ^= 1;
        }
    });
    assert_eq!(other, Error::Mismatch { what: "context" });
}

/// Frames out of their order, from whom they do not belong, or of other computations.
#[test]
fn frames_out_of_place_are_refused() {
    let terms = terms(3, SMALL);
    let digest = terms.digest();
    let hello = |count| {
        OverlapMessage::Hello {
            terms: digest,
            count,
        }
        .encode()
        .unwrap()
    };
    let working = messages::Message::Working.encode().unwrap();
    let abort = messages::abort_frame(&Error::Digest { what: "x" });
    let helper = || OverlapHelper::new(terms.clone(), seeds(1, 1), sorters()).unwrap();
    for (from, frame) in [
        (Peer::Helper, hello(44)),
        (Peer::Party(3), hello(44)),
        (Peer::Party(0), OverlapMessage::Final.encode().unwrap()),
        (
            Peer::Party(0),
            OverlapMessage::Pseudonyms(vec![0; 16]).encode().unwrap(),
        ),
        (Peer::Party(0), working.clone()),
        (Peer::Party(0), abort),
        (Peer::Party(0), vec![]),
    ] {
        assert!(helper().input(from, &frame).is_err());
    }
    let mut twice = helper();
    twice.input(Peer::Party(0), &hello(44)).unwrap();
    assert!(twice.input(Peer::Party(0), &hello(44)).is_err());
    assert!(helper().release().is_err() && helper().seal(vec![]).is_err());
    assert!(helper().accept_seal().is_err());

    let party = || OverlapParty::new(terms.clone(), 0, set(&[1]), seeds(1, 1), sorters()).unwrap();
    // Nothing is awaited before the first poll.
    assert!(party().input(Peer::Helper, &hello(0)).is_err());
    for (from, frame) in [
        (Peer::Party(1), hello(0)),
        (Peer::Helper, hello(1)),
        (Peer::Helper, OverlapMessage::Final.encode().unwrap()),
        (Peer::Helper, working),
    ] {
        let mut party = party();
        while !matches!(party.poll().unwrap(), OverlapOutput::NeedFrame) {}
        assert!(party.input(from, &frame).is_err());
    }
    assert!(party().release().is_err());
}
