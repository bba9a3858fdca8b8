//! `tally scan`

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tally_node::files::write_atomic;

use super::{Context, TIMEOUT_S, text_at};
use crate::args::{PlaceArgs, ScanArgs};
use crate::exit::{Exit, Failure};
use crate::http::{self, Target};
use crate::output;

pub(super) fn run(ctx: &Context, args: &ScanArgs) -> Result<()> {
    let body = body(args)?;
    let header = args
        .idempotency_key
        .as_deref()
        .map(|key| ("idempotency-key", key));
    let answer = ask(ctx, args.url.as_deref(), "/v1/scans", header, &body)?;
    if let Some(path) = &args.receipt {
        let receipt = STANDARD
            .decode(text_at(&answer, "receipt"))
            .context("the receipt is not base64")?;
        write_atomic(path, &receipt, 0o644)?;
    }
    if ctx.common.json {
        output::value(&answer);
    } else {
        output::text(&words(&answer, args));
    }
    Ok(())
}

/// Posts to a gateway, the configured node's own without a URL, and reads its answer.
pub(super) fn ask(
    ctx: &Context,
    url: Option<&str>,
    path: &str,
    header: Option<(&str, &str)>,
    body: &Value,
) -> Result<Value> {
    let target = match url {
        Some(url) => Target::parse(url)?,
        None => own(ctx)?,
    };
    let timeout = match ctx.common.timeout.unwrap_or(TIMEOUT_S) {
        0 => Duration::MAX,
        seconds => Duration::from_secs(seconds),
    };
    let reply = http::post_json(&target, path, header, body, timeout)?;
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if !(200..300).contains(&reply.status) {
        let said = match (text_at(&answer, "title"), text_at(&answer, "detail")) {
            ("", _) => format!("the gateway answered with status {}", reply.status),
            (title, detail) => format!("{title}: {detail}"),
        };
        let code = text_at(&answer, "type")
            .rsplit(':')
            .next()
            .filter(|c| !c.is_empty())
            .unwrap_or("http");
        let mut failure = Failure::new(Exit::Failed, code, said);
        if let Some(seconds) = reply.retry_after {
            failure = failure.next(format!("again in {} s", output::plain(&seconds)));
        }
        return Err(failure.into());
    }
    Ok(answer)
}

/// The configured node's own gateway, by the address it listens on: its public URL may end at a proxy.
fn own(ctx: &Context) -> Result<Target> {
    let (config, _) = ctx.config()?;
    let mut at: SocketAddr = config.http.listen.parse()?;
    match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(IpAddr::from([127, 0, 0, 1])),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            at.set_ip(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
        }
        _ => {}
    }
    Target::parse(&format!("http://{at}"))
}

fn body(args: &ScanArgs) -> Result<Value> {
    let mut body = Map::new();
    if args.code.contains("://") {
        body.insert("code".into(), json!(args.code));
    } else {
        let (gtin, serial) = args
            .code
            .split_once('/')
            .filter(|(gtin, serial)| !gtin.is_empty() && !serial.is_empty())
            .ok_or_else(|| {
                let what = format!(
                    "{:?} is no code: expected the link of a QR code, or GTIN/SERIAL",
                    args.code
                );
                anyhow!(Failure::new(Exit::Usage, "code", what))
            })?;
        body.insert("gtin".into(), json!(gtin));
        body.insert("serial".into(), json!(serial));
    }
    if let Some(claim) = &args.claim {
        body.insert("claim".into(), json!(claim));
    }
    if let Some(place) = place(&args.place) {
        body.insert("place".into(), place);
    }
    Ok(Value::Object(body))
}

/// A place as gateways take it; a cell comes with how well it is known.
pub(super) fn place(args: &PlaceArgs) -> Option<Value> {
    let region = args.region.as_deref().unwrap_or_default();
    let mut place = json!({"country": args.country.as_ref()?, "region": region});
    if let (Some(cell), Some(place)) = (&args.cell, place.as_object_mut()) {
        place.insert("cell".into(), json!(cell));
        place.insert("accuracy_m".into(), json!(args.accuracy_m));
    }
    Some(place)
}

fn words(answer: &Value, args: &ScanArgs) -> String {
    let at = |key| output::plain(text_at(answer, key)).replace('\n', " ");
    let mut lines = vec![("verdict", at("verdict")), ("", at("message"))];
    if let Some(product) = answer.get("product").filter(|p| p.is_object()) {
        let of = |key| output::plain(text_at(product, key));
        lines.push((
            "product",
            format!("{} ({})", of("description"), of("member")),
        ));
    }
    let reasons = answer.get("reasons").and_then(Value::as_array);
    for reason in reasons.into_iter().flatten() {
        lines.push(("reason", output::plain(text_at(reason, "words"))));
    }
    lines.push(("code", format!("{}/{}", at("gtin"), at("serial"))));
    if let Some(count) = answer.get("count").and_then(Value::as_u64) {
        lines.push((
            "scans",
            format!(
                "{count}, first {}",
                answer
                    .get("first_scanned_at")
                    .and_then(Value::as_str)
                    .unwrap_or("never")
            ),
        ));
    }
    lines.push(("scan ID", at("scan_id")));
    lines.push((
        "receipt",
        args.receipt
            .as_ref()
            .map_or_else(|| at("receipt"), |path| format!("in {}", path.display())),
    ));
    lines
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| format!("{name:<8} {text}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn body_of(line: &[&str]) -> Result<Value> {
        let line = ["tally", "scan"].iter().chain(line).copied();
        let Command::Scan(args) = Cli::try_parse_from(line).unwrap().command else {
            unreachable!()
        };
        body(&args)
    }

    #[test]
    fn codes_are_links_or_pairs() {
        assert_eq!(
            body_of(&["http://h/01/1/21/A"]).unwrap(),
            json!({"code": "http://h/01/1/21/A"})
        );
        assert_eq!(
            body_of(&["1/A/B", "--claim", "C", "--country", "CN"]).unwrap(),
            json!({"gtin": "1", "serial": "A/B", "claim": "C", "place": {"country": "CN", "region": ""}})
        );
        let told = body_of(&[
            "1/A",
            "--country",
            "CN",
            "--cell",
            "wm6n",
            "--accuracy-m",
            "20",
        ]);
        assert_eq!(
            told.unwrap()["place"],
            json!({"country": "CN", "region": "", "cell": "wm6n", "accuracy_m": 20})
        );
        for code in ["", "A", "/A", "1/"] {
            let error = body_of(&[code]).unwrap_err();
            assert_eq!(
                error.downcast_ref::<Failure>().unwrap().exit,
                Exit::Usage,
                "{code}"
            );
        }
    }
}
