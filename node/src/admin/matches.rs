//! Matches: asking for one, how far it is, what came out, and the people of a list into a file.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_contracts::ids::SessionId;
use tally_contracts::records::Computation;
use tally_measure::{IdType, Identifier};
use tokio::sync::oneshot;

use super::agreements::{date, member_id, name_of, parse_computation};
use super::ops::{AGREEMENTS, internal, not_an_id, usage};
use super::{AdminError, Progress, overlaps};
use crate::matching::{
    Answer, LedgerError, MatchError, MatchId, MatchRequest, MatchView, NoiseView, OverlapRequest,
    OverlapView, Role, Stage,
};
use crate::runtime::Node;

/// How often a waiting client hears how far its match is.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(200);
/// The least characters of an ID that may stand for it.
const MIN_PREFIX: usize = 4;

/// Arguments of `match_request`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestArgs {
    agreement: String,
    computation: String,
    audience: String,
    #[serde(default)]
    peer: Option<String>,
    #[serde(default)]
    peer_audience: Option<String>,
    /// Of an overlap: what other parties are to bring, by their names.
    #[serde(default)]
    party_audiences: BTreeMap<String, String>,
    /// Where the people of a list go.
    #[serde(default)]
    out: Option<PathBuf>,
}

/// Arguments of the operations on one match.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneArgs {
    #[serde(rename = "match")]
    id: String,
    /// Where the people of a list go.
    #[serde(default)]
    out: Option<PathBuf>,
}

impl From<MatchError> for AdminError {
    fn from(error: MatchError) -> Self {
        let message = error.to_string();
        match error {
            MatchError::Refused { notice, .. } => {
                Self::new("refused", message, advice(&notice.code))
            }
            MatchError::Audience(error) => error.into(),
            MatchError::NotCommitted { .. } => Self::new(
                "not_committed",
                message,
                "import the audience again: a set is good for its epoch and the one after",
            ),
            MatchError::UnknownMatch { .. } => {
                Self::new("not_found", message, "`tally match list` shows them")
            }
            MatchError::HasEnded { .. } => Self::new("ended", message, "nothing is left to cancel"),
            MatchError::Cancelled => Self::new(
                "cancelled",
                message,
                "budget that was not spent is given back",
            ),
            MatchError::Ledger(LedgerError::Refused(_)) => Self::new(
                "refused",
                message,
                "every member's node would refuse this record",
            ),
            MatchError::Ledger(LedgerError::Timeout { .. }) => {
                Self::new("timeout", message, "`tally status` says who is missing")
            }
            MatchError::Timeout { .. } => Self::new(
                "timeout",
                message,
                "the other node may be down or busy; ask again",
            ),
            MatchError::Peer(_) => Self::new(
                "unreachable",
                message,
                "`tally status` says which nodes are connected",
            ),
            _ => Self::new(
                "match",
                message,
                "`tally match list` keeps the reason; ask again, or read the node's log",
            ),
        }
    }
}

/// What to try after a refusal.
fn advice(code: &str) -> &'static str {
    match code {
        "unknown_agreement" => "`tally agreement list` shows them",
        "agreement_status" => {
            "every party has to accept it: `tally agreement show` says who has not"
        }
        "agreement_expired" => "propose a new one",
        "holds" => "`tally audience import --holds touches` or `--holds conversions` brings one",
        "computation" | "suite" | "profile" | "set_size" | "noise" => {
            "`tally agreement show` says what is allowed"
        }
        "budget" | "match_limit" | "audience_limit" => {
            "`tally agreement show` says what is left, and when the next epoch comes"
        }
        "not_answering" | "no_audience" => "speak with the other member's operator",
        "audience_ambiguous" => "name the other side's audience by its label: --peer-audience",
        "peer" => "--peer names the party to match with",
        "label_side" => "`tally agreement show` says who has the labels: that member asks",
        "overlap" => "`tally agreement show` says who takes part and who helps",
        "busy" => "try again in a minute",
        _ => "the reason says what to change",
    }
}

/// Asks for a match and waits for its end.
pub(super) async fn request(
    node: &Arc<Node>,
    a: RequestArgs,
    progress: Progress,
) -> Result<Value, AdminError> {
    let computation = parse_computation(&a.computation)?;
    if computation == Computation::OverlapN {
        if a.peer.is_some() || a.peer_audience.is_some() || a.out.is_some() {
            return Err(usage(
                "an overlap is of all parties of its agreement, and gives a count: no peer and no file of people can be named",
            ));
        }
        let request = OverlapRequest {
            agreement: a.agreement.parse().map_err(not_an_id(AGREEMENTS))?,
            audience: a.audience,
            named: overlaps::named(node, &a.party_audiences)?,
        };
        return overlaps::request(node, request, progress).await;
    }
    if !a.party_audiences.is_empty() {
        return Err(usage("audiences of several parties are for overlap_n"));
    }
    let request = MatchRequest {
        agreement: a.agreement.parse().map_err(not_an_id(AGREEMENTS))?,
        computation,
        audience: a.audience,
        peer: match &a.peer {
            Some(name) => Some(member_id(node, name)?),
            None => None,
        },
        peer_audience: match &a.peer_audience {
            Some(label) => Some(label.parse().map_err(usage)?),
            None => None,
        },
    };
    if let Some(out) = &a.out {
        // Before anything is spent on it.
        check_new(out)?;
    }
    let (tell, mut told) = oneshot::channel();
    let started = move |id: MatchId| {
        let _ = tell.send(id);
    };
    let done = node.matches.request_telling(request, started);
    tokio::pin!(done);
    let mut id = None;
    let view = loop {
        tokio::select! {
            biased;
            done = &mut done => break done?,
            started = &mut told, if id.is_none() => match started {
                Ok(started) => id = Some(started),
                // Nothing was started: the answer is stored.
                Err(_) => break done.as_mut().await?,
            },
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
        if let Some(id) = &id {
            tell_progress(node, id, &progress);
        }
    };
    if let Some(out) = &a.out {
        write_people(node, &view, out).await?;
    }
    Ok(shown(node, &view, a.out.as_deref()))
}

fn tell_progress(node: &Node, id: &MatchId, progress: &Progress) {
    if let Ok((view, running)) = node.matches.show(id) {
        match running {
            Some(p) => progress.report(&phase(p.phase), p.done, p.total),
            None => progress.report(stage(view.stage), 0, 0),
        }
    }
}

pub(super) fn phase(phase: tally_psi::Phase) -> String {
    format!("{phase:?}").to_lowercase()
}

pub(super) const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Requested => "requested",
        Stage::Accepted => "accepted",
        Stage::Opening => "opening",
        Stage::Open => "running",
        Stage::Releasing => "releasing",
        Stage::Released => "released",
        Stage::Answered => "answered, the receipt is not signed yet",
        Stage::Done => "done",
        Stage::Refused => "refused",
        Stage::Failed => "failed",
        Stage::Cancelled => "cancelled",
    }
}

/// A match of two, or of several.
pub(super) enum Found {
    Match(Box<MatchView>),
    Overlap(Box<OverlapView>),
}

/// The match of an ID, of the first characters of one, or of a session.
pub(super) fn find(node: &Node, text: &str) -> Result<Found, AdminError> {
    let text = text.to_lowercase();
    let named = |id: &MatchId, session: Option<SessionId>| {
        let starts = text.len() >= MIN_PREFIX && id.to_string().starts_with(&text);
        starts || session.is_some_and(|s| s.to_string() == text)
    };
    let matches = node.matches.list().into_iter();
    let overlaps = node.matches.overlaps().into_iter();
    let mut found = matches
        .filter(|v| named(&v.id, v.session))
        .map(|v| Found::Match(Box::new(v)))
        .chain(
            overlaps
                .filter(|v| named(&v.id, v.session))
                .map(|v| Found::Overlap(Box::new(v))),
        );
    match (found.next(), found.next()) {
        (Some(view), None) => Ok(view),
        (Some(_), Some(_)) => Err(usage(format!("several matches begin with {text}"))),
        (None, _) => Err(AdminError::new(
            "not_found",
            format!("no match {text}"),
            "`tally match list` shows them",
        )),
    }
}

/// One match, and the people of a list into a file if one is named.
pub(super) async fn show(node: &Arc<Node>, a: OneArgs) -> Result<Value, AdminError> {
    let view = match (find(node, &a.id)?, &a.out) {
        (Found::Match(view), _) => *view,
        (Found::Overlap(view), None) => return Ok(overlaps::shown(node, &view)),
        (Found::Overlap(_), Some(_)) => return Err(no_people()),
    };
    if let Some(out) = &a.out {
        check_new(out)?;
        write_people(node, &view, out).await?;
    }
    Ok(shown(node, &view, a.out.as_deref()))
}

/// All matches, the newest first.
pub(super) fn list(node: &Node) -> Value {
    let mut rows: Vec<(u64, Value)> = node
        .matches
        .list()
        .iter()
        .map(|v| {
            let row = json!({
                "match": v.id.to_string(),
                "stage": stage(v.stage),
                "with": name_of(node, &v.peer),
                "asked_by": if v.role == Role::Initiator { "us" } else { "them" },
                "computation": v.computation.name(),
                "audience": v.audience,
                "answer": v.answer.as_ref().map(|a| short(a, v.noise.as_ref())),
                "started": date(v.started_ms),
                "reason": v.reason,
            });
            (v.started_ms, row)
        })
        .collect();
    let overlaps = node.matches.overlaps();
    rows.extend(
        overlaps
            .iter()
            .map(|v| (v.started_ms, overlaps::row(node, v))),
    );
    rows.sort_by_key(|(started, _)| std::cmp::Reverse(*started));
    Value::Array(rows.into_iter().map(|(_, row)| row).collect())
}

/// Calls a match off.
pub(super) async fn cancel(node: &Arc<Node>, a: OneArgs) -> Result<Value, AdminError> {
    let id = match find(node, &a.id)? {
        Found::Match(view) => view.id,
        Found::Overlap(view) => view.id,
    };
    node.matches.cancel(&id).await?;
    Ok(json!({"match": id.to_string(), "cancelled": true}))
}

fn short(answer: &Answer, noise: Option<&NoiseView>) -> String {
    match answer {
        Answer::Count { value } => match noise {
            Some(NoiseView::Laplace { within_95, .. }) => format!("{value} +- {within_95}"),
            _ => format!("{value}, exact"),
        },
        Answer::FewerThan { min } => format!("fewer than {min}"),
        Answer::Listed { rows } => format!("{rows} listed"),
        Answer::Sums { labels, .. } => format!("sums of {} labels", labels.len()),
        Answer::Served => "theirs".to_owned(),
    }
}

fn sentence(view: &MatchView, answer: &Answer, out: Option<&Path>) -> String {
    match answer {
        Answer::Count { value } => match &view.noise {
            Some(NoiseView::Laplace { within_95, .. }) => {
                format!("{value} people in both, give or take {within_95} in 95 of 100 matches")
            }
            _ => format!("{value} people in both, exactly"),
        },
        Answer::FewerThan { min } => {
            format!("fewer than {min} people in both; the agreement withholds smaller results")
        }
        Answer::Listed { rows } => match out {
            Some(out) => format!(
                "{rows} of the own people are in both; written to {}",
                out.display()
            ),
            None => format!(
                "{rows} of the own people are in both; `tally match show {} --out FILE` writes them",
                view.id
            ),
        },
        Answer::Sums { labels, .. } => match &view.noise {
            Some(NoiseView::Sums { within_95, .. }) => format!(
                "sums of {} labels in minor units of the currency, each give or take {within_95} in 95 of 100 matches; \
                 what is smaller than that says nothing, and may be below zero",
                labels.len()
            ),
            _ => format!(
                "sums of {} labels in minor units of the currency, exactly",
                labels.len()
            ),
        },
        Answer::Served => "the other side holds the list".to_owned(),
    }
}

/// What is known of a match, for people and programs.
fn shown(node: &Node, view: &MatchView, out: Option<&Path>) -> Value {
    let record = |id: Option<tally_contracts::ids::RecordId>| id.map(|r| r.to_string());
    let found = match &view.answer {
        Some(Answer::Count { value }) => json!(value),
        Some(Answer::Listed { rows }) => json!(rows),
        _ => Value::Null,
    };
    let noise = view.noise.as_ref().map(|n| match n {
        NoiseView::None if view.computation.is_noised() => {
            "none: exact answers, as only a test network allows".to_owned()
        }
        // Overlaps are shown by themselves.
        NoiseView::None | NoiseView::Overlap { .. } => "none: a list is exact".to_owned(),
        NoiseView::Sums {
            epsilon,
            matches_epsilon,
            bound,
            ..
        } => format!(
            "one draw from each side on every sum, epsilon {epsilon} for all of them together, at most {bound} each; the side with the touches \
             saw noisy numbers of matches besides, epsilon {matches_epsilon}"
        ),
        NoiseView::Laplace {
            epsilon,
            bound,
            standard_deviation,
            ..
        } => format!(
            "one draw from each side, epsilon {epsilon}, at most {bound} each; standard deviation {standard_deviation:.1}"
        ),
    });
    let within = match &view.noise {
        Some(NoiseView::Laplace { within_95, .. }) => json!(within_95),
        Some(NoiseView::Sums { within_95, .. }) => json!(within_95),
        _ => Value::Null,
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("match", json!(view.id.to_string()));
    put("stage", json!(stage(view.stage)));
    if let Some(answer) = &view.answer {
        put("answer", json!(sentence(view, answer, out)));
    }
    if let Some(Answer::Sums { labels, unit }) = &view.answer {
        let rows = labels
            .iter()
            .map(|l| {
                json!({
                    "label": l.label,
                    "sum": l.minor_units(*unit),
                    "give_or_take": within,
                    "sum_times_unit": l.value,
                })
            })
            .collect();
        put("sums", Value::Array(rows));
        put("unit", json!(unit));
    }
    put("found", found);
    put("within_95", within);
    put("noise", json!(noise));
    put("noise_detail", json!(view.noise));
    put("reason", json!(view.reason));
    put("computation", json!(view.computation.name()));
    put("agreement", json!(view.agreement.to_string()));
    put("with", json!(name_of(node, &view.peer)));
    put(
        "asked_by",
        json!(if view.role == Role::Initiator {
            "us"
        } else {
            "them"
        }),
    );
    put("audience", json!(view.audience));
    put("people", json!(view.own_size));
    put("repeated_rows", json!(view.own_rows_repeated));
    put("dropped_rows", json!(view.own_rows_dropped));
    put(
        "their_people_at_most",
        json!(view.their_bucket.map(|b| 1_u64 << b.min(63))),
    );
    put("budget_left_micro_rho", json!(view.budget_left_micro_rho));
    put("session", json!(view.session.map(|s| s.to_string())));
    put("opened_by_record", json!(record(view.open_record)));
    put("released_by_record", json!(record(view.release_record)));
    put("receipt_record", json!(record(view.close_record)));
    put("started", json!(date(view.started_ms)));
    put(
        "took_ms",
        json!(view.ended_ms.map(|e| e.saturating_sub(view.started_ms))),
    );
    put("out", json!(out));
    Value::Object(map)
}

fn file_error(out: &Path) -> impl Fn(std::io::Error) -> AdminError + '_ {
    move |e| {
        AdminError::new(
            "file",
            format!("{}: {e}", out.display()),
            "give --out a new file in a folder that the node may write to",
        )
    }
}

/// Refuses a file that is there: people of two matches are not mixed, and nothing else is lost.
fn check_new(out: &Path) -> Result<(), AdminError> {
    if !out.is_absolute() {
        return Err(usage(format!(
            "{}, expected a whole path, from /",
            out.display()
        )));
    }
    if out.symlink_metadata().is_ok() {
        let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(file_error(out)(there));
    }
    Ok(())
}

fn no_people() -> AdminError {
    AdminError::new(
        "no_list",
        "this match has no people to write: only a list that this node asked for has",
        "leave out --out",
    )
}

/// Writes the people of a list: one column named like the ID type, readable by the node's user alone, whole or not at all.
async fn write_people(node: &Arc<Node>, view: &MatchView, out: &Path) -> Result<(), AdminError> {
    if !matches!(view.answer, Some(Answer::Listed { .. })) {
        return Err(no_people());
    }
    let profile = node
        .audiences
        .get(&view.own)?
        .map(|m| m.profile)
        .ok_or_else(|| internal("the audience of the match is gone"))?;
    let (node, id, out) = (node.clone(), view.id, out.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut people = node.matches.matched(&id)?;
        people.sort_unstable();
        write_file(&out, profile.id_type(), &people)
    })
    .await
    .map_err(internal)?
}

fn write_file(out: &Path, id_type: IdType, people: &[Identifier]) -> Result<(), AdminError> {
    let failed = file_error(out);
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let _ = std::fs::remove_file(&unfinished);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(&failed)?;
    let written = (|| {
        let mut rows = BufWriter::new(file);
        rows.write_all(format!("{id_type}\n").as_bytes())?;
        for person in people {
            rows.write_all(&cell(person.as_bytes()))?;
            rows.write_all(b"\n")?;
        }
        rows.flush()?;
        rows.get_ref().sync_all()?;
        std::fs::rename(&unfinished, out)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written.map_err(&failed)
}

/// A value as one cell of a CSV file (RFC 4180).
fn cell(value: &[u8]) -> Vec<u8> {
    let special = |b: &u8| matches!(b, b',' | b'"' | b'\n' | b'\r');
    if !value.iter().any(special) {
        return value.to_vec();
    }
    let mut out = vec![b'"'];
    for byte in value {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn people_go_into_a_new_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("people.csv");
        let people: Vec<_> = [&b"+12125550143"[..], b"a\"b,c"]
            .into_iter()
            .map(|v| Identifier::from_bytes(v).unwrap())
            .collect();
        check_new(&out).unwrap();
        write_file(&out, IdType::Phone, &people).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        assert_eq!(text, "phone\n+12125550143\n\"a\"\"b,c\"\n");
        assert_eq!(
            std::fs::metadata(&out).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(check_new(&out).unwrap_err().code, "file");
        assert_eq!(
            check_new(Path::new("people.csv")).unwrap_err().code,
            "usage"
        );
        let lost = dir.path().join("no/such/folder");
        assert_eq!(
            write_file(&lost, IdType::Phone, &people).unwrap_err().code,
            "file"
        );
    }
}
