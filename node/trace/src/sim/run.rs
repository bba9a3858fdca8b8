//! Runs the detector over the simulated worlds and counts.

use std::collections::BTreeSet;

use super::{Campaign, SimScan, World};
use crate::history::History;

/// The highest score of one honest unit, milli-nats.
#[must_use]
pub fn honest_score(world: &World, seed: u64, unit: u64) -> u32 {
    let mut history = History::new();
    for scan in world.honest_unit(seed, unit) {
        history.observe(&scan.observation());
    }
    history.assess().score_mnat
}

/// Scores along one copied code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodeScores {
    /// When the third scan was made, whoever made it; `None` if there were fewer.
    pub third_scan: Option<u32>,
    /// When the third pack was scanned for the first time. A pack that a family scans twice tells nothing new by that: this is the
    /// "third scan" of the target.
    pub third_pack: Option<u32>,
    /// At the end.
    pub last: u32,
    /// Packs that were scanned.
    pub packs: usize,
}

fn code_scores(scans: &[SimScan]) -> CodeScores {
    let (mut history, mut packs) = (History::new(), BTreeSet::new());
    let mut out = CodeScores::default();
    for (i, scan) in scans.iter().enumerate() {
        history.observe(&scan.observation());
        packs.insert(scan.pack);
        let score = history.assess().score_mnat;
        if i == 2 {
            out.third_scan = Some(score);
        }
        if packs.len() == 3 && out.third_pack.is_none() {
            out.third_pack = Some(score);
        }
        out.last = score;
    }
    out.packs = packs.len();
    out
}

/// The scores of every code of run `run` of a campaign.
#[must_use]
pub fn campaign_scores(world: &World, seed: u64, run: u64, campaign: &Campaign) -> Vec<CodeScores> {
    world
        .campaign(seed, run, campaign)
        .iter()
        .map(|scans| code_scores(scans))
        .collect()
}
