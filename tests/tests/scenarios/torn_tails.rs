//! The last bytes of a stopped node's files are torn or garbled, as by a disk that lied. At its start the node repairs what can
//! only be its own loss, or refuses with a message that says what is wrong; then its ledger is fetched anew from the others. The
//! network loses nothing that it acknowledged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::{Rng as _, RngCore};
use tally_tests::{Member, Network, Observer, Plan, Scenario};

const PATIENCE: Duration = Duration::from_secs(30);
/// The node that the disk lies to.
const VICTIM: usize = 2;
/// How far clocks may differ. A node whose log of votes is lost keeps silent for twice as long.
const SKEW_MS: u64 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// The engine's log ends early.
    CutLog,
    /// The last bytes of the engine's log are others.
    GarbledLog,
    /// The engine's log is empty.
    EmptyLog,
    /// A stored proposal is others' bytes.
    GarbledProposals,
    /// Half a block stands behind the last one.
    HalfBlock,
    /// Zeros stand behind the last block.
    ZerosAfterBlocks,
    /// The last blocks are missing.
    CutBlocks,
    /// The last block's bytes are others.
    GarbledBlock,
    /// The tiles of the tree are gone.
    NoTiles,
}

const DAMAGES: [Damage; 9] = [
    Damage::CutLog,
    Damage::GarbledLog,
    Damage::EmptyLog,
    Damage::GarbledProposals,
    Damage::HalfBlock,
    Damage::ZerosAfterBlocks,
    Damage::CutBlocks,
    Damage::GarbledBlock,
    Damage::NoTiles,
];

fn cut(path: &Path, bytes: u64) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let size = file.metadata()?.len();
    Ok(file.set_len(size.saturating_sub(bytes))?)
}

fn garble(path: &Path, bytes: u64, rng: &mut impl RngCore) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let size = file.metadata()?.len();
    let mut junk = vec![0; usize::try_from(bytes.min(size))?];
    rng.fill_bytes(&mut junk);
    Ok(file.write_all_at(&junk, size - junk.len() as u64)?)
}

fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    Ok(file.write_all_at(bytes, file.metadata()?.len())?)
}

/// The newest file of a folder with this ending.
fn last_file(dir: &Path, ending: &str) -> Result<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
        .pop()
        .with_context(|| format!("no {ending} in {}", dir.display()))
}

fn damage(member: &Member, damage: Damage, rng: &mut impl RngCore) -> Result<()> {
    let log = member.dir.join("consensus/wal/consensus.wal");
    let blocks = member.dir.join("ledger/blocks");
    let some = rng.gen_range(1..200);
    match damage {
        Damage::CutLog => cut(&log, some),
        Damage::GarbledLog => garble(&log, some, rng),
        Damage::EmptyLog => cut(&log, u64::MAX),
        Damage::GarbledProposals => {
            for entry in fs::read_dir(member.dir.join("consensus/proposals"))? {
                garble(&entry?.path(), some, rng)?;
            }
            Ok(())
        }
        Damage::HalfBlock => {
            let last = last_file(&blocks, ".seg")?;
            let bytes = fs::read(&last)?;
            // The beginning of a real frame: that of the first one.
            append(&last, &bytes[..usize::try_from(some)?.min(bytes.len() - 1)])
        }
        Damage::ZerosAfterBlocks => append(
            &last_file(&blocks, ".seg")?,
            &vec![0; usize::try_from(some)?],
        ),
        Damage::CutBlocks => cut(&last_file(&blocks, ".seg")?, some),
        Damage::GarbledBlock => garble(&last_file(&blocks, ".seg")?, some, rng),
        Damage::NoTiles => {
            let tiles = member.dir.join("ledger/tiles");
            if tiles.exists() {
                fs::remove_dir_all(tiles)?;
            }
            Ok(())
        }
    }
}

/// The last line but the advice of what a command said.
fn last_words(text: &str) -> &str {
    let said = text.lines().rev().find(|line| line.contains("because:"));
    said.unwrap_or_default().trim()
}

/// Starts a node; `None` if it is up, or the reason that it gave when it refused.
fn started(member: &mut Member) -> Result<Option<String>> {
    let before = member.log().len();
    member.start()?;
    let up = tally_tests::until("the node to be up or to refuse", PATIENCE, || {
        if member.ended().is_some() {
            return Ok(false);
        }
        member.ok(&["status"]).map(|_| true)
    })?;
    // The engine reads its log a moment after the node is up.
    let end = std::time::Instant::now() + Duration::from_secs(2);
    while up && member.ended().is_none() {
        if std::time::Instant::now() > end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = member.wait_ended()?;
    ensure!(
        status.code().is_some_and(|code| code != 0 && code != 101),
        "it ended with {status}"
    );
    Ok(Some(member.log()[before..].to_owned()))
}

/// A node that does not know how it voted keeps the log for its operator, does not vote for a while, and then votes again.
fn follows_for_a_while(member: &Member) -> Result<()> {
    if !member.log().contains("is damaged") {
        // Garbled behind the last entry: nothing was lost.
        return Ok(());
    }
    // Why, as long as it lasts.
    let status = member.ok(&["status"])?;
    if status["consensus"]["on_probation"] == true {
        let advice = status["advice"].to_string();
        ensure!(advice.contains("its log of votes was damaged"), "{advice}");
    }
    let wal = member.dir.join("consensus/wal");
    ensure!(
        wal.join("consensus.wal.damaged").is_file(),
        "the damaged log is gone"
    );
    tally_tests::until("the node to vote again", PATIENCE, || {
        ensure!(member.log().contains("votes again"));
        member.ok(&["status"]).map(drop)
    })
}

#[test]
fn torn_tails_are_repaired_or_refused() {
    Scenario::run("torn-tails", |scenario| {
        let mut members = Vec::new();
        for (name, roles) in Plan::four().members {
            members.push(Member::init(scenario.dir(), name, roles, 1)?);
        }
        let mut network = Network::found_by(scenario.dir(), members, 1_000, SKEW_MS)?;
        network.start()?;
        let everyone: Vec<usize> = (0..network.len()).collect();
        let observer = Observer::start(scenario, &network, 1)?;
        observer.progress(&everyone, PATIENCE)?;
        let mut rng = scenario.rng(1);
        for kind in DAMAGES {
            std::thread::sleep(Duration::from_millis(rng.gen_range(0..1_000)));
            let victim = &mut network[VICTIM];
            victim.kill()?;
            damage(victim, kind, &mut rng).with_context(|| format!("{kind:?}"))?;
            let refused = started(victim).with_context(|| format!("{kind:?}"))?;
            let may_refuse = matches!(
                kind,
                Damage::CutBlocks | Damage::GarbledBlock | Damage::NoTiles
            );
            println!(
                "{kind:?}: {}",
                refused.as_deref().map_or("repaired", last_words)
            );
            if let Some(reason) = refused {
                ensure!(may_refuse, "{kind:?} was refused: {reason}");
                let told = reason.contains("damaged") && !reason.contains("panicked");
                ensure!(told, "{kind:?}: {reason}");
                // What the message asks for. What is taken away the others have, or is past.
                if kind == Damage::NoTiles {
                    ensure!(reason.contains("tally reindex"), "{reason}");
                    network[VICTIM].ok(&["reindex"])?;
                } else {
                    ensure!(reason.contains("blocks"), "{reason}");
                    for folder in ["blocks", "state", "tiles"] {
                        let path = network[VICTIM].dir.join("ledger").join(folder);
                        if path.exists() {
                            fs::remove_dir_all(path)?;
                        }
                    }
                }
                let again = started(&mut network[VICTIM])?;
                ensure!(again.is_none(), "{kind:?}: refused again: {again:?}");
            }
            observer
                .progress(&everyone, PATIENCE)
                .with_context(|| format!("after {kind:?}"))?;
            if kind == Damage::GarbledLog {
                follows_for_a_while(&network[VICTIM])?;
            }
        }
        let report = observer.finish(&mut network)?;
        println!("{} records, height {}", report.records, report.height);
        network.stop()
    });
}
