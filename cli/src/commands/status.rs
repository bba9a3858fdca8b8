//! `tally status`

use anyhow::Result;
use serde_json::{Value, json};

use super::{Context, text_at};
use crate::output;

pub(super) fn run(ctx: &Context) -> Result<()> {
    let status = ctx.ask("status", &json!({}))?;
    if ctx.common.json {
        output::value(&status);
    } else {
        output::text(&words(&status));
    }
    Ok(())
}

/// The status for a person: how it is, then the figures, then what to do.
fn words(status: &Value) -> String {
    let at = |path: &str| {
        status.pointer(path).map_or_else(String::new, |v| {
            output::render(v).trim_end().replace('\n', " ")
        })
    };
    let advice: Vec<&str> = status
        .get("advice")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let seconds = |path: &str| {
        status
            .pointer(path)
            .and_then(Value::as_u64)
            .map_or(0, |ms| ms / 1000)
    };
    let mut lines = vec![
        (
            "member",
            format!(
                "{} of {} ({} network)",
                at("/member"),
                at("/network"),
                at("/kind")
            ),
        ),
        ("network ID", at("/network_id")),
        (
            "ledger",
            format!(
                "height {}, {} entries, last block {} s ago",
                at("/height"),
                at("/tree_size"),
                seconds("/block_age_ms")
            ),
        ),
        ("state root", at("/state_root")),
        (
            "checkpoint",
            match status.get("checkpoint_size") {
                Some(Value::Number(_)) => format!(
                    "{} entries, cosigned by a quorum {} s ago",
                    at("/checkpoint_size"),
                    at("/checkpoint_age_s")
                ),
                _ => "none yet".to_owned(),
            },
        ),
        (
            "validators",
            format!(
                "power {} of {} present{}",
                at("/consensus/power_present"),
                at("/consensus/voting_power"),
                missing(status)
            ),
        ),
        ("waiting", format!("{} records", at("/pool/records"))),
    ];
    let number = |path: &str| status.pointer(path).and_then(Value::as_i64);
    if let (Some(free), Some(reserve)) = (number("/disk/free_bytes"), number("/disk/reserve_bytes"))
    {
        lines.push((
            "disk",
            format!(
                "{} GB free, {} GB are kept free",
                tenths(free),
                tenths(reserve)
            ),
        ));
    }
    if let Some(skew) = number("/clock_skew_ms") {
        // A block takes some milliseconds to arrive, so a small difference says nothing.
        let text = match skew {
            -500..=500 => "as the other validators'".to_owned(),
            501.. => format!("{skew} ms behind the other validators'"),
            _ => format!("{} ms ahead of the other validators'", -skew),
        };
        lines.push(("clock", text));
    }
    for peer in status
        .get("peers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let connected = peer
            .get("connected")
            .and_then(Value::as_bool)
            .unwrap_or_default();
        let state = match (connected, peer.get("rtt_ms").and_then(Value::as_f64)) {
            (true, Some(rtt)) => format!("connected, {rtt:.1} ms"),
            (true, None) => "connected".to_owned(),
            (false, _) => "NOT CONNECTED".to_owned(),
        };
        lines.push((
            "peer",
            format!("{} {state}", output::plain(text_at(peer, "name"))),
        ));
    }
    for witness in status
        .get("witnesses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let last = match (
            witness["cosigned_size"].as_u64(),
            witness["cosigned_age_s"].as_u64(),
        ) {
            (Some(size), Some(age)) => format!("cosigned {size} entries {age} s ago"),
            _ => "has not cosigned yet".to_owned(),
        };
        let refusal = witness["refusal"]
            .as_str()
            .map_or_else(String::new, |why| format!("; now REFUSES: {why}"));
        lines.push((
            "witness",
            output::plain(&format!("{} {last}{refusal}", text_at(witness, "name"))),
        ));
    }
    let mut out = lines
        .iter()
        .map(|(name, text)| format!("{name:<11} {text}\n"))
        .collect::<String>();
    if advice.is_empty() {
        out.push_str("all is well\n");
    }
    for step in advice {
        out.push_str(&format!("attention   {}\n", output::plain(step)));
    }
    out
}

/// The missing validators by name, in brackets; nothing if none is.
fn missing(status: &Value) -> String {
    let names: Vec<String> = status
        .pointer("/consensus/missing")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|m| output::plain(text_at(m, "name")))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (away: {})", names.join(", "))
    }
}

/// Bytes as gigabytes with one decimal.
fn tenths(bytes: i64) -> String {
    let tenths = bytes / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_last_and_nothing_needed_is_missing() {
        let status = json!({
            "member": "acme", "network": "tea", "kind": "test", "height": 12, "tree_size": 40, "block_age_ms": 3_500,
            "consensus": {"power_present": 2, "voting_power": 4, "missing": [{"name": "cobalt", "power": 2, "seconds": 7}]},
            "checkpoint_size": 40, "checkpoint_age_s": 3, "clock_skew_ms": -61_000,
            "disk": {"free_bytes": 12_345_678_901_i64, "reserve_bytes": 268_435_456}, "pool": {"records": 0},
            "peers": [{"name": "boreal", "connected": true, "rtt_ms": 1}, {"name": "cobalt", "connected": false, "rtt_ms": null}],
            "witnesses": [
                {"name": "w.example/1", "cosigned_size": 39, "cosigned_age_s": 4, "answered_age_s": 4, "refusal": null},
                {"name": "w.example/2", "cosigned_size": null, "cosigned_age_s": null, "answered_age_s": null, "refusal": "no answer within 5 s"},
            ],
            "advice": ["no quorum: start cobalt"],
        });
        let text = words(&status);
        for part in [
            "acme of tea (test network)",
            "height 12, 40 entries, last block 3 s ago",
            "40 entries, cosigned by a quorum 3 s ago",
            "power 2 of 4 present (away: cobalt)",
            "12.3 GB free, 0.2 GB are kept free",
            "61000 ms ahead of the other validators'",
            "cobalt NOT CONNECTED",
            "w.example/1 cosigned 39 entries 4 s ago\n",
            "w.example/2 has not cosigned yet; now REFUSES: no answer within 5 s",
        ] {
            assert!(text.contains(part), "{part:?} not in\n{text}");
        }
        assert!(
            text.ends_with("attention   no quorum: start cobalt\n"),
            "{text}"
        );
        assert!(words(&json!({})).ends_with("all is well\n"));
    }
}
