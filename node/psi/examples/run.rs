//! One run of a suite in memory, for a profiler: `cargo run --release -p tally-psi --example run -- vole-rr22-v1 1048576`. Prints the
//! time from both sets to both reports. There is no file and no network; both sides share the cores.

use std::time::Instant;

use rand_core::{OsRng, RngCore};
use tally_psi::messages::Role;
use tally_psi::*;

const SUITES: [Suite; 3] = [
    Suite::DhRistrettoV1,
    Suite::VoleRr22V1,
    Suite::VoleRr22MaliciousV1,
];

fn set(from: u64, n: u64) -> Result<ItemSet, Error> {
    let mut builder = ItemSetBuilder::new(IdType(1), Profile(1));
    for i in from..from + n {
        builder.push(format!("+86139{i:08}").as_bytes())?;
    }
    builder.finish()
}

fn seeds() -> Seeds {
    let mut noise = [0; 32];
    OsRng.fill_bytes(&mut noise);
    Seeds::new(&mut OsRng, noise)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args
        .next()
        .unwrap_or_else(|| Suite::VoleRr22V1.name().to_owned());
    let n: u64 = args.next().map_or(Ok(1 << 20), |n| n.parse())?;
    let suite = SUITES
        .into_iter()
        .find(|s| s.name() == name)
        .ok_or("expected dh-ristretto-v1, vole-rr22-v1 or vole-rr22-malicious-v1")?;
    let party = |n| Party {
        member: [n; 16],
        node: [n; 32],
    };
    let params = Params {
        context: Context {
            network: [0; 32],
            suite,
            computation: Computation::List,
            session: session_id(&[1; 32], &[2; 32]),
            initiator: party(3),
            responder: party(4),
            agreement: [5; 32],
            initiator_root: [6; 32],
            responder_root: [7; 32],
        },
        noise: Noise::NoneInTestNetwork,
        peer: PeerCount::Exactly(n),
    };
    let open = |role, set| {
        let sorters = Box::new(MemorySorters::new(n));
        machine::open(role, params.clone(), set, seeds(), sorters)
    };
    let (a, b) = (set(0, n)?, set(n / 2, n)?);
    let mut initiator = open(Role::Initiator, a)?;
    let mut responder = open(Role::Responder, b)?;
    let start = Instant::now();
    let (report, transcript) = machine::run_in_memory(initiator.as_mut(), responder.as_mut())?;
    let took = start.elapsed().as_secs_f64();
    let bytes: usize = transcript.frames.iter().map(|(_, f)| f.len()).sum();
    let Outcome::Matched { rows } = report.outcome else {
        return Err("no list".into());
    };
    println!(
        "{name}: {n} against {n}, {} common, {took:.3} s, {:.2} bytes an item, {} and {}",
        rows.len(),
        bytes as f64 / n as f64,
        backend(),
        kernels()
    );
    Ok(())
}
