use rand::rngs::OsRng;
use tally_psi::messages::Role;
use tally_psi::{
    Computation, Context, IdType, ItemSet, ItemSetBuilder, MemorySorters, Noise, Outcome, Params,
    Party, PeerCount, Profile, Seeds, Stage, Suite, machine,
};
use tokio::io::{DuplexStream, duplex};

use super::*;

/// Seals are the statement's bytes; a name in `refuse` refuses.
#[derive(Default)]
struct Plain {
    refuse: &'static str,
    released: bool,
    progress: usize,
}

#[async_trait]
impl Desk for Plain {
    async fn seal(&mut self, statement: &Statement) -> Result<Vec<u8>, String> {
        Ok(statement.to_bytes())
    }

    async fn check_seal(&mut self, statement: &Statement, seal: &[u8]) -> Result<(), String> {
        if self.refuse == "seal" || seal != statement.to_bytes() {
            return Err("secret reason".into());
        }
        Ok(())
    }

    async fn release(&mut self, statement: &Statement) -> Result<(), String> {
        assert_eq!(statement.stage, Stage::InitiatorEnd);
        self.released = true;
        if self.refuse == "release" {
            return Err("secret reason".into());
        }
        Ok(())
    }

    fn progress(&mut self, _: Progress) {
        self.progress += 1;
    }
}

fn params(suite: Suite, computation: Computation, peer: u64) -> Params {
    let party = |n| Party {
        member: [n; 16],
        node: [n; 32],
    };
    Params {
        context: Context {
            network: [1; 32],
            suite,
            computation,
            session: [2; 32],
            initiator: party(3),
            responder: party(4),
            agreement: [5; 32],
            initiator_root: [6; 32],
            responder_root: [7; 32],
        },
        noise: Noise::NoneInTestNetwork,
        peer: PeerCount::AtMost(peer),
    }
}

fn set(range: std::ops::Range<u32>) -> ItemSet {
    let mut b = ItemSetBuilder::new(IdType(1), Profile(1));
    for i in range {
        b.push(&i.to_be_bytes()).unwrap();
    }
    b.finish().unwrap()
}

fn machines(computation: Computation, n: u32, cap: u64) -> (Box<dyn Machine>, Box<dyn Machine>) {
    machines_of(Suite::DhRistrettoV1, computation, n, cap)
}

fn machines_of(
    suite: Suite,
    computation: Computation,
    n: u32,
    cap: u64,
) -> (Box<dyn Machine>, Box<dyn Machine>) {
    let open = |role, set| {
        let params = params(suite, computation, cap);
        let seeds = Seeds::new(&mut OsRng, [9; 32]);
        let sorters = Box::new(MemorySorters::new(1 << 20));
        machine::open(role, params, set, seeds, sorters).unwrap()
    };
    (
        open(Role::Initiator, set(0..n)),
        open(Role::Responder, set(n / 2..n + n / 2)),
    )
}

fn quick() -> Deadlines {
    Deadlines {
        idle: Duration::from_secs(5),
        frame: Duration::from_secs(5),
        working: Duration::from_millis(20),
        total: Duration::from_secs(30),
    }
}

async fn both(
    machines: (Box<dyn Machine>, Box<dyn Machine>),
    desks: (&mut Plain, &mut Plain),
) -> (Result<Report, Error>, Result<Report, Error>) {
    let (a, b) = duplex(4096);
    let cancel = CancellationToken::new();
    tokio::join!(
        run(a, machines.0, desks.0, quick(), &cancel),
        run(b, machines.1, desks.1, quick(), &cancel),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_suite_and_computation_runs_over_a_narrow_stream() {
    for (suite, computation) in [
        (Suite::DhRistrettoV1, Computation::List),
        (Suite::DhRistrettoV1, Computation::Cardinality),
        (Suite::VoleRr22V1, Computation::List),
        (Suite::VoleRr22MaliciousV1, Computation::List),
    ] {
        let (mut a, mut b) = (Plain::default(), Plain::default());
        let machines = machines_of(suite, computation, 9_000, 20_000);
        let (i, r) = both(machines, (&mut a, &mut b)).await;
        let (i, r) = (i.unwrap(), r.unwrap());
        assert_eq!(i.statement, r.statement);
        assert!(b.released && !a.released && a.progress > 1 && b.progress > 1);
        let expected: Vec<u64> = (4_500..9_000).collect();
        match computation {
            Computation::List => {
                assert_eq!(i.outcome, Outcome::Matched { rows: expected });
                assert_eq!(r.outcome, Outcome::Served);
            }
            _ => assert_eq!(i.outcome, Outcome::Published { value: 4_500 }),
        }
    }
}

/// The driver carries the frames of a private sum as it carries those of a list.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_sum_runs_over_a_narrow_stream() {
    use tally_psi::sum::{
        LabelledSetBuilder, SumInitiator, SumNoise, SumParams, SumResponder, SumTerms,
        ValuedSetBuilder,
    };
    let terms = SumTerms {
        minimum_people: vec![0; 3],
        weights: vec![1, 2],
        unit: 2,
        value_caps: vec![5_000],
        entries_per_person: 1,
        rows_per_entry: 1,
        slots: 1,
        max_label_rows: 20_000,
        max_entries: 20_000,
        noise: SumNoise::NoneInTestNetwork,
    };
    let params = SumParams {
        context: params(Suite::DhRistrettoV1, Computation::JoinSum, 0).context,
        terms: terms.clone(),
    };
    let seeds = || Seeds::new(&mut OsRng, [9; 32]);
    let mut labelled = LabelledSetBuilder::new(IdType(1), Profile(1));
    for i in 0..3_000_u32 {
        let (label, class) = (u16::try_from(i % 3).unwrap(), u16::try_from(i % 2).unwrap());
        labelled.push(label, class, &i.to_be_bytes()).unwrap();
    }
    let labelled = labelled.finish(&terms, &[1_000; 3]).unwrap();
    let mut valued = ValuedSetBuilder::new(IdType(1), Profile(1), 1);
    for i in 1_500..4_500_u32 {
        valued.push(&i.to_be_bytes(), &[i.into()]).unwrap();
    }
    let valued = valued.finish(&terms, 3_000).unwrap();
    let machines: (Box<dyn Machine>, Box<dyn Machine>) = (
        Box::new(SumInitiator::new(params.clone(), labelled, seeds()).unwrap()),
        Box::new(SumResponder::new(params, valued, seeds()).unwrap()),
    );
    let (mut a, mut b) = (Plain::default(), Plain::default());
    let (i, r) = both(machines, (&mut a, &mut b)).await;
    let (i, r) = (i.unwrap(), r.unwrap());
    assert_eq!(i.statement, r.statement);
    assert_eq!(i.outcome, r.outcome);
    assert!(b.released && !a.released && a.progress > 1 && b.progress > 1);
    let mut values = vec![0_i64; 3];
    for i in 1_500..3_000_i64 {
        values[usize::try_from(i % 3).unwrap()] += i * (i % 2 + 1);
    }
    assert_eq!(i.outcome, Outcome::Sums { values });
}

fn aborted(result: &Result<Report, Error>) -> Option<(u16, &str)> {
    match result {
        Err(Error::Protocol(tally_psi::Error::PeerAborted { code, reason })) => {
            Some((*code, reason))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_to_the_peer_without_its_reason() {
    let (mut a, mut b) = (Plain::default(), Plain::default());
    b.refuse = "release";
    let (i, r) = both(machines(Computation::List, 10, 20), (&mut a, &mut b)).await;
    assert!(matches!(r, Err(Error::Refused { reason, .. }) if reason == "secret reason"));
    assert_eq!(aborted(&i), Some((10, "the release was refused")));

    // Over the cap, both in public sizes: both have a typed error.
    let (mut a, mut b) = (Plain::default(), Plain::default());
    let (i, r) = both(machines(Computation::Cardinality, 11, 9), (&mut a, &mut b)).await;
    assert!(matches!(
        r,
        Err(Error::Protocol(tally_psi::Error::TooLong {
            found: 12,
            max: 10,
            ..
        }))
    ));
    assert_eq!(
        aborted(&i),
        Some((1, "claimed elements is 12, more than the allowed 10"))
    );
    assert!(!b.released);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_both_sides() {
    let (a, b) = duplex(4096);
    let (ma, mb) = machines(Computation::List, 40_000, 50_000);
    let (never, cancel) = (CancellationToken::new(), CancellationToken::new());
    let (mut da, mut db) = (Plain::default(), Plain::default());
    let (i, r, ()) = tokio::join!(
        run(a, ma, &mut da, quick(), &never),
        run(b, mb, &mut db, quick(), &cancel),
        async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            cancel.cancel();
        }
    );
    assert!(matches!(r, Err(Error::Cancelled)));
    assert_eq!(aborted(&i), Some((11, "cancelled")), "{i:?}");
}

/// A peer that is written by hand.
async fn against(write: Vec<u8>, hold: bool) -> Error {
    let (a, mut b) = duplex(1 << 16);
    let deadlines = Deadlines {
        idle: Duration::from_millis(300),
        frame: Duration::from_millis(300),
        ..quick()
    };
    let peer = tokio::spawn(async move {
        b.write_all(&write).await.unwrap();
        if hold {
            read_all(&mut b).await;
        }
    });
    let (m, _) = machines(Computation::List, 10, 20);
    let result = run(
        a,
        m,
        &mut Plain::default(),
        deadlines,
        &CancellationToken::new(),
    )
    .await;
    peer.await.unwrap();
    result.unwrap_err()
}

async fn read_all(stream: &mut DuplexStream) {
    let mut sink = Vec::new();
    let _ = stream.read_to_end(&mut sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_silent_oversize_and_absent_peers() {
    assert!(matches!(
        against(vec![], true).await,
        Error::Deadline {
            what: "waiting for a frame",
            ..
        }
    ));
    assert!(matches!(
        against(vec![1, 0], true).await,
        Error::Deadline {
            what: "reading a frame",
            ..
        }
    ));
    assert!(matches!(
        against(vec![2, 0xff, 0, 0, 0], true).await,
        Error::Protocol(tally_psi::Error::TooLong { .. })
    ));
    assert!(matches!(
        against(vec![99; 50], true).await,
        Error::Protocol(tally_psi::Error::Invalid { .. })
    ));
    assert!(matches!(
        against(vec![], false).await,
        Error::Protocol(tally_psi::Error::EarlyEnd { .. }) | Error::Io(_)
    ));
    // Working frames alone keep it waiting only as long as they come.
    assert!(matches!(
        against([8, 0, 0, 0, 0].repeat(3), true).await,
        Error::Deadline { .. }
    ));
}
