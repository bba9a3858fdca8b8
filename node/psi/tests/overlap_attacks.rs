//! What the helper of an `overlap_n` can learn of one person: alone, and together with one party. The rows of docs/attacks.md on it, by
//! whole runs of the protocol.

use std::collections::{BTreeMap, HashMap};

use hkdf::hmac::{Hmac, Mac};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::Sha256;
use tally_psi::overlap::*;
use tally_psi::*;

const TRIALS: u32 = 600;
/// As the table's other rows: epsilon 0.5, delta 10^-6; against the helper at sensitivity 2.
fn noise() -> OverlapNoise {
    OverlapNoise::Laplace {
        regions: plan_bound(500_000, 6, 2).unwrap(),
        published: plan_bound(500_000, 6, 1).unwrap(),
    }
}

fn terms(noise: OverlapNoise, session: u32) -> OverlapTerms {
    let party = |n: u8| Party {
        member: [n; 16],
        node: [n; 32],
    };
    let mut nonce = [0; 32];
    nonce[..4].copy_from_slice(&session.to_be_bytes());
    OverlapTerms {
        network: [1; 32],
        session: overlap_session(&[nonce]),
        parties: (10..13).map(party).collect(),
        helper: Some(party(99)),
        agreement: [3; 32],
        roots: (0..3).map(|n| [n; 32]).collect(),
        noise,
        max_items: 1 << 10,
        min_result: 0,
    }
}

fn person(n: u32) -> Vec<u8> {
    format!("+86139{n:08}").into_bytes()
}

/// Three parties with 60 people in common; the target, number 1,000, is the first two's, and the third's if `member`.
fn sets(member: bool) -> [Vec<u32>; 3] {
    let common: Vec<u32> = (0..60).collect();
    let with = |more: &[u32]| [&common[..], more].concat();
    [
        with(&[1_000, 2_000]),
        with(&[1_000, 3_000]),
        if member {
            with(&[1_000])
        } else {
            with(&[4_000])
        },
    ]
}

/// A run, and all that the helper gets and sends.
fn run(noise: OverlapNoise, trial: u32, member: bool) -> OverlapTranscript {
    let terms = terms(noise, trial);
    let seeds = |who: u8| {
        let mut secret = [who; 32];
        secret[..4].copy_from_slice(&trial.to_be_bytes());
        Seeds::new(
            &mut ChaCha20Rng::seed_from_u64(u64::from(trial) << 8 | u64::from(who)),
            secret,
        )
    };
    let mut parties: Vec<OverlapParty> = sets(member)
        .iter()
        .enumerate()
        .map(|(place, people)| {
            let mut items = ItemSetBuilder::new(IdType(1), Profile(1));
            for n in people {
                items.push(&person(*n)).unwrap();
            }
            let who = u8::try_from(place).unwrap();
            let sorters = Box::new(MemorySorters::new(1 << 12));
            OverlapParty::new(
                terms.clone(),
                place,
                items.finish().unwrap(),
                seeds(who),
                sorters,
            )
            .unwrap()
        })
        .collect();
    let sorters = Box::new(MemorySorters::new(1 << 14));
    let mut helper = OverlapHelper::new(terms, seeds(9), sorters).unwrap();
    let mut sides: Vec<&mut dyn OverlapMachine> = parties
        .iter_mut()
        .map(|p| p as &mut dyn OverlapMachine)
        .collect();
    run_overlap_in_memory(&mut sides, &mut helper).unwrap()
}

/// Every pseudonym that the helper has, and in whose lists it is.
fn lists(transcript: &OverlapTranscript) -> HashMap<[u8; PSEUDONYM_BYTES], u32> {
    let mut seen = HashMap::new();
    for (from, to, frame) in &transcript.frames {
        if let (Peer::Party(i), Peer::Helper) = (from, to)
            && let Ok(OverlapMessage::Pseudonyms(bytes)) = OverlapMessage::decode(frame)
        {
            for p in bytes.as_chunks::<PSEUDONYM_BYTES>().0 {
                *seen.entry(*p).or_insert(0) |= 1 << i;
            }
        }
    }
    seen
}

/// The helper knows everything of everybody but the target, and the distribution of the noise: which is likelier?
fn helper_alone(
    transcript: &OverlapTranscript,
    noise: &OverlapNoise,
    rng: &mut ChaCha20Rng,
) -> bool {
    let mut found: BTreeMap<u32, i64> = BTreeMap::new();
    for set in lists(transcript).values() {
        *found.entry(*set).or_default() += 1;
    }
    let at = |set: u32| found.get(&set).copied().unwrap_or(0);
    let OverlapNoise::Laplace { regions, .. } = noise else {
        return at(0b111) == 61;
    };
    // Distance of each count from the truth under a guess, over both sets of parties that the target moves between.
    let bound = i64::from(regions.bound);
    let distance = |member: bool| {
        let truth = [(0b111, 60 + i64::from(member)), (0b011, i64::from(!member))];
        truth
            .iter()
            .map(|(set, n)| {
                let draw = at(*set) - n - bound;
                if draw.abs() > bound {
                    i64::MAX / 4
                } else {
                    draw.abs()
                }
            })
            .sum::<i64>()
    };
    match distance(true).cmp(&distance(false)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => rng.next_u32() & 1 == 1,
    }
}

/// With a party's shares the helper makes pseudonyms itself, as that party does, and looks the target's up.
fn helper_with_a_party(transcript: &OverlapTranscript, terms: &OverlapTerms) -> bool {
    let mut shares = vec![None; 3];
    for (from, _, frame) in &transcript.frames {
        if let (Peer::Party(i), Ok(OverlapMessage::Share { key, .. })) =
            (from, OverlapMessage::decode(frame))
        {
            shares[*i] = Some(key);
        }
    }
    let all: Vec<u8> = shares
        .into_iter()
        .flat_map(|s| s.unwrap().to_vec())
        .collect();
    let mut key = [0; 32];
    hkdf::Hkdf::<Sha256>::new(Some(&terms.digest()), &all)
        .expand(b"tally/psi/overlap/v1/pseudonyms", &mut key)
        .unwrap();
    let target = person(1_000);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    // The message of an item: 0x00, ID type, profile, length, value.
    mac.update(&[0, 1, 1]);
    mac.update(&u16::try_from(target.len()).unwrap().to_be_bytes());
    mac.update(&target);
    let bytes = mac.finalize().into_bytes();
    let pseudonym: [u8; PSEUDONYM_BYTES] = bytes[..PSEUDONYM_BYTES].try_into().unwrap();
    let in_lists = lists(transcript).get(&pseudonym).copied();
    assert!(
        in_lists.is_some(),
        "a pseudonym that the parties do not make"
    );
    in_lists == Some(0b111)
}

#[test]
fn what_the_helper_tells_of_one_person() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut alone, mut exact, mut together) = (0, 0, 0);
    for trial in 0..TRIALS {
        let member = rng.next_u32() & 1 == 1;
        let noisy = run(noise(), trial, member);
        alone += u32::from(helper_alone(&noisy, &noise(), &mut rng) == member);
        if trial < 50 {
            together += u32::from(helper_with_a_party(&noisy, &terms(noise(), trial)) == member);
            let plain = OverlapNoise::NoneInTestNetwork;
            let transcript = run(plain, trial, member);
            exact += u32::from(helper_alone(&transcript, &plain, &mut rng) == member);
        }
    }
    let percent = |n: u32, of: u32| f64::from(n) * 100.0 / f64::from(of);
    println!(
        "told rightly: helper alone {:.0} %, without noise {:.0} %, with a party {:.0} %",
        percent(alone, TRIALS),
        percent(exact, 50),
        percent(together, 50)
    );
    // Nobody can do better than e^0.5 / (1 + e^0.5) = 62.2 % against the noise; six deviations of 600 trials are 12.
    assert!((50.0..=66.0).contains(&percent(alone, TRIALS)));
    assert_eq!((exact, together), (50, 50));
}
