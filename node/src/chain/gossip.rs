//! Records between members: told once when they are new, and again until they are committed.

use std::time::Duration;

use tally_contracts::block::{MAX_BLOCK_RECORDS, MAX_ENTRY_BYTES};
use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_swarm::Host;
use tokio::sync::mpsc;

use super::{Chain, SubmitError, lock, now_ms};

const PROTOCOL: &str = "/tally/records/1";
/// Bytes of records in one notification.
const MAX_BATCH: usize = 512 * 1024;
/// How long a record waits before it is told again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) fn encode(records: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1).list(records, |w, r| {
        w.bytes(r);
    });
    w.into_bytes()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut r = Reader::new(bytes);
    let version = r.u8("gossip version")?;
    if version != 1 {
        return Err(CodecError::Invalid {
            what: "gossip version",
            found: version.into(),
        });
    }
    let records = r.list("records", MAX_BLOCK_RECORDS, |r| {
        Ok(r.bytes("record", MAX_ENTRY_BYTES)?.to_vec())
    })?;
    r.finish()?;
    Ok(records)
}

/// Takes records from peers into the pool, and hands `fresh` ones to them, until the host stops.
///
/// # Errors
/// [`tally_swarm::Error`] if the protocol is served already.
pub fn run_gossip(
    chain: Chain,
    host: Host,
    mut fresh: mpsc::UnboundedReceiver<Vec<u8>>,
) -> Result<(), tally_swarm::Error> {
    let mut incoming = host.notifications(PROTOCOL, 64)?;
    tokio::spawn(async move {
        while let Some(first) = fresh.recv().await {
            let mut bytes = first.len();
            let mut batch = vec![first];
            while bytes < MAX_BATCH - MAX_ENTRY_BYTES
                && let Ok(next) = fresh.try_recv()
            {
                bytes += next.len() + 4;
                batch.push(next);
            }
            host.notify_all(PROTOCOL, encode(&batch));
        }
    });
    tokio::spawn(async move {
        while let Some((_, body)) = incoming.recv().await {
            let chain = chain.clone();
            // Signatures are verified here; one notification at a time bounds the work that peers can cause.
            let _ = tokio::task::spawn_blocking(move || match decode(&body) {
                Ok(records) => {
                    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    let mut left_out = 0_u64;
                    let mut last = None;
                    for answer in chain.take(&records, false) {
                        match answer {
                            Ok(_) => {}
                            Err(SubmitError::Refused(reason)) => {
                                tracing::debug!(%reason, "refused a record from a peer");
                            }
                            Err(e) => {
                                left_out += 1;
                                last = Some(e);
                            }
                        }
                    }
                    // One line, however many: a flood must not fill the log.
                    if let Some(error) = last {
                        tracing::debug!(%error, left_out, "left out records from a peer");
                    }
                }
                Err(e) => tracing::warn!(error = %e, "unreadable records from a peer"),
            })
            .await;
        }
    });
    Ok(())
}

/// Tells this node's own waiting records again until they are committed: else a height may start that no other validator has a
/// reason to join.
pub async fn run_announcing(chain: Chain, host: Host) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let before = now_ms().saturating_sub(u64::try_from(AGAIN.as_millis()).unwrap_or(1000));
        let waiting = lock(&chain.0.pool).to_announce(before, MAX_BATCH - MAX_ENTRY_BYTES);
        if !waiting.is_empty() {
            let records: Vec<Vec<u8>> = waiting.iter().map(|r| r.bytes().to_vec()).collect();
            host.notify_all(PROTOCOL, encode(&records));
            chain.0.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back_and_garbage_does_not() {
        let records = vec![vec![1, 2, 3], vec![], vec![9; 300]];
        let bytes = encode(&records);
        assert_eq!(decode(&bytes).unwrap(), records);
        for cut in 0..bytes.len() {
            decode(&bytes[..cut]).unwrap_err();
        }
        let mut huge = bytes.clone();
        huge[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(decode(&huge), Err(CodecError::TooLong { .. })));
    }
}
