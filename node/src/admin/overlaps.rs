//! Overlaps of several parties: asking for one, and what came out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tally_contracts::ids::{AudienceLabel, MemberId, RecordId};
use tokio::sync::oneshot;

use super::agreements::{date, member_id, name_of};
use super::matches::{REPORT_EVERY, phase, stage};
use super::ops::usage;
use super::{AdminError, Progress};
use crate::matching::{
    Answer, MatchError, MatchId, NoiseView, OverlapRequest, OverlapRole, OverlapView, Side,
};
use crate::runtime::Node;

/// Which audiences other parties are to bring, by the parties' names.
pub(super) fn named(
    node: &Node,
    audiences: &BTreeMap<String, String>,
) -> Result<Vec<(MemberId, AudienceLabel)>, AdminError> {
    audiences
        .iter()
        .map(|(name, label)| Ok((member_id(node, name)?, label.parse().map_err(usage)?)))
        .collect()
}

/// Asks for an overlap and waits for its end.
pub(super) async fn request(
    node: &Arc<Node>,
    request: OverlapRequest,
    progress: Progress,
) -> Result<Value, AdminError> {
    let (tell, mut told) = oneshot::channel();
    let started = move |id: MatchId| {
        let _ = tell.send(id);
    };
    let done = node.matches.request_overlap(request, started);
    tokio::pin!(done);
    let mut id = None;
    let view = loop {
        tokio::select! {
            biased;
            done = &mut done => break done,
            started = &mut told, if id.is_none() => match started {
                Ok(started) => id = Some(started),
                // Nothing was started: the answer is stored.
                Err(_) => break done.as_mut().await,
            },
            () = tokio::time::sleep(REPORT_EVERY) => {}
        }
        if let Some(id) = &id {
            tell_progress(node, id, &progress);
        }
    };
    Ok(shown(node, &view.map_err(|error| with_names(node, error))?))
}

/// An error says who it was about by name.
fn with_names(node: &Node, error: MatchError) -> AdminError {
    let member = match &error {
        MatchError::Refused {
            by: Side::Member(member),
            ..
        } => Some(*member),
        MatchError::Peer(error) => Some(error.member),
        _ => None,
    };
    let mut error = AdminError::from(error);
    if let Some(member) = member {
        error.message = error
            .message
            .replace(&member.to_string(), &name_of(node, &member));
    }
    error
}

fn tell_progress(node: &Node, id: &MatchId, progress: &Progress) {
    if let Ok((view, running)) = node.matches.show_overlap(id) {
        match running {
            Some(p) => progress.report(&phase(p.phase), p.done, p.total),
            None => progress.report(stage(view.stage), 0, 0),
        }
    }
}

/// A line of a list.
pub(super) fn row(node: &Node, v: &OverlapView) -> Value {
    let with: Vec<String> = v
        .parties
        .iter()
        .map(|p| p.member)
        .chain([v.helper])
        .filter(|m| *m != node.chain.member())
        .map(|m| name_of(node, &m))
        .collect();
    json!({
        "match": v.id.to_string(),
        "stage": stage(v.stage),
        "with": with.join(", "),
        "asked_by": asked_by(node, v),
        "computation": "overlap_n",
        "audience": v.audience.clone().unwrap_or_else(|| "none: this node helps".to_owned()),
        "answer": v.answer.as_ref().map(|a| short(a, v.noise.as_ref())),
        "started": date(v.started_ms),
        "reason": v.reason,
    })
}

fn asked_by(node: &Node, v: &OverlapView) -> String {
    if v.asked_by == node.chain.member() {
        "us".to_owned()
    } else {
        name_of(node, &v.asked_by)
    }
}

fn within(noise: Option<&NoiseView>) -> Option<u32> {
    match noise {
        Some(NoiseView::Overlap { within_95, .. }) => Some(*within_95),
        _ => None,
    }
}

fn short(answer: &Answer, noise: Option<&NoiseView>) -> String {
    match (answer, within(noise)) {
        (Answer::Count { value }, Some(within)) => format!("{value} +- {within}"),
        (Answer::Count { value }, None) => format!("{value}, exact"),
        (Answer::FewerThan { min }, _) => format!("fewer than {min}"),
        // An overlap has no other answers.
        _ => String::new(),
    }
}

fn sentence(view: &OverlapView, answer: &Answer) -> String {
    let n = view.parties.len();
    match (answer, within(view.noise.as_ref())) {
        (Answer::Count { value }, Some(within)) => {
            format!(
                "{value} people in all {n} audiences, give or take {within} in 95 of 100 matches"
            )
        }
        (Answer::Count { value }, None) => format!("{value} people in all {n} audiences, exactly"),
        (Answer::FewerThan { min }, _) => {
            format!(
                "fewer than {min} people in all {n} audiences; the agreement withholds smaller results"
            )
        }
        _ => String::new(),
    }
}

fn noise_text(noise: &NoiseView) -> String {
    match noise {
        NoiseView::Overlap {
            epsilon,
            bound,
            regions_epsilon,
            regions_bound,
            standard_deviation,
            ..
        } => format!(
            "one draw of the helper, epsilon {epsilon}, at most {bound}; one of all parties against the helper, epsilon {regions_epsilon}, at \
             most {regions_bound}; standard deviation {standard_deviation:.1}"
        ),
        _ => "none: exact answers, as only a test network allows".to_owned(),
    }
}

/// What is known of an overlap, for people and programs.
pub(super) fn shown(node: &Node, view: &OverlapView) -> Value {
    let record = |id: Option<RecordId>| id.map(|r| r.to_string());
    let found = match &view.answer {
        Some(Answer::Count { value }) => json!(value),
        _ => Value::Null,
    };
    let parties: Vec<Value> = view
        .parties
        .iter()
        .map(|p| {
            json!({
                "party": name_of(node, &p.member),
                "people_at_most": p.bucket.map(|b| 1_u64 << b.min(63)),
                "audience": p.set.map(|s| s.label.to_string()),
                "epoch": p.set.map(|s| s.epoch),
                "confirmed": p.confirmed,
            })
        })
        .collect();
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("match", json!(view.id.to_string()));
    put("stage", json!(stage(view.stage)));
    if let Some(answer) = &view.answer {
        put("answer", json!(sentence(view, answer)));
    }
    if let Ok((_, Some(p))) = node.matches.show_overlap(&view.id) {
        put(
            "progress",
            json!(format!("{}: {} of {}", phase(p.phase), p.done, p.total)),
        );
    }
    put("found", found);
    put("within_95", json!(within(view.noise.as_ref())));
    put("noise", json!(view.noise.as_ref().map(noise_text)));
    put("noise_detail", json!(view.noise));
    put("reason", json!(view.reason));
    put("computation", json!("overlap_n"));
    put("agreement", json!(view.agreement.to_string()));
    put("parties", Value::Array(parties));
    put("helper", json!(name_of(node, &view.helper)));
    put(
        "this_node",
        json!(match view.role {
            OverlapRole::Party => "a party",
            OverlapRole::Helper => "the helper",
        }),
    );
    put("asked_by", json!(asked_by(node, view)));
    put("audience", json!(view.audience));
    put("people", json!(view.own_size));
    put("session", json!(view.session.map(|s| s.to_string())));
    put("joined_by_record", json!(record(view.join_record)));
    put("released_by_record", json!(record(view.release_record)));
    put("receipt_record", json!(record(view.receipt_record)));
    put("started", json!(date(view.started_ms)));
    put(
        "took_ms",
        json!(view.ended_ms.map(|e| e.saturating_sub(view.started_ms))),
    );
    Value::Object(map)
}
