//! Governance: proposals and votes with the administrator's key, after this node has looked who is there.

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::ids::{ChangeId, MemberId, PublicKey};
use tally_contracts::records::{Body, Change, KeyPurpose, Parameters, ProposeChange, Vote};
use tally_contracts::state::{self, ChangeState, ChangeStatus, keys};
use tally_contracts::{Canonical, MemberEntry, NodeEntry, members_after};

use super::AdminError;
use super::agreements::{date, member_id, name_of};
use super::ops::{CHANGES, DEADLINE, internal, not_an_id, usage};
use crate::card::MemberCard;
use crate::chain::{SubmitError, now_ms};
use crate::keys::{KeyStore, is_same_node, key_of};
use crate::runtime::Node;

const HOUR_MS: u64 = 3_600_000;
/// As the contracts: 90 days.
const MAX_VOTING_HOURS: u64 = 90 * 24;

/// A change as the command line names it. `member` left out is the own one; `node` (first digits of its transport key) may be
/// left out where the member has one node.
#[derive(Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
enum ChangeArg {
    Admit {
        card: String,
    },
    Remove {
        member: String,
    },
    Power {
        member: Option<String>,
        node: Option<String>,
        power: u64,
    },
    AddNode {
        card: String,
    },
    RemoveNode {
        member: Option<String>,
        node: Option<String>,
    },
    RotateKey {
        member: Option<String>,
        node: Option<String>,
        purpose: String,
        /// Left out: the one that is in force.
        old: Option<String>,
        new: String,
    },
    ReplaceNode {
        member: Option<String>,
        node: Option<String>,
        card: String,
    },
    Addresses {
        member: Option<String>,
        node: Option<String>,
        consensus: Option<String>,
        swarm: Option<String>,
        http: Option<String>,
    },
    AdminKey {
        member: Option<String>,
        add: Option<String>,
        remove: Option<String>,
    },
    RulesVersion {
        version: u32,
    },
    Parameters {
        heartbeat_ms: Option<u64>,
        max_block_bytes: Option<u32>,
        max_block_records: Option<u32>,
        max_skew_ms: Option<u64>,
    },
}

/// Arguments of `change_propose`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProposeArgs {
    what: ChangeArg,
    #[serde(default)]
    why: String,
    delay_blocks: u32,
    voting_hours: u64,
    #[serde(default)]
    force: bool,
}

/// Arguments of `change_vote`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VoteArgs {
    change: String,
    approve: bool,
    #[serde(default)]
    force: bool,
}

/// Arguments of `change_show`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneArgs {
    change: String,
}

/// Proposes; the own member votes for it by that.
pub(super) async fn propose(node: &Node, a: ProposeArgs) -> Result<Value, AdminError> {
    if !(1..=MAX_VOTING_HOURS).contains(&a.voting_hours) {
        return Err(usage(format!(
            "{} hours for votes, expected 1 to {MAX_VOTING_HOURS}",
            a.voting_hours
        )));
    }
    let changes = changes(node, a.what)?;
    let now = node.chain.ledger().head().time_ms.max(now_ms());
    let terms = ProposeChange {
        changes,
        delay_blocks: a.delay_blocks,
        // A block's time may be behind this clock: a minute less never is too long.
        expires_ms: now.saturating_add(a.voting_hours * HOUR_MS - 60_000),
        why: a.why,
    };
    ProposeChange::from_bytes(&terms.to_bytes()).map_err(usage)?;
    if !a.force {
        check(node, &terms)?;
    }
    signed(node, None, terms.into()).await
}

/// Votes for the own member.
pub(super) async fn vote(node: &Node, a: VoteArgs) -> Result<Value, AdminError> {
    let change: ChangeId = a.change.parse().map_err(not_an_id(CHANGES))?;
    let found = find(node, &change)?;
    if a.approve && !a.force && found.status == ChangeStatus::Open {
        check(node, &found.terms)?;
    }
    let approve = a.approve;
    signed(node, Some(change), Vote { change, approve }.into()).await
}

async fn signed(node: &Node, change: Option<ChangeId>, body: Body) -> Result<Value, AdminError> {
    let (record, place) = node.admin.submit(&body, DEADLINE).await?;
    let id = change.unwrap_or(record);
    let mut shown = describe(node, &id, &find(node, &id)?);
    if let Value::Object(shown) = &mut shown {
        shown.insert("record".into(), record.to_string().into());
        shown.insert("height".into(), place.height.into());
    }
    Ok(shown)
}

/// What this node alone can know: that the network would go on now, with who is there; that this program knows the rules; that
/// the own key is here.
fn check(node: &Node, terms: &ProposeChange) -> Result<(), AdminError> {
    let ledger = node.chain.ledger();
    let (members, set) = members_after(ledger.state(), terms)
        .map_err(SubmitError::from)
        .map_err(AdminError::from)?;
    let now = crate::wiring::members(ledger).map_err(internal)?;
    let (mut there, mut offline) = (0_u64, Vec::new());
    for member in &members {
        for n in member.nodes.iter().filter(|n| n.power > 0) {
            if is_there(node, &now, member, n) {
                there = there.saturating_add(n.power);
            } else {
                offline.push(member.name.clone());
            }
        }
    }
    if !set.is_quorum(there) {
        return Err(AdminError::new(
            "no_live_quorum",
            format!(
                "after this change the network would stand still: {} offline now, so {there} of {} voting power would be there and {} is needed",
                is_or_are(&offline),
                set.total_power(),
                set.quorum_power()
            ),
            "start or reconnect those nodes first (a newcomer is admitted with power 0, syncs, and gets power then), or use --force",
        ));
    }
    for change in &terms.changes {
        match change {
            Change::SetRulesVersion { version }
                if *version > tally_contracts::genesis::RULES_VERSION =>
            {
                return Err(AdminError::new(
                    "unknown_rules",
                    format!(
                        "this program does not know rules version {version}: the node would stop at that height"
                    ),
                    "install a version that knows it on every node first, or use --force",
                ));
            }
            Change::RotateKey {
                member,
                purpose,
                new,
                ..
            } if *member == node.chain.member()
                && !KeyStore::new(node.dir.keys()).has_rotated(*purpose, new) =>
            {
                return Err(AdminError::new(
                    "key_not_here",
                    format!("this node has no {purpose} key {new} in its keys folder"),
                    format!(
                        "`tally keys rotate {purpose}` makes one; if another node of the member has it, use --force"
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_or_are(names: &[String]) -> String {
    match names {
        [] => "nobody is".into(),
        [one] => format!("{one} is"),
        many => format!("{} are", many.join(", ")),
    }
}

/// Whether a node of the members to be is connected now, by its present keys.
fn is_there(node: &Node, now: &[MemberEntry], member: &MemberEntry, wanted: &NodeEntry) -> bool {
    let own = node.host.key();
    let is_connected =
        |n: &NodeEntry| n.transport.0 == own || node.host.is_connected(&n.transport.0);
    now.iter()
        .filter(|m| m.id == member.id)
        .flat_map(|m| &m.nodes)
        .any(|n| is_same_node(n, wanted) && is_connected(n))
}

/// The changes that a command asks for.
fn changes(node: &Node, what: ChangeArg) -> Result<Vec<Change>, AdminError> {
    let parse = |text: &str| text.parse::<PublicKey>().map_err(usage);
    Ok(match what {
        ChangeArg::Admit { card } => {
            let card = MemberCard::parse(&card).map_err(usage)?;
            vec![Change::AdmitMember {
                entry: card.entry().clone(),
                signer: card.signer(),
                signature: card.signature(),
            }]
        }
        ChangeArg::Remove { member } => vec![Change::RemoveMember {
            member: member_id(node, &member)?,
        }],
        ChangeArg::Power {
            member,
            node: n,
            power,
        } => {
            let (member, n) = one_node(node, member.as_deref(), n.as_deref())?;
            vec![Change::SetPower {
                member,
                node: n.transport,
                power,
            }]
        }
        ChangeArg::AddNode { card } => {
            let card = MemberCard::parse(&card).map_err(usage)?;
            let member = member_id(node, &card.entry().name)?;
            let nodes = card.entry().nodes.iter();
            nodes
                .map(|n| Change::AddNode {
                    member,
                    node: n.clone(),
                })
                .collect()
        }
        ChangeArg::RemoveNode { member, node: n } => {
            let (member, n) = one_node(node, member.as_deref(), n.as_deref())?;
            vec![Change::RemoveNode {
                member,
                node: n.transport,
            }]
        }
        ChangeArg::RotateKey {
            member,
            node: n,
            purpose,
            old,
            new,
        } => vec![rotation(
            node,
            member.as_deref(),
            n.as_deref(),
            &purpose,
            old.as_deref(),
            parse(&new)?,
        )?],
        ChangeArg::ReplaceNode {
            member,
            node: n,
            card,
        } => {
            let card = MemberCard::parse(&card).map_err(usage)?;
            let (member, old) = one_node(node, member.as_deref(), n.as_deref())?;
            replacement(member, &old, card.entry())?
        }
        ChangeArg::Addresses {
            member,
            node: n,
            consensus,
            swarm,
            http,
        } => {
            let (member, n) = one_node(node, member.as_deref(), n.as_deref())?;
            vec![Change::SetAddresses {
                member,
                node: n.transport,
                consensus_addr: consensus.unwrap_or(n.consensus_addr),
                swarm_addr: swarm.unwrap_or(n.swarm_addr),
                http_url: http.unwrap_or(n.http_url),
            }]
        }
        ChangeArg::AdminKey {
            member,
            add,
            remove,
        } => {
            let member = of_member(node, member.as_deref())?.id;
            let mut changes = Vec::new();
            if let Some(key) = add {
                let key = parse(&key)?;
                changes.push(Change::AddAdminKey { member, key });
            }
            if let Some(key) = remove {
                let key = parse(&key)?;
                changes.push(Change::RemoveAdminKey { member, key });
            }
            changes
        }
        ChangeArg::RulesVersion { version } => vec![Change::SetRulesVersion { version }],
        ChangeArg::Parameters {
            heartbeat_ms,
            max_block_bytes,
            max_block_records,
            max_skew_ms,
        } => {
            let rules = state::rules(node.chain.ledger().state()).map_err(internal)?;
            vec![Change::SetParameters(Parameters {
                heartbeat_ms: heartbeat_ms.unwrap_or(rules.heartbeat_ms),
                max_block_bytes: max_block_bytes.unwrap_or(rules.max_block_bytes),
                max_block_records: max_block_records.unwrap_or(rules.max_block_records),
                max_skew_ms: max_skew_ms.unwrap_or(rules.max_skew_ms),
            })]
        }
    })
}

fn of_member(node: &Node, name: Option<&str>) -> Result<MemberEntry, AdminError> {
    let id = match name {
        Some(name) => member_id(node, name)?,
        None => node.chain.member(),
    };
    state::member(node.chain.ledger().state(), &id)
        .map_err(internal)?
        .ok_or_else(|| usage(format!("{id} is not a member")))
}

/// A node of a member by the first digits of its transport key, or its only one.
fn one_node(
    node: &Node,
    member: Option<&str>,
    starts_with: Option<&str>,
) -> Result<(MemberId, NodeEntry), AdminError> {
    let member = of_member(node, member)?;
    let mut fitting = member
        .nodes
        .iter()
        .filter(|n| starts_with.is_none_or(|s| n.transport.to_string().starts_with(s)));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok((member.id, one.clone())),
        _ => {
            let all: Vec<_> = member
                .nodes
                .iter()
                .map(|n| n.transport.to_string())
                .collect();
            Err(usage(format!(
                "name one node of {} by the first digits of its transport key: {}",
                member.name,
                all.join(", ")
            )))
        }
    }
}

fn rotation(
    node: &Node,
    member: Option<&str>,
    n: Option<&str>,
    purpose: &str,
    old: Option<&str>,
    new: PublicKey,
) -> Result<Change, AdminError> {
    let purpose = KeyPurpose::parse(purpose).ok_or_else(|| {
        let all: Vec<_> = KeyPurpose::ALL.iter().map(|p| p.name()).collect();
        usage(format!(
            "{purpose:?} is no purpose of a key, expected one of {}",
            all.join(", ")
        ))
    })?;
    let entry = of_member(node, member)?;
    let old = match (old, purpose) {
        (Some(old), _) => old.parse().map_err(usage)?,
        (None, KeyPurpose::Admin) => match entry.admin_keys.as_slice() {
            [one] => *one,
            many => {
                let all: Vec<_> = many.iter().map(ToString::to_string).collect();
                return Err(usage(format!(
                    "{} has several administrators' keys; name the old one by --old: {}",
                    entry.name,
                    all.join(", ")
                )));
            }
        },
        (None, _) => {
            let (_, n) = one_node(node, member, n)?;
            key_of(&n, purpose).ok_or_else(|| internal("a node without this key"))?
        }
    };
    Ok(Change::RotateKey {
        member: entry.id,
        purpose,
        old,
        new,
    })
}

/// The keys and addresses of a card's node in the place of an old node's.
fn replacement(
    member: MemberId,
    old: &NodeEntry,
    card: &MemberEntry,
) -> Result<Vec<Change>, AdminError> {
    let [new] = card.nodes.as_slice() else {
        return Err(usage("a card of one node is expected"));
    };
    let mut changes: Vec<_> = KeyPurpose::ALL
        .iter()
        .filter_map(|purpose| {
            let (old, new) = (key_of(old, *purpose)?, key_of(new, *purpose)?);
            (old != new).then_some(Change::RotateKey {
                member,
                purpose: *purpose,
                old,
                new,
            })
        })
        .collect();
    let addresses = |n: &NodeEntry| {
        (
            n.consensus_addr.clone(),
            n.swarm_addr.clone(),
            n.http_url.clone(),
        )
    };
    if addresses(old) != addresses(new) {
        changes.push(Change::SetAddresses {
            member,
            // By then it has the new key.
            node: new.transport,
            consensus_addr: new.consensus_addr.clone(),
            swarm_addr: new.swarm_addr.clone(),
            http_url: new.http_url.clone(),
        });
    }
    Ok(changes)
}

fn find(node: &Node, id: &ChangeId) -> Result<ChangeState, AdminError> {
    state::change(node.chain.ledger().state(), id)
        .map_err(internal)?
        .ok_or_else(|| {
            AdminError::new(
                "not_found",
                format!("no change {id}"),
                "`tally change list` shows them; is the ID whole?",
            )
        })
}

fn status(change: &ChangeState, time_ms: u64) -> &'static str {
    if change.status == ChangeStatus::Open && change.terms.expires_ms <= time_ms {
        "expired"
    } else {
        change.status.name()
    }
}

fn names(node: &Node, ids: &[MemberId]) -> Vec<String> {
    ids.iter().map(|m| name_of(node, m)).collect()
}

/// A proposal in full.
fn describe(node: &Node, id: &ChangeId, change: &ChangeState) -> Value {
    let ledger = node.chain.ledger();
    let members = crate::wiring::members(ledger).unwrap_or_default();
    let undecided: Vec<_> = members
        .iter()
        .filter(|m| !change.approved.contains(&m.id) && !change.against.contains(&m.id))
        .map(|m| m.name.clone())
        .collect();
    let approved = members
        .iter()
        .filter(|m| change.approved.contains(&m.id))
        .count();
    let is_open = change.status == ChangeStatus::Open;
    let missing = (2 * members.len() / 3 + 1).saturating_sub(approved);
    json!({
        "change": id.to_string(),
        "status": status(change, ledger.head().time_ms),
        "what": change.terms.changes.iter().map(|c| words(node, c)).collect::<Vec<_>>(),
        "why": change.terms.why,
        "proposed_by": name_of(node, &change.proposer),
        "approved_by": names(node, &change.approved),
        "against": names(node, &change.against),
        "votes_missing": if is_open { missing } else { 0 },
        "waits_for": if is_open { undecided } else { Vec::new() },
        "voting_ends": date(change.terms.expires_ms),
        "delay_blocks": change.terms.delay_blocks,
        "in_force_from_height": (change.from_height > 0).then_some(change.from_height),
    })
}

/// A change in words.
fn words(node: &Node, change: &Change) -> String {
    let name = |id: &MemberId| name_of(node, id);
    let short = |key: &PublicKey| key.to_string().chars().take(16).collect::<String>();
    match change {
        Change::AdmitMember { entry, .. } => {
            let power: u64 = entry.nodes.iter().map(|n| n.power).sum();
            format!(
                "admit {} ({}), voting power {power}, administrator {}",
                entry.name,
                entry.roles,
                entry
                    .admin_keys
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        Change::RemoveMember { member } => format!("remove {}", name(member)),
        Change::SetPower {
            member,
            node,
            power,
        } => format!("power {power} for node {} of {}", short(node), name(member)),
        Change::AddNode { member, node } => format!(
            "add node {} to {}, voting power {}",
            short(&node.transport),
            name(member),
            node.power
        ),
        Change::RemoveNode { member, node } => {
            format!("remove node {} of {}", short(node), name(member))
        }
        Change::RotateKey {
            member,
            purpose,
            old,
            new,
        } => format!(
            "{purpose} key of {}: {new} in the place of {old}",
            name(member)
        ),
        Change::SetAddresses {
            member,
            node,
            consensus_addr,
            swarm_addr,
            http_url,
        } => format!(
            "node {} of {} is reached at {consensus_addr}, {swarm_addr}, {}",
            short(node),
            name(member),
            if http_url.is_empty() {
                "no public HTTP"
            } else {
                http_url
            }
        ),
        Change::AddAdminKey { member, key } => {
            format!("one more administrator's key of {}: {key}", name(member))
        }
        Change::RemoveAdminKey { member, key } => {
            format!(
                "administrator's key {key} of {} is no longer one",
                name(member)
            )
        }
        Change::SetRulesVersion { version } => format!("rules version {version}"),
        Change::SetParameters(p) => format!(
            "heartbeat {} ms, blocks of at most {} bytes and {} records, clock skew {} ms",
            p.heartbeat_ms, p.max_block_bytes, p.max_block_records, p.max_skew_ms
        ),
    }
}

pub(super) fn show(node: &Node, a: &OneArgs) -> Result<Value, AdminError> {
    let id: ChangeId = a.change.parse().map_err(not_an_id(CHANGES))?;
    Ok(describe(node, &id, &find(node, &id)?))
}

/// All proposals, the newest first.
pub(super) fn list(node: &Node) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let rows = ledger
        .state()
        .scan(keys::CHANGE.as_bytes())
        .map_err(internal)?;
    let mut found = Vec::new();
    for (key, value) in rows {
        let change = ChangeState::from_bytes(&value).map_err(internal)?;
        let id = key.get(keys::CHANGE.len()..).map(hex::encode);
        found.push((change, id.unwrap_or_default()));
    }
    found.sort_by_key(|(c, _)| std::cmp::Reverse(c.proposed_ms));
    let time_ms = ledger.head().time_ms;
    let own = node.chain.member();
    let rows: Vec<Value> = found
        .iter()
        .map(|(c, id)| {
            let voted = c.approved.contains(&own) || c.against.contains(&own);
            json!({
                "change": id,
                "status": status(c, time_ms),
                "what": c.terms.changes.iter().map(|c| words(node, c)).collect::<Vec<_>>().join("; "),
                "proposed_by": name_of(node, &c.proposer),
                "approved": c.approved.len(),
                "against": c.against.len(),
                "voted": voted,
                "voting_ends": date(c.terms.expires_ms),
            })
        })
        .collect();
    Ok(Value::Array(rows))
}
