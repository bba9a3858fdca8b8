//! What the quickstart found, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::matching::{Imported, Matching};
use super::scans::Tally;
use crate::output::{self, grouped};

/// The figures of one run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) network_id: String,
    pub(crate) nodes: Vec<(String, String)>,
    pub(crate) codes_issued: u64,
    pub(crate) tally: Tally,
    pub(crate) matching: Option<Matching>,
    pub(crate) proof_verified: bool,
    pub(crate) height_at_kill: u64,
    pub(crate) height_at_return: u64,
    pub(crate) records_while_down: u64,
    pub(crate) scans_while_down: u64,
    pub(crate) caught_up: bool,
    pub(crate) catch_up_seconds: f64,
    pub(crate) state_roots_equal: bool,
    pub(crate) height: u64,
    pub(crate) tree_size: u64,
}

impl Report {
    /// Whether every step did what it should.
    pub(crate) fn ok(&self) -> bool {
        self.scans_ok()
            && self.matching.as_ref().is_some_and(Matching::ok)
            && self.proof_verified
            && self.survived()
            && self.state_roots_equal
    }

    fn scans_ok(&self) -> bool {
        self.tally.wrong == 0 && self.tally.total() > 0
    }

    fn survived(&self) -> bool {
        self.caught_up && self.records_while_down > 0 && self.scans_while_down > 0
    }

    /// As one JSON object, or for people.
    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            output::value(&self.json());
        } else {
            output::text(&self.text());
        }
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        page.head(if self.ok() {
            "Tallystick quickstart: everything held"
        } else {
            "Tallystick quickstart: SOMETHING FAILED, see the lines marked with an exclamation mark"
        });
        page.fact("network", &format!("{} (a test network)", self.network_id));
        let width = self.nodes.iter().map(|(n, _)| n.len()).max().unwrap_or(0);
        for (i, (name, address)) in self.nodes.iter().enumerate() {
            let label = if i == 0 { "nodes" } else { "" };
            page.fact(label, &format!("{name:width$}  {address}/v1/status"));
        }
        page.gap();
        page.fact(
            "codes",
            &format!("{} issued in 3 batches", number(self.codes_issued)),
        );
        page.shown(
            "scans",
            self.scans_ok(),
            &format!(
                "{} acknowledged, each durable first and with a signed receipt",
                number(self.tally.total())
            ),
        );
        let verdicts: Vec<String> = self
            .tally
            .verdicts
            .iter()
            .map(|(verdict, count)| format!("{verdict} {}", number(*count)))
            .collect();
        page.more(&verdicts.join(", "));
        if self.tally.wrong > 0 {
            page.more(&format!("{} verdicts other than due", self.tally.wrong));
        }
        if let Some(m) = &self.matching {
            page.gap();
            m.text(&mut page);
        }
        page.gap();
        page.shown(
            "proof",
            self.proof_verified,
            "a record and a code verified offline: network ID, quorum of cosignatures, inclusion, state",
        );
        page.shown(
            "SIGKILL",
            self.survived(),
            &format!(
                "platform killed at height {}; the others went on to {} with {} records and {} scans",
                self.height_at_kill,
                self.height_at_return,
                number(self.records_while_down),
                number(self.scans_while_down)
            ),
        );
        page.more(&if self.caught_up {
            format!(
                "in step again {:.1} s after its restart",
                self.catch_up_seconds
            )
        } else {
            "it did not catch up after its restart".to_owned()
        });
        page.shown(
            "ledger",
            self.state_roots_equal,
            &format!(
                "{} entries; state roots of all {} nodes {} at height {}",
                number(self.tree_size),
                self.nodes.len(),
                if self.state_roots_equal {
                    "equal"
                } else {
                    "DIFFER"
                },
                self.height
            ),
        );
        page.gap();
        page.fact("took", &format!("{:.1} s", self.seconds));
        page.0
    }

    fn json(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("ok", json!(self.ok()));
        put("seconds", json!(self.seconds));
        put("nodes", json!(self.nodes.len()));
        put("network_id", json!(self.network_id));
        put("codes_issued", json!(self.codes_issued));
        put("scans_acknowledged", json!(self.tally.total()));
        put("verdicts", json!(self.tally.verdicts));
        if let Some(m) = &self.matching {
            put(
                "match",
                json!({
                    "computation": m.computation,
                    "expected": m.expected,
                    "found": m.found,
                    "size_a": m.size_a,
                    "size_b": m.size_b,
                }),
            );
            put(
                "match_noise",
                json!("none: exact, as only a test network allows"),
            );
            put(
                "noisy_match",
                json!({
                    "found": m.noisy.found,
                    "bound": m.noisy.bound,
                    "within_95": m.noisy.within_95,
                    "again_is_free": m.noisy.again_is_free,
                    "answers_left_this_epoch": m.noisy.answers_left,
                }),
            );
            put("receipts_signed", json!(m.receipts));
            let imports: Vec<Value> = m
                .imports
                .iter()
                .map(|i| {
                    json!({
                        "member": i.member,
                        "rows": i.rows,
                        "people": i.people,
                        "repeated_rows": i.repeated,
                        "dropped_rows": i.dropped,
                        "reasons": i.reasons,
                    })
                })
                .collect();
            put("imports", json!(imports));
        } else {
            put("match", Value::Null);
        }
        put("proof_verified", json!(self.proof_verified));
        put("killed_node_caught_up", json!(self.caught_up));
        put(
            "records_committed_while_down",
            json!(self.records_while_down),
        );
        put("scans_while_down", json!(self.scans_while_down));
        put("state_roots_equal", json!(self.state_roots_equal));
        put("tree_size", json!(self.tree_size));
        Value::Object(out)
    }
}

impl Matching {
    fn text(&self, page: &mut Page) {
        page.fact("audiences", &self.source);
        for import in &self.imports {
            import.text(page);
        }
        let found = self.found.map_or("nothing".to_owned(), |n| n.to_string());
        page.shown(
            "match",
            self.is_equal() && self.receipts,
            &format!(
                "{found} people in both; a plain join over the raw files finds {}",
                self.expected
            ),
        );
        page.more(&format!(
            "noise: none, as only a test network allows; {:.1} s; {}",
            self.seconds,
            if self.receipts {
                "receipt signed by both sides"
            } else {
                "RECEIPT MISSING"
            }
        ));
        let noisy = &self.noisy;
        let found = noisy
            .found
            .map_or("fewer than 50".to_owned(), |n| n.to_string());
        page.shown(
            "with noise",
            noisy.is_near(self.expected) && noisy.again_is_free,
            &format!(
                "{found} people, give or take {} in 95 of 100 matches; neither side ever held the exact number",
                noisy.within_95
            ),
        );
        let left = noisy
            .answers_left
            .map_or_else(String::new, |n| format!("; budget for {n} more this epoch"));
        page.more(&format!(
            "asked again: {}{left}",
            if noisy.again_is_free {
                "the same answer, free"
            } else {
                "ANOTHER ANSWER"
            }
        ));
    }
}

impl Imported {
    fn text(&self, page: &mut Page) {
        page.more(&format!(
            "{}: {} people in {} rows; {} repeated, {} dropped",
            self.member,
            number(self.people),
            number(self.rows),
            number(self.repeated),
            number(self.dropped)
        ));
        for reason in &self.reasons {
            page.more(&format!("  {reason}"));
        }
    }
}

fn number(n: u64) -> String {
    grouped(&n.to_string())
}

/// Aligned lines: a mark, a label, and what is said of it.
#[derive(Default)]
struct Page(String);

impl Page {
    const LABEL: usize = 12;

    fn line(&mut self, mark: &str, label: &str, text: &str) {
        let width = Self::LABEL;
        let line = format!("{mark:<3}{label:<width$}{text}");
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }

    fn head(&mut self, text: &str) {
        let _ = writeln!(self.0, "\n{text}\n");
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }

    /// Something that is so.
    fn fact(&mut self, label: &str, text: &str) {
        self.line("", label, text);
    }

    /// Something that was shown, or was not.
    fn shown(&mut self, label: &str, held: bool, text: &str) {
        self.line(if held { "ok" } else { "!!" }, label, text);
    }

    fn more(&mut self, text: &str) {
        self.line("", "", text);
    }
}
