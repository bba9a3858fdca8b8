//! Counters of the gateway and gauges of the scan log, in the Prometheus text format.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tally_trace::probing::Alarm;

use crate::scans::{Channel, ScanLog, Verdict};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScanLabels {
    verdict: &'static str,
    channel: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabels {
    from: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

/// The gateway's metrics. Labels are few and hold nothing of who scanned what.
pub struct Metrics {
    registry: Mutex<Registry>,
    scans: Family<ScanLabels, Counter>,
    alarms: Family<AlarmLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    refused: Counter,
    log_scans: Gauge<u64, AtomicU64>,
    log_bytes: Gauge<u64, AtomicU64>,
    log_codes: Gauge<u64, AtomicU64>,
    log_pending: Gauge<u64, AtomicU64>,
    log_anchored: Gauge<u64, AtomicU64>,
    log_writable: Gauge<u64, AtomicU64>,
    slowed: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Registers the gateway's metrics beside what `registry` has already.
    #[must_use]
    pub fn new(mut registry: Registry) -> Self {
        let scans = Family::default();
        let alarms = Family::default();
        let requests = Family::default();
        let seconds = Histogram::new(exponential_buckets(0.000_5, 2.0, 15));
        let refused = Counter::default();
        let gauge = |name: &str, help: &str, registry: &mut Registry| {
            let gauge = Gauge::<u64, AtomicU64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        registry.register(
            "tally_scans",
            "Scans taken, by verdict and channel",
            scans.clone(),
        );
        registry.register(
            "tally_probing_alarms",
            "Times that one source, or all together, tried too many wrong codes in a day",
            alarms.clone(),
        );
        registry.register(
            "tally_http_requests",
            "HTTP requests answered, by route and status",
            requests.clone(),
        );
        registry.register(
            "tally_http_request_seconds",
            "Time from a request's headers to its answer",
            seconds.clone(),
        );
        registry.register(
            "tally_http_slowed_refusals",
            "Requests turned away because their source tries many wrong codes",
            refused.clone(),
        );
        Self {
            log_scans: gauge(
                "tally_scan_log_size",
                "Entries of the scan log",
                &mut registry,
            ),
            log_bytes: gauge(
                "tally_scan_log_bytes",
                "Bytes of the scan log on disk",
                &mut registry,
            ),
            log_codes: gauge(
                "tally_scan_log_codes",
                "Codes with a counted scan",
                &mut registry,
            ),
            log_pending: gauge(
                "tally_scan_log_unverified",
                "Scans whose issuer must be asked again",
                &mut registry,
            ),
            log_anchored: gauge(
                "tally_scan_log_anchored_size",
                "Entries of the scan log under the newest anchor",
                &mut registry,
            ),
            log_writable: gauge(
                "tally_scan_log_writable",
                "1 if scans can be written, else 0",
                &mut registry,
            ),
            slowed: gauge(
                "tally_http_slowed_sources",
                "Sources that are slowed down now",
                &mut registry,
            ),
            registry: Mutex::new(registry),
            scans,
            alarms,
            requests,
            seconds,
            refused,
        }
    }

    pub(super) fn count_scan(&self, verdict: Verdict, channel: Channel) {
        let labels = ScanLabels {
            verdict: verdict.name(),
            channel: channel.name(),
        };
        self.scans.get_or_create(&labels).inc();
    }

    pub(super) fn count_alarm(&self, alarm: &Alarm) {
        let from = match alarm {
            Alarm::Source { .. } => "source",
            Alarm::All { .. } => "all",
        };
        self.alarms.get_or_create(&AlarmLabels { from }).inc();
    }

    pub(super) fn count_request(&self, route: &str, status: u16, seconds: f64) {
        let labels = RequestLabels {
            route: route.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(seconds);
    }

    pub(super) fn count_refused(&self) {
        self.refused.inc();
    }

    /// The text, with the gauges as they are now.
    pub(super) fn text(&self, log: &ScanLog, slowed: usize) -> Option<String> {
        self.log_scans.set(log.size());
        self.log_bytes.set(log.bytes());
        self.log_codes.set(log.codes());
        self.log_pending.set(log.pending() as u64);
        self.log_anchored
            .set(log.anchor_state().last.map_or(0, |a| a.size));
        self.log_writable.set(u64::from(log.read_only().is_none()));
        self.slowed.set(slowed as u64);
        let mut out = String::new();
        encode(&mut out, &*self.registry.lock().ok()?).ok()?;
        Some(out)
    }
}
