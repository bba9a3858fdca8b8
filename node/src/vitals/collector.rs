//! The reading as Prometheus gauges, made anew at each scrape.

use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Vitals;
use crate::chain::WitnessState;
use crate::runtime::Node;

/// Reads a node's [`Vitals`] whenever metrics are asked for. Holds the node weakly: the gateway that owns the registry is part of
/// the node.
pub struct VitalsCollector(Weak<Node>);

impl VitalsCollector {
    /// Of this node.
    #[must_use]
    pub fn new(node: &Arc<Node>) -> Self {
        Self(Arc::downgrade(node))
    }
}

impl std::fmt::Debug for VitalsCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VitalsCollector")
    }
}

impl Collector for VitalsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(node) = self.0.upgrade() else {
            return Ok(());
        };
        let vitals = Vitals::read(&node);
        for (name, help, value) in gauges(&vitals) {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, value) in WITNESS_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for witness in &vitals.witnesses {
                let Some(value) = value(witness) else {
                    continue;
                };
                let labels = [("witness", witness.name.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// What is said of a witness, if there is anything to say.
type WitnessGauge = (&'static str, &'static str, fn(&WitnessState) -> Option<i64>);

/// One line for each external witness.
const WITNESS_GAUGES: [WitnessGauge; 2] = [
    (
        "tally_witness_cosigned_age_seconds",
        "How long ago an external witness cosigned last",
        |w| Some(i64::try_from(w.cosigned?.1).unwrap_or(i64::MAX)),
    ),
    (
        "tally_witness_refusing",
        "1 if an external witness gave no cosignature when it was last asked, else 0",
        |w| Some(i64::from(w.refusal.is_some())),
    ),
];

/// Name, help and value of each gauge; one without a value is left out.
fn gauges(v: &Vitals) -> Vec<(&'static str, &'static str, i64)> {
    let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let mut all = vec![
        (
            "tally_ledger_height",
            "Height of the newest block",
            int(v.height),
        ),
        (
            "tally_ledger_entries",
            "Entries of the ledger",
            int(v.tree_size),
        ),
        (
            "tally_ledger_block_age_milliseconds",
            "Age of the newest block",
            int(v.block_age_ms),
        ),
        (
            "tally_pool_records",
            "Records that wait for a block",
            size(v.pool_records),
        ),
        (
            "tally_pool_bytes",
            "Bytes of the records that wait",
            size(v.pool_bytes),
        ),
        (
            "tally_voting_power",
            "Voting power of all validators",
            int(v.power),
        ),
        (
            "tally_voting_power_present",
            "Voting power that is connected, with this node's own",
            int(v.power_present),
        ),
        (
            "tally_peers",
            "Nodes of other members and of this one",
            size(v.peers.1),
        ),
        (
            "tally_peers_connected",
            "Those of them that are connected",
            size(v.peers.0),
        ),
        (
            "tally_consensus_running",
            "1 if the consensus engine runs, else 0",
            i64::from(v.engine_running),
        ),
        (
            "tally_consensus_height",
            "Height that the engine works on",
            int(v.engine_at.0),
        ),
        (
            "tally_consensus_round",
            "Round of that height; above 0 a proposer failed",
            i64::from(v.engine_at.1),
        ),
        (
            "tally_disk_reserve_bytes",
            "Bytes that are kept free",
            int(v.disk_reserve_bytes),
        ),
        (
            "tally_read_only",
            "1 if neither scans nor records are taken, else 0",
            i64::from(v.read_only.is_some()),
        ),
    ];
    if let Some((size, age)) = v.checkpoint {
        all.push((
            "tally_checkpoint_entries",
            "Entries under the newest checkpoint with a quorum",
            int(size),
        ));
        all.push((
            "tally_checkpoint_age_seconds",
            "Age of its newest cosignature",
            int(age),
        ));
    }
    if let Some(free) = v.disk_free_bytes {
        all.push((
            "tally_disk_free_bytes",
            "Free bytes of the node's disk",
            int(free),
        ));
    }
    if let Some(skew) = v.clock_skew_ms {
        all.push((
            "tally_clock_skew_milliseconds",
            "How far the other validators' clocks are ahead of this node's; negative: behind",
            skew,
        ));
    }
    all
}
