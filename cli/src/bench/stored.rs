//! A ledger that already holds many records: filled by the library, opened by a real node, asked for proofs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use serde_json::json;
use tally_contracts::Record;
use tally_contracts::block::{
    CommitCertificate, CommitSignature, Header, VoteType, vote_sign_bytes,
};
use tally_contracts::ids::{NetworkId, PublicKey, Signature};
use tally_ledger::Ledger;
use tally_merkle::note::MAX_NOTE_BYTES;
use tally_merkle::tile::{
    TILE_WIDTH, TileKind, TilePath, TileReader, TileTree, decode_bundle, decode_hashes, width_at,
};
use tally_merkle::{Checkpoint, Hash, Note, inclusion_proof, leaf_hash, verify_inclusion};
use tally_node::bench::kit::percentile_ms;
use tally_node::ceremony::{load_genesis, read_card};
use tally_node::config::Config;
use tally_node::keys::{KeyStore, NodeKeys};

use super::ledger::Signing;
use super::processes::{resident_mb, rss_mb};
use crate::http::{Getter, Target};
use crate::quickstart::network::{Member, Network};

/// Records of a block: with 250 bytes each they fill it.
const A_BLOCK: u64 = 8_000;
/// Blocks that wait, signed, for the ledger.
const AHEAD: usize = 4;
/// Every so many records one ID is kept, to ask the node for its proof.
const KEPT_EVERY: u64 = 10_000;
/// Proofs that are asked for, of each kind.
const PROOFS: usize = 1_000;
/// How long a node of many records may take to answer after its start, and then to have its checkpoint.
const START_LIMIT: Duration = Duration::from_secs(600);
const CALL_LIMIT: Duration = Duration::from_secs(30);
const MAX_BUNDLE_BYTES: usize = 256 * (2 + 65_535);

/// The figures of a node over a filled ledger.
#[derive(Debug, Serialize)]
pub(crate) struct Stored {
    /// Records in the ledger, each a product of its own, before the node was started.
    stored: usize,
    /// What the library took to sign, execute and commit them, synced.
    fill_s: f64,
    /// From the start of the process to its first answer.
    start_s: f64,
    /// Resident set once the node answers and has its checkpoint, and its peak so far.
    started_mb: f64,
    started_peak_mb: f64,
    /// A proof of one entry over HTTP, from tiles that are fetched for it: four requests or more.
    tile_proof_p50_ms: f64,
    tile_proof_p99_ms: f64,
    /// A whole proof file of one record by the admin socket, verified by the node before it answers.
    record_proof_p50_ms: f64,
    record_proof_p99_ms: f64,
    /// Resident set after the proofs, and its peak so far.
    proved_mb: f64,
    proved_peak_mb: f64,
}

/// What a filled ledger is asked for later.
pub(super) struct Filled {
    count: usize,
    took: Duration,
    /// Some records' IDs.
    ids: Vec<String>,
}

/// Puts `count` records into the ledger of the network's only member, whose node does not run.
pub(super) fn fill(network: &Network, count: usize, say: &dyn Fn(&str)) -> Result<Filled> {
    let [member] = network.members.as_slice() else {
        bail!("expected one validator: it alone can sign the blocks");
    };
    let id: NetworkId = network.id.parse()?;
    let genesis = load_genesis(&member.dir)?;
    let config = Config::load(&member.config)?;
    let owner = read_card(&member.dir.card_file())?.entry().id;
    let keys = KeyStore::new(member.dir.keys()).open_node(&member.passphrase()?)?;
    let ledger = Ledger::open(
        &member.dir.ledger(),
        genesis.document(),
        config.ledger_options(),
    )?;
    let begun_ms = ledger.genesis().created_ms;
    let begun = Instant::now();
    let total = count as u64;
    let mut ids = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let (send, blocks) = sync_channel::<Vec<Record>>(AHEAD);
        let signing = Signing::new(member, 0, id, begun_ms + 3_600_000)?;
        scope.spawn(move || -> Result<()> {
            let mut next = 0;
            while next < total {
                let end = total.min(next + A_BLOCK);
                let records: Vec<Record> = (next..end)
                    .map(|nonce| signing.record(nonce))
                    .collect::<Result<_>>()?;
                // Nobody listens any more if a commit failed; that is told by the other side.
                if send.send(records).is_err() {
                    break;
                }
                next = end;
            }
            Ok(())
        });
        let mut done = 0;
        for records in blocks {
            let height = ledger.head().height + 1;
            let prepared = ledger.prepare(&records, begun_ms + height, owner, &|_| None)?;
            ensure!(
                prepared.refused.is_empty() && prepared.left_over == 0,
                "records were refused"
            );
            let certificate = certificate(&keys, &prepared.block.header);
            ledger.commit(&prepared.block.to_bytes(), &certificate, &|_| None)?;
            for (nonce, record) in (done..).zip(&records) {
                if nonce % KEPT_EVERY == 0 {
                    ids.push(record.id().to_string());
                }
            }
            done += records.len() as u64;
            if done % 1_000_000 < A_BLOCK {
                say(&format!("{done} records stored, {:.0?}", begun.elapsed()));
            }
        }
        ensure!(done == total, "{done} records of {total}");
        Ok(())
    })?;
    ledger.flush()?;
    Ok(Filled {
        count,
        took: begun.elapsed(),
        ids,
    })
}

fn certificate(keys: &NodeKeys, header: &Header) -> CommitCertificate {
    use ed25519_dalek::Signer as _;

    let key = keys.consensus();
    let block = header.hash();
    let message = vote_sign_bytes(
        &header.network,
        header.height,
        0,
        VoteType::Precommit,
        Some(&block),
    );
    CommitCertificate {
        height: header.height,
        round: 0,
        block,
        signatures: vec![CommitSignature {
            validator: PublicKey(key.verifying_key().to_bytes()),
            signature: Signature(key.sign(&message).to_bytes()),
        }],
    }
}

/// Starts the node over what was filled, and asks it for proofs.
pub(super) fn ask(network: &mut Network, filled: &Filled, say: &dyn Fn(&str)) -> Result<Stored> {
    let [member] = network.members.as_mut_slice() else {
        bail!("expected one validator");
    };
    say("starting the node");
    let start_s = restart(member)?;
    let pid = member.pid().context("a node that runs")?;
    let mut files = Files::open(member)?;
    let until = Instant::now() + START_LIMIT;
    let checkpoint = loop {
        match files.checkpoint() {
            Ok(found) if found.size > filled.count as u64 => break found,
            _ if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Ok(found) => bail!("the checkpoint has {} entries", found.size),
            Err(e) => return Err(e.context("no checkpoint came")),
        }
    };
    let (started_mb, started_peak_mb) = (resident_mb(pid)?, rss_mb(pid)?);
    say("proofs over HTTP");
    let mut random = StdRng::seed_from_u64(7);
    let mut by_tiles = Vec::with_capacity(PROOFS);
    for _ in 0..PROOFS {
        by_tiles.push(files.prove(random.gen_range(0..checkpoint.size), &checkpoint)?);
    }
    by_tiles.sort_unstable();
    say("whole proofs by the admin socket");
    let mut whole = Vec::with_capacity(PROOFS);
    for _ in 0..PROOFS {
        let id = filled
            .ids
            .get(random.gen_range(0..filled.ids.len()))
            .context("a record")?;
        let begun = Instant::now();
        member.call("record_proof", &json!({"record": id}))?;
        whole.push(begun.elapsed());
    }
    whole.sort_unstable();
    Ok(Stored {
        stored: filled.count,
        fill_s: filled.took.as_secs_f64(),
        start_s,
        started_mb,
        started_peak_mb,
        tile_proof_p50_ms: percentile_ms(&by_tiles, 0.5),
        tile_proof_p99_ms: percentile_ms(&by_tiles, 0.99),
        record_proof_p50_ms: percentile_ms(&whole, 0.5),
        record_proof_p99_ms: percentile_ms(&whole, 0.99),
        proved_mb: resident_mb(pid)?,
        proved_peak_mb: rss_mb(pid)?,
    })
}

/// Starts the member's node; gives the seconds until it answers.
pub(super) fn restart(member: &mut Member) -> Result<f64> {
    let begun = Instant::now();
    member.start()?;
    member.wait_up_within(START_LIMIT)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// What a node serves over HTTP.
struct Files(RefCell<Getter>);

impl Files {
    fn open(member: &Member) -> Result<Self> {
        let getter = Getter::new(Target::parse(&member.http)?, CALL_LIMIT)?;
        Ok(Self(RefCell::new(getter)))
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let bytes = self.0.borrow_mut().get("checkpoint", MAX_NOTE_BYTES)?;
        let note = Note::parse(std::str::from_utf8(&bytes)?)?;
        Ok(note.text().parse()?)
    }

    /// The time to fetch what proves an entry. Then the proof is verified, with the entry as the node gives it.
    fn prove(&mut self, index: u64, checkpoint: &Checkpoint) -> Result<Duration> {
        let size = checkpoint.size;
        let begun = Instant::now();
        let tree = TileTree(Fetched {
            files: self,
            size,
            had: RefCell::default(),
        });
        let path = inclusion_proof(&tree, index, size)?;
        let took = begun.elapsed();
        let bundle = index / u64::from(TILE_WIDTH);
        let width = width_at(TileKind::Entries, bundle, size);
        let name = TilePath::new(TileKind::Entries, bundle, width)?.to_string();
        let bytes = self.0.borrow_mut().get(&name, MAX_BUNDLE_BYTES)?;
        let entries = decode_bundle(&bytes, width)?;
        let at = usize::try_from(index % u64::from(TILE_WIDTH))?;
        let entry = entries.get(at).context("an entry")?;
        verify_inclusion(&leaf_hash(entry), index, size, &path, &checkpoint.root)?;
        Ok(took)
    }
}

/// Tiles by level and index.
type Had = BTreeMap<(u8, u64), Arc<[Hash]>>;

/// The tiles of one proof; each is fetched once for it.
struct Fetched<'a> {
    files: &'a Files,
    size: u64,
    had: RefCell<Had>,
}

impl TileReader for Fetched<'_> {
    type Error = anyhow::Error;

    fn tile(&self, level: u8, index: u64) -> Result<Arc<[Hash]>> {
        if let Some(tile) = self.had.borrow().get(&(level, index)) {
            return Ok(tile.clone());
        }
        let kind = TileKind::Hashes(level);
        let width = width_at(kind, index, self.size);
        let path = TilePath::new(kind, index, width)?;
        let max = usize::from(TILE_WIDTH) * 32;
        let bytes = self.files.0.borrow_mut().get(&path.to_string(), max)?;
        let hashes = decode_hashes(&bytes, width).map_err(|e| anyhow!("{path}: {e}"))?;
        let tile: Arc<[Hash]> = hashes.into();
        self.had.borrow_mut().insert((level, index), tile.clone());
        Ok(tile)
    }
}

/// Bytes of all files below a folder.
pub(super) fn disk_bytes(dir: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(dir)? {
        let file = file?;
        let meta = file.metadata()?;
        bytes += if meta.is_dir() {
            disk_bytes(&file.path())?
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}
