//! What a node says of itself, and what its operator should do next.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};
use tally_contracts::state;

use crate::backup::Forgotten;
use crate::gateway::NodeStatus;
use crate::runtime::Node;
use crate::snapshots;
use crate::vitals::{Missing, Vitals};

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
    let genesis = ledger.genesis();
    let vitals = Vitals::read(node);
    let heartbeat_ms = state::rules(ledger.state()).map_or(10_000, |r| r.heartbeat_ms);
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
    let missing: Vec<Value> = vitals
        .missing
        .iter()
        .map(|m| json!({"name": m.name, "power": m.power, "seconds": m.seconds}))
        .collect();
    let witnesses: Vec<Value> = vitals
        .witnesses
        .iter()
        .map(|w| {
            json!({
                "name": w.name,
                "cosigned_size": w.cosigned.map(|(size, _)| size),
                "cosigned_age_s": w.cosigned.map(|(_, age)| age),
                "answered_age_s": w.answered_s,
                "refusal": w.refusal,
            })
        })
        .collect();
    let codes = node.issuer.counters();
    let mut advice = vitals.advice(heartbeat_ms);
    advice.extend(codes.advice());
    json!({
        "member": node.member_name,
        "network_id": ledger.network().to_string(),
        "network": genesis.name,
        "kind": genesis.kind.name(),
        "height": vitals.height,
        "block_time_ms": head.time_ms,
        "block_age_ms": vitals.block_age_ms,
        "tree_size": vitals.tree_size,
        "tree_root": head.tree_root.to_string(),
        "state_root": head.state_root.to_string(),
        "first_height": ledger.first_height(),
        "first_entry": ledger.first_entry(),
        "snapshot_height": snapshots::newest(&node.chain),
        "checkpoint_size": vitals.checkpoint.map(|(size, _)| size),
        "checkpoint_age_s": vitals.checkpoint.map(|(_, age)| age),
        "pool": {"records": vitals.pool_records, "bytes": vitals.pool_bytes},
        "consensus": {
            "height": vitals.engine_at.0,
            "round": vitals.engine_at.1,
            "waiting_for_records": node.engine.status().waiting,
            "running": vitals.engine_running,
            "on_probation": vitals.on_probation.is_some(),
            "probation_reason": vitals.on_probation.map(Forgotten::reason),
            "voting_power": vitals.power,
            "power_present": vitals.power_present,
            "missing": missing,
        },
        "witnesses": witnesses,
        "disk": {"free_bytes": vitals.disk_free_bytes, "reserve_bytes": vitals.disk_reserve_bytes},
        "clock_skew_ms": vitals.clock_skew_ms,
        "peers": peers,
        "codes": {
            "checked": codes.checks,
            "not_ours": codes.tag_failures,
            "insider_alarms": codes.alarms_outside_batch,
            "unannounced_alarms": codes.alarms_not_anchored,
            "wrong_claims": codes.wrong_claims,
        },
        "read_only": vitals.read_only,
        "advice": advice,
    })
}

impl NodeStatus for Status {
    fn status(&self) -> Value {
        status(&self.0)
    }

    fn not_ready(&self) -> Vec<String> {
        let vitals = Vitals::read(&self.0);
        let mut reasons = Vec::new();
        if !vitals.has_quorum() {
            let names: Vec<String> = vitals.missing.iter().map(Missing::to_string).collect();
            reasons.push(format!("no quorum: {} missing", names.join(", ")));
        }
        if !vitals.engine_running {
            reasons.push("the consensus engine has stopped".into());
        }
        reasons
    }

    fn read_only(&self) -> Option<String> {
        self.0.chain.read_only()
    }
}
