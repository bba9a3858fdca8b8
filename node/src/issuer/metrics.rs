//! What the issuer counts, for `GET /metrics`.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::IssuerStore;

/// Reads the counters of a store at each scrape.
pub struct IssuerMetrics(Arc<IssuerStore>);

impl IssuerMetrics {
    /// Of this store.
    #[must_use]
    pub const fn new(store: Arc<IssuerStore>) -> Self {
        Self(store)
    }
}

impl fmt::Debug for IssuerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuerMetrics")
    }
}

impl Collector for IssuerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let found = self.0.counters();
        for (name, help, value) in [
            (
                "tally_codes_checked",
                "Own codes verified, counted or not",
                found.checks,
            ),
            (
                "tally_codes_not_ours",
                "Codes under own products that no own key made: misread or guessed",
                found.tag_failures,
            ),
            (
                "tally_codes_insider_alarms",
                "Codes that an own key made outside its batch: somebody with the keys prints codes",
                found.alarms_outside_batch,
            ),
            (
                "tally_codes_unannounced_alarms",
                "Codes of own batches that the ledger does not have",
                found.alarms_not_anchored,
            ),
            (
                "tally_codes_wrong_claims",
                "Claim codes that were not those of their unit",
                found.wrong_claims,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
