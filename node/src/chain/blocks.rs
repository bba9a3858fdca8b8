//! Decided blocks from member to member, many at a time: for a node that is far behind. The engine asks for them one by one and syncs
//! several files for each; these are committed with one sync for all.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use tally_consensus::DecidedBlock;
use tally_contracts::block::{CommitCertificate, MAX_BLOCK_BYTES};
use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_swarm::{Host, PeerKey, Refusal, ServeLimits};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Chain;

const PROTOCOL: &str = "/tally/blocks/1";
/// Bytes of a request: version and height.
const REQUEST_BYTES: usize = 9;
/// The most blocks of one answer.
const MAX_BLOCKS: usize = 512;
/// An answer has no more bytes of blocks than this, unless the first alone is larger.
const MAX_BYTES: usize = 2 << 20;
/// The longest certificate.
const MAX_CERTIFICATE_BYTES: usize = 64 << 10;
/// So many blocks behind is far.
const FAR: u64 = 16;
/// How long a node waits to hear whether it is far behind.
const FIRST: Duration = Duration::from_millis(500);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Peers that are asked in vain before the engine is left to it.
const MAX_VAIN: usize = 4;

/// What a peer hands over.
pub(super) struct Answer {
    /// The height of its last block.
    pub(super) head: u64,
    /// Blocks from the height that was asked for on; none if it has it not, or not any more.
    pub(super) blocks: Vec<DecidedBlock>,
}

pub(super) fn encode_request(from: u64) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1).u64(from);
    w.into_bytes()
}

pub(super) fn decode_request(bytes: &[u8]) -> Result<u64, CodecError> {
    let mut r = Reader::new(bytes);
    r.version("blocks version", 1)?;
    let from = r.u64("height")?;
    r.finish()?;
    Ok(from)
}

pub(super) fn encode_answer(head: u64, blocks: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(1).u64(head).list(blocks, |w, (block, certificate)| {
        w.bytes(block).bytes(certificate);
    });
    w.into_bytes()
}

pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    let mut r = Reader::new(bytes);
    r.version("blocks version", 1)?;
    let head = r.u64("height")?;
    let blocks = r.list("blocks", MAX_BLOCKS, |r| {
        let block = r.bytes("block", MAX_BLOCK_BYTES)?.to_vec();
        let certificate = r.bytes("certificate", MAX_CERTIFICATE_BYTES)?;
        Ok((block, CommitCertificate::from_bytes(certificate)?))
    })?;
    r.finish()?;
    Ok(Answer { head, blocks })
}

/// Hands this node's blocks to members that ask for them.
///
/// # Errors
/// [`tally_swarm::Error`] if the protocol is served already.
pub fn serve_blocks(chain: Chain, host: &Host) -> Result<(), tally_swarm::Error> {
    let limits = ServeLimits {
        max_request_bytes: REQUEST_BYTES,
        max_response_bytes: 4 << 20,
        max_concurrent_per_peer: 2,
        deadline: DEADLINE,
    };
    host.serve(PROTOCOL, limits, move |_, request| {
        let chain = chain.clone();
        async move {
            let from = decode_request(&request).map_err(Refusal::new)?;
            tokio::task::spawn_blocking(move || read_blocks(&chain, from))
                .await
                .map_err(Refusal::new)
        }
    })
}

fn read_blocks(chain: &Chain, from: u64) -> Vec<u8> {
    let ledger = chain.ledger();
    let head = ledger.head().height;
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    for height in (from..=head).take(MAX_BLOCKS) {
        let Ok(stored) = ledger.block(height) else {
            break;
        };
        bytes += stored.block.len() + stored.certificate.len();
        if bytes > MAX_BYTES && !blocks.is_empty() {
            break;
        }
        blocks.push((stored.block, stored.certificate));
    }
    encode_answer(head, &blocks)
}

/// Blocks under way to a node that is far behind: while some are committed, the next ones come. Dropping it ends that.
pub(super) struct Fetch {
    batches: mpsc::Receiver<Vec<DecidedBlock>>,
    task: AbortHandle,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fetch {
    /// Begins, if a peer has many more blocks from `from` on than this node.
    pub(super) async fn begin(host: &Host, from: u64) -> Option<Self> {
        let begun = async {
            for peer in connected(host) {
                match ask(host, &peer, from, FIRST).await {
                    Ok(answer) if answer.is_far(from) => return Some((peer, answer)),
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "a peer does not say how far it is"),
                }
            }
            None
        };
        let (peer, answer) = tokio::time::timeout(FIRST, begun).await.ok().flatten()?;
        let (sender, batches) = mpsc::channel(1);
        let task = tokio::spawn(go_on(host.clone(), peer, from, answer, sender)).abort_handle();
        Some(Self { batches, task })
    }

    /// The next blocks; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Vec<DecidedBlock>> {
        self.batches.recv().await
    }
}

impl Answer {
    fn is_far(&self, from: u64) -> bool {
        self.head.saturating_sub(from) >= FAR && !self.blocks.is_empty()
    }
}

/// The peers that the swarm has, in any order.
fn connected(host: &Host) -> Vec<PeerKey> {
    let mut peers: Vec<PeerKey> = host
        .peers()
        .iter()
        .filter(|p| p.connected)
        .map(|p| p.key)
        .collect();
    peers.shuffle(&mut rand::thread_rng());
    peers
}

async fn ask(host: &Host, peer: &PeerKey, from: u64, deadline: Duration) -> Result<Answer, String> {
    let answer = host
        .request(peer, PROTOCOL, &encode_request(from), deadline)
        .await
        .map_err(|e| e.to_string())?;
    decode_answer(&answer).map_err(|e| e.to_string())
}

/// Hands on what came, and asks for more until this node is near.
async fn go_on(
    host: Host,
    mut peer: PeerKey,
    mut from: u64,
    mut answer: Answer,
    sender: mpsc::Sender<Vec<DecidedBlock>>,
) {
    let mut vain = 0;
    loop {
        from = from.saturating_add(answer.blocks.len() as u64);
        let (head, blocks) = (answer.head, std::mem::take(&mut answer.blocks));
        if !blocks.is_empty() && sender.send(blocks).await.is_err() {
            return;
        }
        if head.saturating_sub(from) < FAR {
            return;
        }
        answer = loop {
            match ask(&host, &peer, from, DEADLINE).await {
                Ok(answer) if !answer.blocks.is_empty() => break answer,
                Ok(_) => tracing::debug!(from, "a peer has no more blocks"),
                Err(error) => tracing::debug!(from, %error, "a peer handed over no blocks"),
            }
            vain += 1;
            let Some(other) = connected(&host).into_iter().find(|key| *key != peer) else {
                return;
            };
            if vain >= MAX_VAIN {
                return;
            }
            peer = other;
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_and_garbage_does_not() {
        let request = encode_request(77);
        assert_eq!(request.len(), REQUEST_BYTES);
        assert_eq!(decode_request(&request), Ok(77));
        let certificate = CommitCertificate {
            height: 5,
            round: 0,
            block: tally_contracts::ids::BlockHash([3; 32]),
            signatures: Vec::new(),
        };
        let blocks = vec![(vec![1, 2, 3], certificate.to_bytes()); 3];
        let bytes = encode_answer(9, &blocks);
        let answer = decode_answer(&bytes).unwrap();
        assert_eq!((answer.head, answer.blocks.len()), (9, 3));
        assert_eq!(answer.blocks[2], (vec![1, 2, 3], certificate));
        for cut in 0..bytes.len() {
            assert!(decode_answer(&bytes[..cut]).is_err());
        }
        assert!(decode_request(&bytes).is_err());
        let mut huge = bytes;
        huge[9..13].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            decode_answer(&huge),
            Err(CodecError::TooLong { .. })
        ));
    }
}
