//! Lists in buckets: equal to a plain join, the same bytes whatever the items, and after a kill at any moment of either side.

mod common;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use common::{LISTS, context, list, plain_join, seeds};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tally_psi::buckets::{
    BucketSet, BucketStore, Buckets, EachItem, MAX_REPEATS, Past, Plan, Rule, Step,
};
use tally_psi::messages::{Message, Role, Scope};
use tally_psi::*;

const RULE: Rule = Rule {
    single: 100,
    mean: 64,
};
const KIND: (IdType, Profile) = (IdType(1), Profile(1));

/// What survives a kill: the last note, the rows of finished buckets, every mark ever begun.
#[derive(Default)]
struct Disk {
    past: Vec<u8>,
    rows: BTreeMap<u32, Vec<u64>>,
    marks: Vec<[u8; 32]>,
    answers: Vec<u32>,
}

impl Disk {
    fn past(&self, plan: [u8; 32]) -> Past {
        match self.past.as_slice() {
            [] => Past::new(plan),
            bytes => Past::from_bytes(bytes).unwrap(),
        }
    }
}

struct Store {
    plan: [u8; 32],
    buckets: Vec<Vec<(u64, Vec<u8>)>>,
    disk: Arc<Mutex<Disk>>,
}

impl BucketStore for Store {
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), Error> {
        self.buckets[bucket as usize]
            .iter()
            .try_for_each(|(row, value)| each(*row, value))
    }

    fn past(&mut self) -> Result<Past, Error> {
        Ok(self.disk.lock().unwrap().past(self.plan))
    }

    fn note(&mut self, step: &Step) -> Result<(), Error> {
        let mut disk = self.disk.lock().unwrap();
        let mut past = disk.past(self.plan);
        past.take(step)?;
        match step {
            Step::Begun { mark, .. } => disk.marks.push(*mark),
            Step::Answering { bucket, .. } => disk.answers.push(*bucket),
            Step::Finished { bucket, rows, .. } => {
                disk.rows.insert(*bucket, rows.clone());
            }
            Step::Rewound { .. } => {}
        }
        disk.past = past.to_bytes();
        Ok(())
    }

    fn sorters(&mut self) -> Box<dyn SorterFactory> {
        Box::new(MemorySorters::new(1 << 20))
    }
}

/// A member's side: what it brings, and its disk.
struct Side {
    role: Role,
    suite: Suite,
    values: Vec<String>,
    peer: u64,
    disk: Arc<Mutex<Disk>>,
}

impl Side {
    fn new(role: Role, suite: Suite, values: &[String], peer: usize) -> Self {
        Self {
            role,
            suite,
            values: values.to_vec(),
            peer: peer as u64,
            disk: Arc::default(),
        }
    }

    fn params(&self) -> Params {
        let mut context = context(Computation::List);
        context.suite = self.suite;
        Params {
            context,
            noise: Noise::NoneInTestNetwork,
            peer: PeerCount::Exactly(self.peer),
        }
    }

    fn plan(&self) -> Plan {
        let own = self.values.len() as u64;
        let counts = match self.role {
            Role::Initiator => [own, self.peer],
            Role::Responder => [self.peer, own],
        };
        Plan::of(counts, RULE).unwrap().unwrap()
    }

    fn digest(&self) -> [u8; 32] {
        self.plan().digest(&self.params().context.digest())
    }

    fn past(&self) -> Past {
        self.disk.lock().unwrap().past(self.digest())
    }

    /// A process of this side, which knows what is on the disk and has fresh seeds.
    fn start(&self, seed: u64) -> Buckets {
        self.start_on(Scope::All, seed)
    }

    /// One for the buckets of a stream.
    fn start_on(&self, scope: Scope, seed: u64) -> Buckets {
        let params = self.params();
        let plan = self.plan();
        let names = plan.names(&params.context.digest(), KIND.0, KIND.1);
        let mut buckets = vec![Vec::new(); plan.buckets() as usize];
        for (row, value) in (0..).zip(&self.values) {
            let bucket = names.of(value.as_bytes()) as usize;
            buckets[bucket].push((row, value.clone().into_bytes()));
        }
        let store = Box::new(Store {
            plan: self.digest(),
            buckets,
            disk: self.disk.clone(),
        });
        Buckets::new(self.role, params, plan, KIND, scope, seeds(seed), store).unwrap()
    }

    fn rows(&self) -> Vec<u64> {
        let mut rows: Vec<u64> = self
            .disk
            .lock()
            .unwrap()
            .rows
            .values()
            .flatten()
            .copied()
            .collect();
        rows.sort_unstable();
        rows
    }
}

fn sides(suite: Suite, a: &[String], b: &[String]) -> (Side, Side) {
    (
        Side::new(Role::Initiator, suite, a, b.len()),
        Side::new(Role::Responder, suite, b, a.len()),
    )
}

#[test]
fn lists_in_buckets_are_those_of_a_plain_join() {
    for suite in LISTS {
        for (na, nb, from) in [
            (500, 400, 250),
            (3, 300, 1),
            (300, 1, 10),
            (0, 200, 0),
            (200, 200, 0),
        ] {
            let (a, b) = (list(0, na, 7), list(from, nb, 11));
            let (one, two) = sides(suite, &a, &b);
            let (mut i, mut r) = (one.start(1), two.start(2));
            let (report, transcript) = machine::run_in_memory(&mut i, &mut r).unwrap();
            let expected = plain_join(&a, &b);
            assert_eq!(one.rows(), expected, "{suite:?} {na} {nb}");
            assert_eq!(
                report.outcome,
                Outcome::Listed {
                    rows: expected.len() as u64
                }
            );
            let served = transcript.responder.unwrap();
            assert_eq!(served.outcome, Outcome::Served);
            assert_eq!(served.statement, report.statement);
            assert_eq!(report.statement.counts, [na, nb]);
            assert_eq!(report.statement.streams[0], one.digest());
            assert_eq!(one.past().done(), one.plan().buckets());
        }
    }
}

#[test]
fn repeated_values_keep_their_first_row() {
    let mut a = list(0, 150, 7);
    a.extend(list(0, 150, 11));
    let b = list(100, 200, 3);
    let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
    machine::run_in_memory(&mut one.start(1), &mut two.start(2)).unwrap();
    assert_eq!(one.rows(), plain_join(&a, &b));
}

/// Frames of a run, as sender, type and length.
fn shape(a: &[String], b: &[String]) -> Vec<(usize, u8, usize)> {
    let (one, two) = sides(Suite::VoleRr22MaliciousV1, a, b);
    let (_, transcript) = machine::run_in_memory(&mut one.start(1), &mut two.start(2)).unwrap();
    transcript
        .frames
        .iter()
        .map(|(side, frame)| (*side, frame[0], frame.len()))
        .collect()
}

#[test]
fn frames_say_nothing_of_what_fell_into_which_bucket() {
    let shapes = [
        shape(&list(0, 300, 7), &list(0, 300, 7)),
        shape(&list(0, 300, 7), &list(1000, 300, 11)),
        shape(&list(5_000, 300, 1), &list(9_000, 300, 1)),
    ];
    assert!(shapes.iter().all(|s| *s == shapes[0]));
}

/// Runs for `moments` steps of the hosts, or to the end; `true` at the end. Then both processes are gone.
fn run_for(a: &mut Buckets, b: &mut Buckets, moments: u64) -> Result<bool, Error> {
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut done = [false; 2];
    for moment in 0..moments {
        let side = usize::from(moment % 2 == 1);
        if !done[side] {
            let machine: &mut Buckets = if side == 0 { &mut *a } else { &mut *b };
            done[side] = step(machine, side, &mut queues)?;
        }
        if done == [true; 2] {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_kill_at_any_moment_of_either_side_costs_nothing_but_time() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let expected = plain_join(&a, &b);
    for suite in LISTS {
        for run in 0..6_u64 {
            let mut rng = ChaCha20Rng::seed_from_u64(run);
            let (one, two) = sides(suite, &a, &b);
            let (mut seed, mut kills) = (100, 0);
            // Two processes; a kill of one breaks the stream, so the other begins anew too, with what it noted.
            loop {
                seed += 2;
                let moments = if kills < 3 {
                    rng.next_u64() % 500
                } else {
                    u64::MAX
                };
                if run_for(&mut one.start(seed), &mut two.start(seed + 1), moments).unwrap() {
                    break;
                }
                kills += 1;
            }
            assert_eq!(one.rows(), expected, "{suite:?} run {run}");
            for side in [&one, &two] {
                let disk = side.disk.lock().unwrap();
                let distinct: HashSet<_> = disk.marks.iter().collect();
                assert_eq!(
                    distinct.len(),
                    disk.marks.len(),
                    "randomness was used twice"
                );
            }
            let answers = &two.disk.lock().unwrap().answers;
            let distinct: HashSet<_> = answers.iter().collect();
            assert_eq!(distinct.len(), one.plan().buckets() as usize);
            assert!(answers.len() - distinct.len() <= MAX_REPEATS as usize);
        }
    }
}

#[test]
fn used_randomness_is_refused_after_a_restart() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
    assert!(!run_for(&mut one.start(1), &mut two.start(2), 12).unwrap());
    // A host that hands the same seeds in again.
    let again = run_for(&mut one.start(1), &mut two.start(4), u64::MAX);
    assert!(matches!(again, Err(Error::Internal { .. })), "{again:?}");
}

#[test]
fn a_peer_that_lies_about_finished_buckets_gains_nothing() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
    // Up to the middle: the responder has finished four buckets.
    let (mut i, mut r) = (one.start(1), two.start(2));
    let mut queues = [VecDeque::new(), VecDeque::new()];
    while two.disk.lock().unwrap().rows.len() < 4 {
        step(&mut i, 0, &mut queues).unwrap();
        step(&mut r, 1, &mut queues).unwrap();
    }
    drop((i, r));
    let finished = one.past().done();
    assert!((3..=4).contains(&finished));
    let set = |of: &[u32]| {
        let mut set = BucketSet::empty(one.plan().buckets());
        of.iter().for_each(|bucket| set.insert(*bucket));
        set
    };
    let plan_frame = |set: Option<BucketSet>, digest: Option<[u8; 32]>| {
        let mut honest = one.start(9);
        let Output::Send(frame) = honest.poll().unwrap() else {
            panic!("no plan")
        };
        let Message::Plan(mut plan) = Message::decode(&frame).unwrap() else {
            panic!("no plan")
        };
        plan.finished = set.unwrap_or(plan.finished);
        plan.digest = digest.unwrap_or(plan.digest);
        Message::Plan(plan).encode().unwrap()
    };
    // Fewer and more than it has under the digest of what it has, another history.
    for (claimed, digest) in [
        (Some(set(&[])), None),
        (Some(set(&[1])), None),
        (Some(set(&[0, 1, 2, 3, 4])), None),
        (Some(set(&[7])), None),
        (None, Some([7; 32])),
    ] {
        let refused = two.start(20).input(&plan_frame(claimed, digest));
        assert!(
            matches!(refused, Err(Error::Mismatch { .. })),
            "{refused:?}"
        );
    }
    // One again and again, by an initiator that forgets: a few times, then never.
    let frozen = one.disk.lock().unwrap().past.clone();
    let first = two.disk.lock().unwrap().answers.len();
    let mut refused = false;
    for seed in 0..20 {
        one.disk.lock().unwrap().past.clone_from(&frozen);
        let before = two.disk.lock().unwrap().answers.len();
        let mut stepped = run_until_answer(&one, &two, 100 + 2 * seed, before);
        refused |= matches!(stepped, Err(Error::Repeats { .. }));
        if refused {
            stepped = Ok(());
        }
        stepped.unwrap();
    }
    assert!(refused);
    let answered = two.disk.lock().unwrap().answers.len() - first;
    assert!(answered <= MAX_REPEATS as usize + 1, "{answered}");
}

/// Runs until the responder has noted that it answers once more.
fn run_until_answer(one: &Side, two: &Side, seed: u64, before: usize) -> Result<(), Error> {
    let (mut i, mut r) = (one.start(seed), two.start(seed + 1));
    let mut queues = [VecDeque::new(), VecDeque::new()];
    loop {
        step(&mut i, 0, &mut queues)?;
        step(&mut r, 1, &mut queues)?;
        if two.disk.lock().unwrap().answers.len() > before {
            return Ok(());
        }
    }
}

/// One step of a machine's host; `true` when it is done.
fn step(
    machine: &mut Buckets,
    side: usize,
    queues: &mut [VecDeque<Vec<u8>>; 2],
) -> Result<bool, Error> {
    match machine.poll()? {
        Output::Send(frame) => queues[1 - side].push_back(frame),
        Output::Progress(p) => assert!(p.done <= p.total),
        Output::NeedFrame => {
            if let Some(frame) = queues[side].pop_front() {
                machine.input(&frame)?;
            }
        }
        Output::NeedSeal(_) => machine.seal(Vec::new())?,
        Output::CheckSeal { .. } => machine.accept_seal()?,
        Output::NeedRelease(_) => machine.release()?,
        Output::Done(_) => return Ok(true),
    }
    Ok(false)
}

#[test]
fn another_plan_of_the_peer_is_refused() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
    let mut i = one.start(1);
    let Output::Send(frame) = i.poll().unwrap() else {
        panic!("no plan")
    };
    let Message::Plan(plan) = Message::decode(&frame).unwrap() else {
        panic!("no plan")
    };
    for change in 0..5 {
        let mut other = plan.clone();
        match change {
            0 => {
                other.buckets *= 2;
                other.finished = BucketSet::empty(other.buckets);
            }
            1 => other.count += 1,
            2 => other.context = [3; 32],
            3 => other.scope = Scope::One(0),
            _ => other.role = Role::Responder,
        }
        let frame = Message::Plan(other).encode().unwrap();
        assert!(two.start(2).input(&frame).is_err(), "change {change}");
    }
    assert!(two.start(2).input(&frame).is_ok());
    // A plain run is not one in buckets.
    let hello = Message::Working.encode().unwrap();
    assert!(matches!(
        two.start(2).input(&hello),
        Err(Error::UnexpectedMessage { .. })
    ));
}

#[test]
fn a_crowded_bucket_ends_the_run_with_a_word() {
    let (a, b) = (list(0, 200, 7), list(0, 200, 11));
    let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
    let mut i = one.start(1);
    let Output::Send(plan) = i.poll().unwrap() else {
        panic!("no plan")
    };
    // A host that puts everything into the first bucket.
    let store = Store {
        plan: two.digest(),
        buckets: vec![
            (0..)
                .zip(b.iter().map(|v| v.clone().into_bytes()))
                .collect(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
        ],
        disk: Arc::default(),
    };
    let mut r = Buckets::new(
        Role::Responder,
        two.params(),
        two.plan(),
        KIND,
        Scope::All,
        seeds(2),
        Box::new(store),
    )
    .unwrap();
    r.input(&plan).unwrap();
    assert!(matches!(r.poll(), Ok(Output::Send(_))));
    let full = r.poll().unwrap_err();
    assert!(
        matches!(
            full,
            Error::BucketFull {
                bucket: 0,
                found: 200,
                ..
            }
        ),
        "{full}"
    );
    // What fell where is this side's business.
    assert_eq!(full.peer_reason(), "internal");
}

/// Runs one bucket for so many steps of the hosts, or to the end.
fn run_bucket(one: &Side, two: &Side, bucket: u32, seed: u64, moments: u64) -> Result<bool, Error> {
    let scope = Scope::One(bucket);
    let (mut i, mut r) = (one.start_on(scope, seed), two.start_on(scope, seed + 1));
    run_for(&mut i, &mut r, moments)
}

#[test]
fn buckets_finish_in_any_order_on_streams_of_their_own_and_the_list_ends_as_ever() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let expected = plain_join(&a, &b);
    for suite in LISTS {
        let (one, two) = sides(suite, &a, &b);
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        // Some of them by workers, in any order, of which two die now and then; the rest on the stream of the list.
        let mut seed = 1_000;
        for bucket in [6, 1, 4, 0] {
            for attempt in 0.. {
                seed += 2;
                let moments = if attempt == 0 && bucket % 4 == 0 {
                    rng.next_u64() % 40
                } else {
                    u64::MAX
                };
                if run_bucket(&one, &two, bucket, seed, moments).unwrap() {
                    break;
                }
            }
        }
        // A finished one is not begun again.
        let again = run_bucket(&one, &two, 4, 3_000, u64::MAX);
        assert!(matches!(again, Err(Error::Mismatch { .. })), "{again:?}");
        assert_eq!((one.past().done(), two.past().done()), (4, 4));
        let (report, transcript) =
            machine::run_in_memory(&mut one.start(1), &mut two.start(2)).unwrap();
        assert_eq!(one.rows(), expected, "{suite:?}");
        assert_eq!(
            report.outcome,
            Outcome::Listed {
                rows: expected.len() as u64
            }
        );
        let served = transcript.responder.as_ref().unwrap();
        assert_eq!(served.statement, report.statement);
        let mut plans = transcript.messages(0).unwrap().into_iter();
        let Some(Message::Plan(plan)) = plans.next() else {
            panic!("no plan")
        };
        assert_eq!(plan.finished.missing().collect::<Vec<_>>(), [2, 3, 5, 7]);
        // And once more over a list that is whole: the handshake alone.
        let (again, short) = machine::run_in_memory(&mut one.start(3), &mut two.start(4)).unwrap();
        assert_eq!(again.statement, report.statement);
        assert_eq!(short.frames.len(), 4);
    }
}

#[test]
fn of_two_workers_on_one_bucket_the_older_neither_answers_nor_counts() {
    let (a, b) = (list(0, 500, 7), list(250, 400, 11));
    let scope = Scope::One(3);
    // The older pair is overtaken before its answer, and in the midst of it.
    for answers in [0, 1] {
        let (one, two) = sides(Suite::VoleRr22V1, &a, &b);
        let (mut i, mut r) = (one.start_on(scope, 1), two.start_on(scope, 2));
        let mut queues = [VecDeque::new(), VecDeque::new()];
        while two.disk.lock().unwrap().answers.len() < answers
            || one.disk.lock().unwrap().marks.is_empty()
        {
            step(&mut i, 0, &mut queues).unwrap();
            step(&mut r, 1, &mut queues).unwrap();
        }
        assert!(run_bucket(&one, &two, 3, 5, u64::MAX).unwrap());
        let (rows, past) = (one.rows(), one.past());
        assert!(!rows.is_empty());
        let late = loop {
            let stepped = step(&mut r, 1, &mut queues).and_then(|_| step(&mut i, 0, &mut queues));
            if let Err(error) = stepped {
                break error;
            }
        };
        assert!(matches!(late, Error::Internal { .. }), "{late}");
        assert_eq!((one.rows(), one.past()), (rows, past));
        assert_eq!(two.disk.lock().unwrap().answers.len(), answers + 1);
    }
}
