//! The node's driver of a match over a stream whose other end says anything: it ends, with a result or a typed error.

use std::time::Duration;

use async_trait::async_trait;
use tally_node::psi_wire::{Deadlines, Desk, run as run_match};
use tally_psi::{Progress, Statement, Suite};
use tokio_util::sync::CancellationToken;

use crate::Seeds;
use crate::bytes::Bytes;
use crate::psi::{self, Setup};
use crate::stream::{Peer, block_on};

/// Signs nothing and takes anything.
struct Plain;

#[async_trait]
impl Desk for Plain {
    async fn seal(&mut self, _: &Statement) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    async fn check_seal(&mut self, _: &Statement, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    async fn release(&mut self, _: &Statement) -> Result<(), String> {
        Ok(())
    }

    fn progress(&mut self, _: Progress) {}
}

/// A byte that sets up a machine (its top bits: how many bytes come at a time), then what comes over the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let bits = input.u8();
    let setup = Setup {
        suite: Suite::DhRistrettoV1,
        bits,
    };
    let step = 1 + 700 * usize::from(bits >> 5);
    let limit = Duration::from_secs(5);
    let deadlines = Deadlines {
        idle: limit,
        frame: limit,
        working: limit,
        total: limit,
    };
    let stream = Peer::new(input.0, step);
    let machine = setup.machine(bits & 1);
    let cancel = CancellationToken::new();
    let result = block_on(run_match(stream, machine, &mut Plain, deadlines, &cancel));
    // Nothing here waits for anybody.
    assert!(
        !matches!(&result, Err(tally_node::psi_wire::Error::Deadline { .. })),
        "{result:?}"
    );
    assert!(
        !matches!(&result, Err(tally_node::psi_wire::Error::Internal(_))),
        "{result:?}"
    );
}

/// The streams of honest runs, in large pieces, with a working frame in front.
pub fn seeds() -> Seeds {
    let working = tally_psi::messages::Message::Working
        .encode()
        .expect("a frame");
    psi::machine_seeds()
        .into_iter()
        .map(|(name, bytes)| {
            let stream = [&[bytes[0] | 7 << 5], &working[..], &bytes[1..]].concat();
            (name, stream)
        })
        .collect()
}
