//! What a node says of itself, and what its operator should do next.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::chain::now_ms;
use crate::gateway::NodeStatus;
use crate::runtime::Node;

/// The status of a running node.
pub struct Status(Arc<Node>);

impl Status {
    /// Of this node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

/// The status as one JSON object.
#[must_use]
pub fn status(node: &Node) -> Value {
    let ledger = node.chain.ledger();
    let head = ledger.head();
    let engine = node.engine.status();
    let genesis = ledger.genesis();
    let peers: Vec<Value> = node
        .host
        .peers()
        .into_iter()
        .map(|p| {
            let since = SystemTime::now()
                .duration_since(p.since)
                .map_or(0, |d| d.as_secs());
            json!({"name": p.label, "connected": p.connected, "seconds": since, "rtt_ms": p.rtt_ms})
        })
        .collect();
    let (total, present, missing) = votes(node);
    let checkpoint = node.chain.checkpoint().map(|(size, _)| size);
    let (records, bytes) = node.chain.pool_size();
    let read_only = node.chain.read_only();
    let mut advice = Vec::new();
    if 3 * present <= 2 * total {
        advice.push(format!(
            "no quorum: start or reconnect {} (more than two thirds of the voting power must be there)",
            missing.join(", ")
        ));
    } else if !missing.is_empty() {
        advice.push(format!(
            "{} away; the network goes on without",
            missing.join(", ")
        ));
    }
    if let Some(reason) = &read_only {
        advice.push(format!(
            "no scans and no records are taken: {reason}; free disk space, and the node goes on by itself"
        ));
    }
    if !engine.running && node.room.lacking().is_some() {
        advice.push(
            "the consensus engine waits for disk space; the network goes on without this node"
                .into(),
        );
    } else if !engine.running {
        advice.push(
            "the consensus engine has stopped; read the log before you start the node again".into(),
        );
    }
    json!({
        "member": node.member_name,
        "network_id": ledger.network().to_string(),
        "network": genesis.name,
        "kind": genesis.kind.name(),
        "height": head.height,
        "block_time_ms": head.time_ms,
        "block_age_ms": now_ms().saturating_sub(head.time_ms),
        "tree_size": head.tree_size,
        "tree_root": head.tree_root.to_string(),
        "state_root": head.state_root.to_string(),
        "checkpoint_size": checkpoint,
        "pool": {"records": records, "bytes": bytes},
        "consensus": {
            "height": engine.height,
            "round": engine.round,
            "waiting_for_records": engine.waiting,
            "running": engine.running,
            "voting_power": total,
            "power_present": present,
            "missing": missing,
        },
        "peers": peers,
        "read_only": read_only,
        "advice": advice,
    })
}

/// Voting power in all, that of this node and the connected ones, and the names of the missing.
fn votes(node: &Node) -> (u64, u64, Vec<String>) {
    let Ok(validators) = node.chain.ledger().validators() else {
        return (0, 0, Vec::new());
    };
    let own = node.host.key();
    let mut present = 0;
    let mut missing = Vec::new();
    for v in validators.validators() {
        if v.transport.0 == own || node.host.is_connected(&v.transport.0) {
            present += v.power;
        } else {
            missing.push(v.member_name.clone());
        }
    }
    (validators.total_power(), present, missing)
}

impl NodeStatus for Status {
    fn status(&self) -> Value {
        status(&self.0)
    }

    fn not_ready(&self) -> Vec<String> {
        let (total, present, missing) = votes(&self.0);
        let mut reasons = Vec::new();
        if 3 * present <= 2 * total {
            reasons.push(format!("no quorum: {} missing", missing.join(", ")));
        }
        if !self.0.engine.status().running {
            reasons.push("the consensus engine has stopped".into());
        }
        reasons
    }

    fn read_only(&self) -> Option<String> {
        self.0.chain.read_only()
    }
}
