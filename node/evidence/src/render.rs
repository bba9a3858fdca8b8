//! Records in words and in fields, in one place, for every command that shows one.

use std::fmt;

use tally_contracts::ids::MemberId;
use tally_contracts::records::{
    AudienceRef, Body, BudgetCap, Change, Close, Computation, JoinSumTerms, MatchReceipt, Noise,
    OverlapClose, OverlapReceipt, ProposeAgreement, SumLabel, SumNoise,
};

/// A value of a record as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Not said.
    None,
    /// A number.
    Number(u64),
    /// Text; IDs, hashes and keys in lower-case hex.
    Text(String),
    /// Several.
    List(Vec<Shown>),
    /// Named values, in reading order. Times end in `_ms` (POSIX milliseconds).
    Fields(Vec<(&'static str, Shown)>),
}

impl From<u64> for Shown {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

fn text(value: impl fmt::Display) -> Shown {
    Shown::Text(value.to_string())
}

/// What a record says: its kind, one sentence, and every field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The words for the kind, as in `issue batch`.
    pub kind: &'static str,
    /// What it says, as a sentence without its subject: `registers product ...`.
    pub sentence: String,
    /// Every field.
    pub fields: Shown,
}

/// Renders a body. `name` gives a member's name if it is known; IDs stand in the fields all the same.
#[must_use]
pub fn render(body: &Body, name: &dyn Fn(&MemberId) -> Option<String>) -> Rendered {
    let who = |id: &MemberId| name(id).unwrap_or_else(|| id.to_string());
    let (sentence, fields) = match body {
        Body::RegisterProduct(b) => (
            format!(
                "registers product {}: {}, brand {}",
                b.gtin, b.description, b.brand
            ),
            vec![
                ("gtin", text(b.gtin)),
                ("description", text(&b.description)),
                ("brand", text(&b.brand)),
            ],
        ),
        Body::IssueBatch(b) => (
            format!(
                "issues {} codes of product {}, lot {}",
                b.count, b.gtin, b.lot
            ),
            vec![
                ("gtin", text(b.gtin)),
                ("lot", text(&b.lot)),
                ("first_index", b.first_index.into()),
                ("count", b.count.into()),
                ("unit_root", text(b.unit_root)),
                ("redemption_root", text(b.redemption_root)),
                ("expires", b.expires.as_ref().map_or(Shown::None, text)),
            ],
        ),
        Body::ActivateBatch(b) => (
            format!("releases batch {} for sale", b.batch),
            vec![("batch", text(b.batch))],
        ),
        Body::RecallBatch(b) => (
            format!("recalls batch {}: {}", b.batch, b.reason),
            vec![("batch", text(b.batch)), ("reason", text(&b.reason))],
        ),
        Body::RevokeCodes(b) => {
            let count: u64 = b.parts.iter().map(|p| p.leaves.count()).sum();
            (
                format!("withdraws {count} codes of batch {}", b.batch),
                vec![("batch", text(b.batch)), ("codes", count.into())],
            )
        }
        Body::SetTerritory(b) if b.territory.is_empty() => (
            format!("takes back the territory of batch {}", b.batch),
            vec![("batch", text(b.batch)), ("areas", Shown::List(Vec::new()))],
        ),
        Body::SetTerritory(b) => {
            let areas = b.territory.areas();
            let words: Vec<_> = areas.iter().map(ToString::to_string).collect();
            (
                format!("batch {} is meant for {}", b.batch, words.join(", ")),
                vec![
                    ("batch", text(b.batch)),
                    ("areas", Shown::List(areas.iter().map(text).collect())),
                ],
            )
        }
        Body::AnchorScans(b) => (
            format!(
                "anchors scan log {} at {} scans, root {}",
                b.log_id, b.size, b.root
            ),
            vec![
                ("log_id", u64::from(b.log_id).into()),
                ("size", b.size.into()),
                ("root", text(b.root)),
                (
                    "consistency",
                    Shown::List(b.consistency.iter().map(text).collect()),
                ),
            ],
        ),
        Body::ProposeAgreement(b) => (
            format!(
                "proposes an agreement between {} for \"{}\"",
                b.parties.iter().map(&who).collect::<Vec<_>>().join(" and "),
                b.purpose
            ),
            terms(b),
        ),
        Body::AcceptAgreement(b) => (
            format!("accepts agreement {}", b.agreement),
            vec![("agreement", text(b.agreement))],
        ),
        Body::RevokeAgreement(b) => (
            format!("revokes agreement {}", b.agreement),
            vec![("agreement", text(b.agreement))],
        ),
        Body::CommitAudience(b) => (
            format!(
                "commits to an audience of at most {} people, epoch {}",
                people(b.size_bucket),
                b.epoch
            ),
            vec![
                ("label", text(b.label)),
                ("epoch", b.epoch.into()),
                ("root", text(b.root)),
                ("size_bucket", u64::from(b.size_bucket).into()),
                ("profile", text(b.profile)),
            ],
        ),
        Body::OpenMatch(b) => (
            format!(
                "opens match {} ({}) between {}, who asks, and {}",
                b.session,
                b.computation,
                who(&b.initiator),
                who(&b.responder)
            ),
            vec![
                ("session", text(b.session)),
                ("agreement", text(b.agreement)),
                ("computation", text(b.computation)),
                ("initiator", text(b.initiator)),
                ("responder", text(b.responder)),
                ("initiator_audience", audience(&b.initiator_audience)),
                ("responder_audience", audience(&b.responder_audience)),
            ],
        ),
        Body::ReleaseMatch(b) => (
            format!("releases the answer of match {}", b.session),
            vec![
                ("session", text(b.session)),
                ("initiator_stream", text(b.initiator_stream)),
            ],
        ),
        Body::CloseMatch(b) => {
            let (how, outcome, receipt) = match &b.close {
                Close::Done(r) => ("done", "done", receipt(r)),
                Close::Failed => ("failed", "failed", Shown::None),
                Close::Cancelled => ("called off", "cancelled", Shown::None),
            };
            (
                format!("closes match {}: {how}", b.session),
                vec![
                    ("session", text(b.session)),
                    ("outcome", text(outcome)),
                    ("receipt", receipt),
                ],
            )
        }
        Body::JoinOverlap(b) => (
            format!(
                "brings an audience of at most {} people to overlap {}",
                people(b.audience.size_bucket),
                b.session
            ),
            vec![
                ("session", text(b.session)),
                ("agreement", text(b.agreement)),
                ("audience", audience(&b.audience)),
            ],
        ),
        Body::ReleaseOverlap(b) => (
            format!("releases the count of overlap {}", b.session),
            vec![
                ("session", text(b.session)),
                ("streams", Shown::List(b.streams.iter().map(text).collect())),
            ],
        ),
        Body::CloseOverlap(b) => {
            let (how, outcome, receipt) = match &b.close {
                OverlapClose::Done(r) => ("done", "done", overlap_receipt(r)),
                OverlapClose::Failed => ("failed", "failed", Shown::None),
                OverlapClose::Cancelled => ("called off", "cancelled", Shown::None),
            };
            (
                format!("closes overlap {}: {how}", b.session),
                vec![
                    ("session", text(b.session)),
                    ("outcome", text(outcome)),
                    ("receipt", receipt),
                ],
            )
        }
        Body::ConfirmOverlap(b) => (
            format!("confirms the receipt of overlap {}", b.session),
            vec![("session", text(b.session)), ("receipt", text(b.receipt))],
        ),
        Body::ProposeChange(b) => {
            let each: Vec<String> = b.changes.iter().map(|c| change(c, &who).0).collect();
            let why = if b.why.is_empty() {
                String::new()
            } else {
                format!(", because \"{}\"", b.why)
            };
            (
                format!("proposes to {}{why}", each.join(", and to ")),
                vec![
                    (
                        "changes",
                        Shown::List(b.changes.iter().map(|c| change(c, &who).1).collect()),
                    ),
                    ("delay_blocks", u64::from(b.delay_blocks).into()),
                    ("expires_ms", b.expires_ms.into()),
                    ("why", text(&b.why)),
                ],
            )
        }
        Body::Vote(b) => (
            format!(
                "votes {} change {}",
                if b.approve { "for" } else { "against" },
                b.change
            ),
            vec![
                ("change", text(b.change)),
                ("vote", text(if b.approve { "for" } else { "against" })),
            ],
        ),
        // A kind that was added after this table: its name and bytes, never nothing.
        other => (
            format!("{} (its fields have no words here yet)", other.kind()),
            vec![("bytes", Shown::Text(hex(&other.to_bytes())))],
        ),
    };
    Rendered {
        kind: body.kind().name(),
        sentence,
        fields: Shown::Fields(fields),
    }
}

/// A change of the network in words, and its fields.
fn change(change: &Change, who: &dyn Fn(&MemberId) -> String) -> (String, Shown) {
    let (says, mut fields) = match change {
        Change::AdmitMember { entry, signer, .. } => (
            format!("admit {} as a member", entry.name),
            vec![
                ("member", text(entry.id)),
                ("name", text(&entry.name)),
                (
                    "roles",
                    Shown::List(entry.roles.names().map(text).collect()),
                ),
                ("nodes", (entry.nodes.len() as u64).into()),
                ("signer", text(signer)),
            ],
        ),
        Change::RemoveMember { member } => (
            format!("remove the member {}", who(member)),
            vec![("member", text(member))],
        ),
        Change::SetPower {
            member,
            node,
            power,
        } => (
            format!(
                "set the voting power of a node of {} to {power}",
                who(member)
            ),
            vec![
                ("member", text(member)),
                ("node", text(node)),
                ("power", (*power).into()),
            ],
        ),
        Change::AddNode { member, node } => (
            format!("add a node of {}", who(member)),
            vec![
                ("member", text(member)),
                ("node", text(node.transport)),
                ("power", node.power.into()),
            ],
        ),
        Change::RemoveNode { member, node } => (
            format!("remove a node of {}", who(member)),
            vec![("member", text(member)), ("node", text(node))],
        ),
        Change::RotateKey {
            member,
            purpose,
            old,
            new,
        } => (
            format!("replace a {purpose} key of {}", who(member)),
            vec![
                ("member", text(member)),
                ("purpose", text(purpose)),
                ("old", text(old)),
                ("new", text(new)),
            ],
        ),
        Change::SetAddresses {
            member,
            node,
            consensus_addr,
            swarm_addr,
            http_url,
        } => (
            format!("change the addresses of a node of {}", who(member)),
            vec![
                ("member", text(member)),
                ("node", text(node)),
                ("consensus_addr", text(consensus_addr)),
                ("swarm_addr", text(swarm_addr)),
                ("http_url", text(http_url)),
            ],
        ),
        Change::AddAdminKey { member, key } => (
            format!("add an administrator's key of {}", who(member)),
            vec![("member", text(member)), ("key", text(key))],
        ),
        Change::RemoveAdminKey { member, key } => (
            format!("remove an administrator's key of {}", who(member)),
            vec![("member", text(member)), ("key", text(key))],
        ),
        Change::SetRulesVersion { version } => (
            format!("go on to version {version} of the rules"),
            vec![("version", u64::from(*version).into())],
        ),
        Change::SetParameters(p) => (
            "change heartbeat, bounds of blocks or clock skew".to_owned(),
            vec![
                ("heartbeat_ms", p.heartbeat_ms.into()),
                ("max_block_bytes", u64::from(p.max_block_bytes).into()),
                ("max_block_records", u64::from(p.max_block_records).into()),
                ("max_skew_ms", p.max_skew_ms.into()),
            ],
        ),
    };
    fields.insert(0, ("change", text(change.name())));
    (says, Shown::Fields(fields))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        use fmt::Write as _;
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// The most people in a size bucket: 2^bucket.
#[must_use]
pub fn people(bucket: u8) -> u64 {
    1_u64.checked_shl(bucket.into()).unwrap_or(u64::MAX)
}

/// A list of an agreement's terms.
#[must_use]
pub fn terms(b: &ProposeAgreement) -> Vec<(&'static str, Shown)> {
    let mut terms = vec![
        ("parties", Shown::List(b.parties.iter().map(text).collect())),
        ("purpose", text(&b.purpose)),
        (
            "computations",
            Shown::List(b.computations.iter().map(text).collect()),
        ),
        ("suite", text(b.suite)),
        ("profile", text(b.profile)),
        ("min_set_size", b.min_set_size.into()),
        ("max_set_size", b.max_set_size.into()),
        ("min_result", b.min_result.into()),
        ("noise", noise(&b.noise)),
        ("epoch_cap", cap(&b.epoch_cap)),
        ("lifetime_cap", cap(&b.lifetime_cap)),
        ("max_audiences", u64::from(b.max_audiences).into()),
        ("max_matches", u64::from(b.max_matches).into()),
        ("expires_ms", b.expires_ms.into()),
    ];
    if let Some(sums) = &b.sums {
        terms.push(("sums", sum_terms(sums)));
    }
    if let Some(overlap) = &b.overlap {
        let helper = overlap.helper.map_or(Shown::None, text);
        terms.push(("helper", helper));
        terms.push(("noise_against_helper", noise(&overlap.regions)));
    }
    terms
}

/// What `join_sum` sums up.
fn sum_terms(t: &JoinSumTerms) -> Shown {
    let label = |l: &SumLabel| {
        Shown::Fields(vec![
            ("name", text(&l.name)),
            ("minimum_people", u64::from(l.minimum_people).into()),
        ])
    };
    let noise = match t.noise {
        SumNoise::None => Shown::None,
        SumNoise::Laplace {
            sums_micro_eps,
            matches_micro_eps,
            delta_exp,
        } => Shown::Fields(vec![
            ("sums_micro_eps", u64::from(sums_micro_eps).into()),
            ("matches_micro_eps", u64::from(matches_micro_eps).into()),
            ("delta_exp", u64::from(delta_exp).into()),
        ]),
    };
    Shown::Fields(vec![
        ("label_side", text(t.label_side)),
        ("model", text(t.model)),
        ("click_window_s", u64::from(t.click_window_s).into()),
        ("view_window_s", u64::from(t.view_window_s).into()),
        ("labels", Shown::List(t.labels.iter().map(label).collect())),
        ("value_cap", t.value_cap.into()),
        (
            "conversions_per_person",
            u64::from(t.conversions_per_person).into(),
        ),
        ("max_conversions", t.max_conversions.into()),
        ("max_keys", t.max_keys.into()),
        ("noise", noise),
    ])
}

/// A receipt's fields.
#[must_use]
pub fn receipt(r: &MatchReceipt) -> Shown {
    let mut fields = vec![
        ("computation", text(r.computation)),
        ("noise", noise(&r.noise)),
        ("initiator_bucket", u64::from(r.initiator_bucket).into()),
        ("responder_bucket", u64::from(r.responder_bucket).into()),
        ("spent", cap(&r.spent)),
        ("result", text(r.result)),
        ("initiator_stream", text(r.initiator_stream)),
        ("responder_stream", text(r.responder_stream)),
    ];
    if r.computation == Computation::JoinSum {
        fields.push(("count_spent", cap(&r.count_spent)));
    }
    Shown::Fields(fields)
}

/// The fields of an overlap's receipt.
#[must_use]
pub fn overlap_receipt(r: &OverlapReceipt) -> Shown {
    let buckets = r.buckets.iter().map(|b| u64::from(*b).into());
    Shown::Fields(vec![
        ("noise", noise(&r.noise)),
        ("noise_against_helper", noise(&r.regions)),
        ("buckets", Shown::List(buckets.collect())),
        ("spent", cap(&r.spent)),
        ("helper_spent", cap(&r.helper_spent)),
        ("result", text(r.result)),
        ("streams", Shown::List(r.streams.iter().map(text).collect())),
    ])
}

/// An amount of budget.
#[must_use]
pub fn cap(cap: &BudgetCap) -> Shown {
    Shown::Fields(vec![
        ("micro_rho", cap.micro_rho.into()),
        ("delta_units", cap.delta.into()),
    ])
}

fn noise(noise: &Noise) -> Shown {
    match *noise {
        Noise::None => Shown::None,
        Noise::Laplace {
            micro_eps,
            delta,
            bound,
        } => Shown::Fields(vec![
            ("micro_eps", micro_eps.into()),
            ("delta_units", delta.into()),
            ("bound", u64::from(bound).into()),
        ]),
    }
}

fn audience(audience: &AudienceRef) -> Shown {
    Shown::Fields(vec![
        ("label", text(audience.label)),
        ("epoch", audience.epoch.into()),
        ("root", text(audience.root)),
        ("size_bucket", u64::from(audience.size_bucket).into()),
    ])
}

#[cfg(test)]
mod tests {
    use tally_contracts::ids::{BatchId, RecordId, SessionId};
    use tally_contracts::records::{
        AcceptAgreement, ActivateBatch, AnchorScans, CloseMatch, ProposeChange, RecallBatch,
        RegisterProduct, Vote,
    };
    use tally_merkle::Hash;

    use super::*;

    #[test]
    fn every_kind_says_what_it_does_and_no_debug_form_is_left() {
        let hash = Hash([5; 32]);
        let bodies: Vec<(Body, String)> = vec![
            (
                RegisterProduct {
                    gtin: "09521234543213".parse().unwrap(),
                    description: "Green tea, 100 g".into(),
                    brand: "Sample".into(),
                }
                .into(),
                "registers product 09521234543213: Green tea, 100 g, brand Sample".into(),
            ),
            (
                ActivateBatch {
                    batch: BatchId([1; 16]),
                }
                .into(),
                "releases batch 01010101010101010101010101010101 for sale".into(),
            ),
            (
                RecallBatch {
                    batch: BatchId([1; 16]),
                    reason: "glass".into(),
                }
                .into(),
                "recalls batch 01010101010101010101010101010101: glass".into(),
            ),
            (
                AnchorScans {
                    log_id: 2,
                    size: 9,
                    root: hash,
                    consistency: vec![hash],
                }
                .into(),
                format!("anchors scan log 2 at 9 scans, root {hash}"),
            ),
            (
                AcceptAgreement {
                    agreement: RecordId([7; 32]),
                }
                .into(),
                format!("accepts agreement {}", RecordId([7; 32])),
            ),
            (
                ProposeChange {
                    changes: vec![
                        Change::RemoveMember {
                            member: MemberId([6; 16]),
                        },
                        Change::SetRulesVersion { version: 2 },
                    ],
                    delay_blocks: 3,
                    expires_ms: 9,
                    why: "it left".into(),
                }
                .into(),
                "proposes to remove the member acme, and to go on to version 2 of the rules, because \"it left\"".into(),
            ),
            (
                Vote {
                    change: RecordId([7; 32]),
                    approve: false,
                }
                .into(),
                format!("votes against change {}", RecordId([7; 32])),
            ),
            (
                CloseMatch {
                    session: SessionId([8; 32]),
                    close: Close::Failed,
                }
                .into(),
                format!("closes match {}: failed", SessionId([8; 32])),
            ),
        ];
        for (body, sentence) in bodies {
            let shown = render(&body, &|id| (id.0 == [6; 16]).then(|| "acme".to_owned()));
            assert_eq!(shown.sentence, sentence);
            assert_eq!(shown.kind, body.kind().name());
            let Shown::Fields(fields) = &shown.fields else {
                panic!("no fields")
            };
            assert!(!fields.is_empty());
        }
    }

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!([people(0), people(10), people(200)], [1, 1024, u64::MAX]);
    }
}
