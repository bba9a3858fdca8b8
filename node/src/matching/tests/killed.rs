//! Two processes that run a list in buckets over a socket, with their journals on disk; one or the other is killed (SIGKILL) at random
//! moments and both begin anew, until they are done.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rand_core::OsRng;
use tally_psi::buckets::{Buckets, Plan, Rule};
use tally_psi::messages::{Role, Scope};
use tally_psi::{
    Computation, Context, IdType, Noise, Params, Party, PeerCount, Profile, Progress, Seeds,
    Statement, Suite, session_id,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::bucket_files::BucketFiles;
use crate::external_sort::SpillSorters;
use crate::matching::MatchId;
use crate::matching::buckets::{DeskStore, Journal, SharedPast};
use crate::psi_wire::{self, Deadlines};
use crate::sealed::StorageKey;

const PARTY: &str = "TALLY_TEST_KILLED_PARTY";
const COUNT: u64 = 24_000;
const RULE: Rule = Rule {
    single: 100,
    mean: 1_500,
};
const KIND: (IdType, Profile) = (IdType(1), Profile(1));

fn value(role: Role, row: u64) -> String {
    let from = match role {
        Role::Initiator => 0,
        Role::Responder => COUNT / 2,
    };
    format!("+86139{:08}", from + row * 7 % COUNT)
}

fn journal(dir: &Path) -> Journal {
    Journal::new(dir, &StorageKey::from_bytes([7; 32]), MatchId([5; 16]))
}

/// Signs nothing; a release leaves a line in a file.
struct Open(PathBuf);

#[async_trait]
impl psi_wire::Desk for Open {
    async fn seal(&mut self, _: &Statement) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    async fn check_seal(&mut self, _: &Statement, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    async fn release(&mut self, statement: &Statement) -> Result<(), String> {
        std::fs::write(&self.0, statement.to_bytes()).map_err(|e| e.to_string())
    }

    fn progress(&mut self, _: Progress) {}
}

async fn run(role: Role, dir: &Path, socket: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let party = |n| Party {
        member: [n; 16],
        node: [n; 32],
    };
    let params = Params {
        context: Context {
            network: [1; 32],
            suite: Suite::VoleRr22MaliciousV1,
            computation: Computation::List,
            session: session_id(&[2; 32], &[3; 32]),
            initiator: party(4),
            responder: party(5),
            agreement: [6; 32],
            initiator_root: [7; 32],
            responder_root: [8; 32],
        },
        noise: Noise::NoneInTestNetwork,
        peer: PeerCount::Exactly(COUNT),
    };
    let plan = Plan::of([COUNT; 2], RULE)?.ok_or("no plan")?;
    let names = plan.names(&params.context.digest(), KIND.0, KIND.1);
    let mut files = BucketFiles::create(dir, plan.buckets())?;
    for row in 0..COUNT {
        let value = value(role, row).into_bytes();
        files.push(names.of(&value), row, &value)?;
    }
    let past = SharedPast::open(journal(dir), plan.digest(&params.context.digest()))?;
    let store = Box::new(DeskStore {
        files: Arc::new(files),
        sorters: SpillSorters::new(dir.to_owned(), 1 << 16),
        past: Arc::new(past),
    });
    let seeds = Seeds::new(&mut OsRng, [0; 32]);
    let machine = Buckets::new(role, params, plan, KIND, Scope::All, seeds, store)?;
    let stream = match role {
        Role::Responder => UnixListener::bind(socket)?.accept().await?.0,
        Role::Initiator => {
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => break stream,
                    Err(e) if Instant::now() > until => return Err(e.into()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }
    };
    let machine = Box::new(machine);
    let mut desk = Open(dir.join("released"));
    let cancel = CancellationToken::new();
    psi_wire::run(stream, machine, &mut desk, Deadlines::default(), &cancel).await?;
    std::fs::write(dir.join("done"), b"")?;
    Ok(())
}

/// Not a test of its own: the party that the test below starts.
#[test]
fn party() {
    let Some(told) = std::env::var_os(PARTY) else {
        return;
    };
    let told = told.into_string().unwrap();
    let [role, dir, socket] = told.split('|').collect::<Vec<_>>()[..] else {
        panic!("expected role, folder and socket");
    };
    let role = match role {
        "a" => Role::Initiator,
        _ => Role::Responder,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(e) = runtime.block_on(run(role, dir.as_ref(), socket.as_ref())) {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

fn start(role: &str, dir: &Path, socket: &Path) -> Child {
    let told = format!("{role}|{}|{}", dir.display(), socket.display());
    Command::new(std::env::current_exe().unwrap())
        .args(["matching::tests::killed::party", "--exact", "--nocapture"])
        .env(PARTY, told)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_list_survives_kills_of_either_process_at_random_moments() {
    let seed = std::env::var("TALLY_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("TALLY_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    let dirs = ["a", "b"].map(|name| root.path().join(name));
    dirs.iter().for_each(|d| std::fs::create_dir(d).unwrap());
    let done = || dirs.iter().all(|d| d.join("done").exists());
    let (mut kills, mut went_on) = (0, 0);
    for attempt in 0.. {
        assert!(attempt < 40, "it never came to its end");
        let before = journal(&dirs[0]).past().unwrap();
        went_on += u32::from(before.is_some_and(|p| p.done() > 0));
        let socket = root.path().join(format!("s{attempt}"));
        let mut parties = [start("a", &dirs[0], &socket), start("b", &dirs[1], &socket)];
        if kills < 6 {
            std::thread::sleep(Duration::from_millis(rng.gen_range(100..900)));
            // Of this process's own children, by its handle.
            parties[rng.gen_range(0..2)].kill().unwrap();
            kills += 1;
        }
        let until = Instant::now() + Duration::from_secs(60);
        for party in &mut parties {
            while party.try_wait().unwrap().is_none() {
                if Instant::now() > until {
                    party.kill().unwrap();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if done() {
            break;
        }
        // One that is done has nothing more to do, but the other side has to hear of it: both run again.
        dirs.iter().for_each(|d| {
            let _ = std::fs::remove_file(d.join("done"));
        });
    }
    let theirs: HashSet<_> = (0..COUNT).map(|row| value(Role::Responder, row)).collect();
    let expected: Vec<u64> = (0..COUNT)
        .filter(|row| theirs.contains(&value(Role::Initiator, *row)))
        .collect();
    assert_eq!(expected.len() as u64, COUNT / 2);
    assert_eq!(journal(&dirs[0]).rows().unwrap().unwrap(), expected);
    for dir in &dirs {
        let past = journal(dir).past().unwrap().unwrap();
        let distinct: HashSet<_> = past.marks().iter().collect();
        assert_eq!(distinct.len(), past.marks().len());
        assert_eq!(past.done(), 16);
        println!("{} buckets were begun", past.begun());
    }
    println!("{kills} kills, went on {went_on} times");
    assert!(dirs[1].join("released").exists());
}
