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
                Some(Value::Number(_)) => {
                    format!("{} entries, cosigned by a quorum", at("/checkpoint_size"))
                }
                _ => "none yet".to_owned(),
            },
        ),
        (
            "validators",
            format!(
                "power {} of {} present",
                at("/consensus/power_present"),
                at("/consensus/voting_power")
            ),
        ),
        ("waiting", format!("{} records", at("/pool/records"))),
    ];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_last_and_nothing_needed_is_missing() {
        let status = json!({
            "member": "acme", "network": "tea", "kind": "test", "height": 12, "tree_size": 40, "block_age_ms": 3_500,
            "consensus": {"power_present": 2, "voting_power": 4}, "checkpoint_size": 40, "pool": {"records": 0},
            "peers": [{"name": "boreal", "connected": true, "rtt_ms": 1}, {"name": "cobalt", "connected": false, "rtt_ms": null}],
            "advice": ["no quorum: start cobalt"],
        });
        let text = words(&status);
        for part in [
            "acme of tea (test network)",
            "height 12, 40 entries, last block 3 s ago",
            "power 2 of 4",
            "cobalt NOT CONNECTED",
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
