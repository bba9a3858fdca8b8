//! Every validator cosigns the checkpoint of every block that added records, and hands the cosignature to the others.

use std::time::Duration;

use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_contracts::state;
use tally_merkle::{NoteKeyId, NoteSignature};
use tally_swarm::Host;

use super::{Chain, lock, now_ms};

const PROTOCOL: &str = "/tally/cosignatures/1";
/// Time and Ed25519 signature.
const SIGNATURE_BYTES: usize = 72;

pub(super) fn encode(size: u64, signature: &NoteSignature) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1)
        .u64(size)
        .text(&signature.name)
        .raw(&signature.key_id.0)
        .bytes(&signature.signature);
    w.into_bytes()
}

pub(super) fn decode(bytes: &[u8]) -> Result<(u64, NoteSignature), CodecError> {
    let mut r = Reader::new(bytes);
    let version = r.u8("cosignature version")?;
    if version != 1 {
        return Err(CodecError::Invalid {
            what: "cosignature version",
            found: version.into(),
        });
    }
    let size = r.u64("size")?;
    let signature = NoteSignature {
        name: r.text("name", 256)?,
        key_id: NoteKeyId(r.array("key ID")?),
        signature: r.bytes("signature", SIGNATURE_BYTES)?.to_vec(),
    };
    r.finish()?;
    Ok((size, signature))
}

/// Signs the head and gives the bytes to tell the others.
///
/// # Errors
/// The ledger's, as text.
pub fn announce_head(chain: &Chain) -> Result<Option<Vec<u8>>, String> {
    let ledger = chain.ledger();
    let validators = ledger.validators().map_err(|e| e.to_string())?;
    let mut checkpoints = lock(&chain.0.checkpoints);
    let Some((size, signature)) = checkpoints
        .sign_head(ledger, now_ms() / 1000)
        .map_err(|e| e.to_string())?
    else {
        return Ok(None);
    };
    checkpoints
        .add(size, signature.clone(), &validators)
        .map_err(|e| e.to_string())?;
    Ok(Some(encode(size, &signature)))
}

/// Cosigns after every block with records and each heartbeat, and collects the cosignatures of the others.
///
/// # Errors
/// [`tally_swarm::Error`] if the protocol is served already.
pub fn run_cosigning(chain: Chain, host: Host) -> Result<(), tally_swarm::Error> {
    let mut incoming = host.notifications(PROTOCOL, 256)?;
    let mut heads = chain.heads();
    let (collector, signer) = (chain.clone(), chain);
    tokio::spawn(async move {
        let heartbeat = state::rules(signer.ledger().state()).map_or(10_000, |r| r.heartbeat_ms);
        loop {
            let chain = signer.clone();
            match tokio::task::spawn_blocking(move || announce_head(&chain)).await {
                Ok(Ok(Some(body))) => {
                    host.notify_all(PROTOCOL, body);
                }
                Ok(Ok(None)) => {}
                Ok(Err(e)) => tracing::error!(error = %e, "the head could not be cosigned"),
                Err(e) => tracing::error!(error = %e, "a cosigning task failed"),
            }
            // A lost notification is made good by this repetition, as is a peer that was away.
            let again = Duration::from_millis(heartbeat.min(2_000));
            if let Ok(Err(_)) = tokio::time::timeout(again, heads.changed()).await {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((_, body)) = incoming.recv().await {
            let (size, signature) = match decode(&body) {
                Ok(decoded) => decoded,
                Err(e) => {
                    tracing::warn!(error = %e, "an unreadable cosignature from a peer");
                    continue;
                }
            };
            // A peer may be a block ahead of this node for a moment.
            let mut heads = collector.heads();
            let _ = tokio::time::timeout(
                Duration::from_millis(300),
                heads.wait_for(|h| h.tree_size >= size),
            )
            .await;
            let chain = collector.clone();
            let added = tokio::task::spawn_blocking(move || {
                let validators = chain.ledger().validators().map_err(|e| e.to_string())?;
                let mut checkpoints = lock(&chain.0.checkpoints);
                // The head is known before its own signature is made when a peer is quicker.
                checkpoints
                    .sign_head(chain.ledger(), now_ms() / 1000)
                    .map_err(|e| e.to_string())?;
                checkpoints
                    .add(size, signature, &validators)
                    .map_err(|e| e.to_string())
            })
            .await;
            if let Ok(Err(e)) = added {
                tracing::debug!(error = %e, size, "left out a cosignature");
            }
        }
    });
    Ok(())
}
