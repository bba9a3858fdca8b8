//! What the quickstart found.

use serde_json::{Value, json};

use super::scans::Tally;

/// The figures of one run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) network_id: String,
    pub(crate) nodes: Vec<(String, String)>,
    pub(crate) codes_issued: u64,
    pub(crate) tally: Tally,
    pub(crate) proof_verified: bool,
    pub(crate) height_at_kill: u64,
    pub(crate) height_at_return: u64,
    pub(crate) records_while_down: u64,
    pub(crate) caught_up: bool,
    pub(crate) catch_up_seconds: f64,
    pub(crate) state_roots_equal: bool,
    pub(crate) tree_size: u64,
}

impl Report {
    /// Whether every step did what it should.
    pub(crate) fn ok(&self) -> bool {
        self.proof_verified
            && self.caught_up
            && self.state_roots_equal
            && self.records_while_down > 0
            && self.tally.wrong == 0
            && self.tally.total() > 0
    }

    /// As one JSON object, or for people.
    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
            return;
        }
        let tick = |good: bool| if good { "yes" } else { "NO" };
        println!(
            "\nTallystick quickstart: a test network of {} members",
            self.nodes.len()
        );
        println!("  network        {}", self.network_id);
        for (name, address) in &self.nodes {
            println!("  {name:<14} {address}");
        }
        println!(
            "\n  scans                       {} acknowledged with a signed receipt, {} slowed down",
            self.tally.total(),
            self.tally.slowed
        );
        for (verdict, count) in &self.tally.verdicts {
            println!("    {verdict:<25} {count}");
        }
        println!(
            "  record proven offline       {}",
            tick(self.proof_verified)
        );
        println!(
            "  platform killed at height   {}; the other three went on to {} with {} records",
            self.height_at_kill, self.height_at_return, self.records_while_down
        );
        println!(
            "  in step again               {} after {:.1} s",
            tick(self.caught_up),
            self.catch_up_seconds
        );
        println!(
            "  state roots equal           {}",
            tick(self.state_roots_equal)
        );
        println!("  entries in the ledger       {}", self.tree_size);
        println!("\n  Not in this run yet: the audience match, and a proof of a single code.");
        println!("  {:.1} s in all", self.seconds);
    }

    fn json(&self) -> Value {
        json!({
            "ok": self.ok(),
            "seconds": self.seconds,
            "nodes": self.nodes.len(),
            "network_id": self.network_id,
            "codes_issued": self.codes_issued,
            "scans_acknowledged": self.tally.total(),
            "verdicts": self.tally.verdicts,
            "match": null,
            "proof_verified": self.proof_verified,
            "killed_node_caught_up": self.caught_up,
            "records_committed_while_down": self.records_while_down,
            "state_roots_equal": self.state_roots_equal,
            "tree_size": self.tree_size,
        })
    }
}
