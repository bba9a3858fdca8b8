//! One reading of how a node is, in numbers: what `tally status` tells a person and `/metrics` tells a machine.

mod collector;

pub use collector::VitalsCollector;

use std::time::SystemTime;

use tally_contracts::NodeEntry;
use tally_contracts::state::{self, StateRead as _, keys};

use crate::backup::Forgotten;
use crate::chain::{WitnessState, now_ms};
use crate::room::free_bytes;
use crate::runtime::Node;

/// A clock that is this far from those of the others is worth a word, in milliseconds. Well above what a block travels, well
/// below what makes blocks be refused.
const SKEW_TOLD_MS: u64 = 2_000;

/// A validator that is not connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its member's name.
    pub name: String,
    /// Its voting power.
    pub power: u64,
    /// For how long, in seconds, as far as this node knows since it started; `None` if it does not know the node.
    pub seconds: Option<u64>,
}

/// The reading.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// Height of the newest block.
    pub height: u64,
    /// Entries of the ledger.
    pub tree_size: u64,
    /// Age of the newest block by this node's clock, in milliseconds.
    pub block_age_ms: u64,
    /// Size of the newest checkpoint with a quorum, and the age of its newest cosignature in seconds.
    pub checkpoint: Option<(u64, u64)>,
    /// Records that wait.
    pub pool_records: usize,
    /// Their bytes.
    pub pool_bytes: usize,
    /// Voting power of all validators.
    pub power: u64,
    /// Voting power that is connected, this node's own included.
    pub power_present: u64,
    /// The validators that are not.
    pub missing: Vec<Missing>,
    /// Nodes of the member swarm that are connected, and all of them.
    pub peers: (usize, usize),
    /// Free bytes of the disk; `None` if the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// Bytes that are kept free.
    pub disk_reserve_bytes: u64,
    /// How far the other validators' clocks are ahead of this node's (negative: behind), in milliseconds: the median of what
    /// their newest proposals said. `None` before there was one.
    pub clock_skew_ms: Option<i64>,
    /// Whether the consensus engine runs.
    pub engine_running: bool,
    /// Height and round that the engine works on.
    pub engine_at: (u64, u32),
    /// Why nothing is taken, if so.
    pub read_only: Option<String>,
    /// Why the node does not vote yet, if so.
    pub on_probation: Option<Forgotten>,
    /// The external witnesses that it asks.
    pub witnesses: Vec<WitnessState>,
    /// What the ledger says of this node.
    pub standing: Standing,
}

/// What the ledger says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is a member's, by the keys that it uses.
    Member,
    /// Its member is not there, or not yet as far as this node's ledger goes.
    Unknown,
    /// Its member was removed.
    Removed,
    /// Its member is there, with other keys than this node uses.
    OtherKeys,
}

impl Vitals {
    /// Reads them now.
    #[must_use]
    pub fn read(node: &Node) -> Self {
        let head = node.chain.ledger().head();
        let engine = node.engine.status();
        let peers = node.host.peers();
        let now = now_ms();
        let (pool_records, pool_bytes) = node.chain.pool_size();
        let (power, power_present, missing) = votes(node);
        Self {
            height: head.height,
            tree_size: head.tree_size,
            block_age_ms: now.saturating_sub(head.time_ms),
            checkpoint: node
                .chain
                .checkpoint_time_s()
                .map(|(size, time_s)| (size, (now / 1000).saturating_sub(time_s))),
            pool_records,
            pool_bytes,
            power,
            power_present,
            missing,
            peers: (peers.iter().filter(|p| p.connected).count(), peers.len()),
            disk_free_bytes: free_bytes(node.dir.root()),
            disk_reserve_bytes: node.config.limits.disk_reserve_bytes,
            clock_skew_ms: node.chain.clock_skew_ms(),
            engine_running: engine.running,
            engine_at: (engine.height, engine.round),
            read_only: node.chain.read_only(),
            on_probation: node.on_probation,
            witnesses: node.chain.witnesses(),
            standing: standing(node),
        }
    }

    /// Whether more than two thirds of the voting power is connected.
    #[must_use]
    pub const fn has_quorum(&self) -> bool {
        3 * self.power_present as u128 > 2 * self.power as u128
    }

    /// What is wrong and what to do, the most urgent first; empty if all is well. `heartbeat_ms` is that of the network's rules.
    #[must_use]
    pub fn advice(&self, heartbeat_ms: u64) -> Vec<String> {
        let mut advice = Vec::new();
        let names = || {
            let names: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        if !self.has_quorum() {
            advice.push(format!(
                "no quorum: start or reconnect {} (more than two thirds of the voting power must be there)",
                names()
            ));
        } else if !self.missing.is_empty() {
            advice.push(format!("{} away; the network goes on without", names()));
        }
        if let Some(reason) = &self.read_only {
            advice.push(format!(
                "no scans and no records are taken: {reason}; free disk space, and the node goes on by itself"
            ));
        }
        let lacks_room = self
            .disk_free_bytes
            .is_some_and(|free| free < self.disk_reserve_bytes);
        if !self.engine_running {
            advice.push(if lacks_room {
                "the consensus engine waits for disk space; the network goes on without this node"
                    .into()
            } else {
                "the consensus engine has stopped; read the log before you start the node again"
                    .into()
            });
        } else if self.has_quorum() && self.block_age_ms > heartbeat_ms.saturating_mul(3) {
            advice.push(format!(
                "no block for {} s although a quorum is connected; a heartbeat is due every {} s: look at the clocks and the logs of the validators",
                self.block_age_ms / 1000,
                heartbeat_ms / 1000
            ));
        } else if let Some((_, age)) = self.checkpoint
            && self.has_quorum()
            && age > (heartbeat_ms / 1000).saturating_mul(3).max(30)
        {
            advice.push(format!(
                "the newest checkpoint was cosigned {age} s ago; blocks come, cosignatures do not: look at the links of the member swarm"
            ));
        }
        match self.standing {
            Standing::Member => {}
            Standing::Unknown => advice.push(
                "the ledger does not know this member yet: a member proposes it (`tally change propose admit --card FILE`), the others vote, then this node gets the ledger"
                    .into(),
            ),
            Standing::Removed => advice.push(
                "this member was removed from the network: its records are refused, and no node talks to it".into(),
            ),
            Standing::OtherKeys => advice.push(
                "the ledger names other keys of this node than it uses: restore its keys folder, or have the members replace the node's keys (`tally change propose replace-node`)"
                    .into(),
            ),
        }
        if let Some(why) = self.on_probation {
            advice.push(format!(
                "{}: it follows and does not vote until the others have decided a block of afterwards; then it votes by itself",
                why.reason()
            ));
        }
        for witness in &self.witnesses {
            if let Some(refusal) = &witness.refusal {
                let since = witness
                    .cosigned
                    .map_or_else(|| "ever".to_owned(), |(_, s)| format!("for {s} s"));
                advice.push(format!(
                    "the witness {} has not cosigned {since}: {refusal}; commits do not wait for it",
                    witness.name
                ));
            }
        }
        if let Some(skew) = self.clock_skew_ms
            && skew.unsigned_abs() >= SKEW_TOLD_MS
        {
            advice.push(format!(
                "this machine's clock is {} s {} those of the other validators; set it by NTP, or its blocks will be refused",
                skew.unsigned_abs() / 1000,
                if skew > 0 { "behind" } else { "ahead of" }
            ));
        }
        if let Some(free) = self.disk_free_bytes
            && self.read_only.is_none()
            && free < self.disk_reserve_bytes.saturating_mul(4)
        {
            advice.push(format!(
                "{} MB of disk are left; below {} MB nothing new is taken",
                free / 1_000_000,
                self.disk_reserve_bytes / 1_000_000
            ));
        }
        advice
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match self.seconds {
            Some(s) if s >= 7_200 => write!(f, " (gone for {} h)", s / 3_600),
            Some(s) if s >= 120 => write!(f, " (gone for {} min)", s / 60),
            Some(s) => write!(f, " (gone for {s} s)"),
            None => Ok(()),
        }
    }
}

fn standing(node: &Node) -> Standing {
    let state = node.chain.ledger().state();
    match state::member(state, &node.chain.member()) {
        Ok(Some(member)) => {
            let (transport, records) = (node.host.key(), node.records.public_key());
            let own = |n: &NodeEntry| n.transport.0 == transport && n.records == records;
            if member.nodes.iter().any(own) {
                Standing::Member
            } else {
                Standing::OtherKeys
            }
        }
        // Its name stays taken.
        Ok(None) => match state.get(&keys::member_name(&node.member_name)) {
            Ok(Some(_)) => Standing::Removed,
            _ => Standing::Unknown,
        },
        Err(_) => Standing::Member,
    }
}

/// Voting power in all, that of this node and the connected ones, and the missing validators.
fn votes(node: &Node) -> (u64, u64, Vec<Missing>) {
    let Ok(validators) = node.chain.ledger().validators() else {
        return (0, 0, Vec::new());
    };
    let own = node.host.key();
    let peers = node.host.peers();
    let mut present = 0;
    let mut missing = Vec::new();
    for v in validators.validators() {
        let peer = peers.iter().find(|p| p.key == v.transport.0);
        if v.transport.0 == own || peer.is_some_and(|p| p.connected) {
            present += v.power;
            continue;
        }
        missing.push(Missing {
            name: v.member_name.clone(),
            power: v.power,
            seconds: peer
                .and_then(|p| SystemTime::now().duration_since(p.since).ok())
                .map(|d| d.as_secs()),
        });
    }
    (validators.total_power(), present, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Vitals {
        Vitals {
            height: 10,
            tree_size: 20,
            block_age_ms: 9_000,
            checkpoint: Some((20, 5)),
            pool_records: 0,
            pool_bytes: 0,
            power: 4,
            power_present: 4,
            missing: Vec::new(),
            peers: (3, 3),
            disk_free_bytes: Some(1 << 40),
            disk_reserve_bytes: 1 << 28,
            clock_skew_ms: Some(-60),
            engine_running: true,
            engine_at: (11, 0),
            read_only: None,
            on_probation: None,
            witnesses: Vec::new(),
            standing: Standing::Member,
        }
    }

    fn away(name: &str, seconds: Option<u64>) -> Missing {
        Missing {
            name: name.into(),
            power: 1,
            seconds,
        }
    }

    #[test]
    fn nothing_is_said_when_all_is_well() {
        assert_eq!(well().advice(10_000), Vec::<String>::new());
    }

    #[test]
    fn the_missing_are_named_with_their_time() {
        let mut v = well();
        v.power_present = 3;
        v.missing = vec![away("acme", Some(150))];
        assert_eq!(
            v.advice(10_000),
            ["acme (gone for 2 min) away; the network goes on without"]
        );
        v.power_present = 2;
        v.missing.push(away("boreal", None));
        let advice = v.advice(10_000);
        assert_eq!(advice.len(), 1, "{advice:?}");
        assert!(
            advice[0].starts_with("no quorum: start or reconnect acme (gone for 2 min), boreal "),
            "{advice:?}"
        );
    }

    /// Two of three is no quorum, three of four is.
    #[test]
    fn a_quorum_is_more_than_two_thirds() {
        let mut v = well();
        for (power, present, quorum) in [(3, 2, false), (4, 3, true), (1, 1, true), (0, 0, false)] {
            (v.power, v.power_present) = (power, present);
            assert_eq!(v.has_quorum(), quorum, "{present} of {power}");
        }
    }

    #[test]
    fn each_trouble_has_its_word() {
        let said = |change: &dyn Fn(&mut Vitals), word: &str| {
            let mut v = well();
            change(&mut v);
            let advice = v.advice(10_000);
            assert!(
                advice.len() == 1 && advice[0].contains(word),
                "{word:?} is not all of {advice:?}"
            );
        };
        said(&|v| v.engine_running = false, "engine has stopped");
        said(&|v| v.block_age_ms = 31_000, "no block for 31 s");
        said(&|v| v.checkpoint = Some((20, 31)), "cosigned 31 s ago");
        said(&|v| v.clock_skew_ms = Some(2_000), "2 s behind those");
        said(&|v| v.clock_skew_ms = Some(-95_500), "95 s ahead of those");
        said(
            &|v| v.disk_free_bytes = Some(1 << 29),
            "536 MB of disk are left",
        );
        let restored = Some(Forgotten::Restored);
        said(&|v| v.on_probation = restored, "restored from a backup: ");
        let log = Some(Forgotten::DamagedLog);
        said(&|v| v.on_probation = log, "its log of votes was damaged: ");
        let witness = |cosigned, refusal: Option<&str>| {
            vec![WitnessState {
                name: "w.example".into(),
                cosigned,
                answered_s: None,
                refusal: refusal.map(ToOwned::to_owned),
            }]
        };
        let mut v = well();
        v.witnesses = witness(Some((20, 3)), None);
        assert_eq!(v.advice(10_000), Vec::<String>::new());
        let refused = Some("no answer within 5 s");
        said(
            &|v| v.witnesses = witness(Some((20, 90)), refused),
            "w.example has not cosigned for 90 s: no answer within 5 s",
        );
        said(
            &|v| v.witnesses = witness(None, refused),
            "has not cosigned ever",
        );
        said(&|v| v.standing = Standing::Unknown, "change propose admit");
        said(&|v| v.standing = Standing::Removed, "was removed");
        said(&|v| v.standing = Standing::OtherKeys, "other keys");
        said(&|v| v.read_only = Some("why".into()), "are taken: why");
    }
}
