//! Agreements: who may ask what of whose data, signed with the member's administrator key.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_contracts::Canonical;
use tally_contracts::ids::{AgreementId, MemberId};
use tally_contracts::records::{
    AcceptAgreement, Body, BudgetCap, Computation, HelperTerms, JoinSumTerms, Noise,
    ProposeAgreement, RevokeAgreement, Suite, SumLabel, SumNoise,
};
use tally_contracts::state::{self, AgreementState, AgreementStatus, keys};

use super::AdminError;
use super::audiences::parse_profile;
use super::ops::{AGREEMENTS, DEADLINE, internal, not_an_id, usage};
use crate::chain::now_ms;
use crate::matching::{plan_noise, plan_region_noise};
use crate::runtime::Node;

const DAY_MS: u64 = 86_400_000;
/// A year of 366 days more than ten: no agreement is longer.
const MAX_DAYS: u64 = 3_660;

/// Noise as the command line says it.
#[derive(Deserialize)]
#[serde(untagged)]
enum NoiseArg {
    Word(NoNoise),
    Laplace {
        epsilon_micro: u32,
        /// delta = 2^-this.
        delta_exp: u32,
    },
}

/// The word for no noise.
#[derive(Deserialize)]
enum NoNoise {
    #[serde(rename = "none")]
    None,
}

/// Arguments of `agreement_propose`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProposeArgs {
    with: Vec<String>,
    purpose: String,
    computations: Vec<String>,
    /// Where none is named `helper-prf-v1` for `overlap_n`, else `dh-ristretto-v1`; whether it serves the computations is the ledger's to
    /// say.
    #[serde(default)]
    suite: Option<String>,
    id_type: String,
    profile: String,
    noise: NoiseArg,
    /// How many counted answers an owner's budget pays for in an epoch, and over all epochs for one analyst.
    epoch_answers: u64,
    lifetime_answers: u64,
    min_set: u64,
    max_set: u64,
    min_result: u64,
    max_audiences: u32,
    max_matches: u32,
    days: u64,
    /// What `join_sum` sums up, where it is one of the computations.
    #[serde(default)]
    sums: Option<SumArgs>,
    /// Who helps with `overlap_n`, where it is one of the computations.
    #[serde(default)]
    helper: Option<String>,
    /// The noise against the helper; that of counts where none is given.
    #[serde(default)]
    helper_noise: Option<NoiseArg>,
}

/// What `join_sum` sums up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SumArgs {
    /// The party that has the touches and asks; the one that proposes where none is named.
    #[serde(default)]
    label_side: Option<String>,
    model: String,
    labels: Vec<String>,
    label_min: u32,
    value_cap: u64,
    conversions_per_person: u32,
    click_days: u32,
    view_days: u32,
    max_conversions: u64,
    max_keys: u64,
}

impl SumArgs {
    /// The terms, under the noise that counts have.
    fn terms(&self, noise: &NoiseArg, label_side: MemberId) -> Result<JoinSumTerms, AdminError> {
        let labels: BTreeSet<&String> = self.labels.iter().collect();
        if labels.len() != self.labels.len() {
            return Err(usage("a label is named twice"));
        }
        let seconds = |days: u32| days.saturating_mul(86_400);
        Ok(JoinSumTerms {
            label_side,
            model: self.model.parse().map_err(usage)?,
            click_window_s: seconds(self.click_days),
            view_window_s: seconds(self.view_days),
            labels: labels
                .into_iter()
                .map(|name| SumLabel {
                    name: name.clone(),
                    minimum_people: self.label_min,
                })
                .collect(),
            value_cap: self.value_cap,
            conversions_per_person: self.conversions_per_person,
            max_conversions: tally_psi::public_size(self.max_conversions),
            max_keys: self.max_keys,
            noise: match *noise {
                NoiseArg::Word(NoNoise::None) => SumNoise::None,
                NoiseArg::Laplace {
                    epsilon_micro,
                    delta_exp,
                } => SumNoise::Laplace {
                    sums_micro_eps: epsilon_micro,
                    matches_micro_eps: epsilon_micro,
                    delta_exp: u8::try_from(delta_exp).map_err(usage)?,
                },
            },
        })
    }
}

/// Arguments of the operations on one agreement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneArgs {
    agreement: String,
}

impl OneArgs {
    fn id(&self) -> Result<AgreementId, AdminError> {
        self.agreement.parse().map_err(not_an_id(AGREEMENTS))
    }
}

pub(super) fn name_of(node: &Node, id: &MemberId) -> String {
    let entry = state::member(node.chain.ledger().state(), id)
        .ok()
        .flatten();
    entry.map_or_else(|| id.to_string(), |m| m.name)
}

/// The member of a name.
pub(super) fn member_id(node: &Node, name: &str) -> Result<MemberId, AdminError> {
    let state = node.chain.ledger().state();
    if let Some(member) = state::member_by_name(state, name).map_err(internal)? {
        return Ok(member.id);
    }
    let members = crate::wiring::members(node.chain.ledger()).map_err(internal)?;
    let known: Vec<_> = members.into_iter().map(|m| m.name).collect();
    Err(usage(format!(
        "{name:?} is no member, expected one of {}",
        known.join(", ")
    )))
}

pub(super) fn parse_computation(word: &str) -> Result<Computation, AdminError> {
    Computation::parse(word)
        .filter(|c| !c.suites().is_empty())
        .ok_or_else(|| {
            let known: Vec<_> = Computation::ALL
                .iter()
                .filter(|c| !c.suites().is_empty())
                .map(|c| c.name())
                .collect();
            usage(format!(
                "{word:?} cannot be computed, expected one of {}",
                known.join(", ")
            ))
        })
}

fn parse_suite(
    word: Option<&str>,
    computations: &BTreeSet<Computation>,
) -> Result<Suite, AdminError> {
    let Some(word) = word else {
        return Ok(if computations.contains(&Computation::OverlapN) {
            Suite::HelperPrfV1
        } else {
            Suite::DhRistrettoV1
        });
    };
    Suite::parse(word).ok_or_else(|| {
        usage(format!(
            "{word:?} is no suite, expected one of {}",
            Suite::ALL
                .iter()
                .map(|s| s.name())
                .collect::<Vec<_>>()
                .join(", ")
        ))
    })
}

fn noise(
    arg: &NoiseArg,
    plan: fn(u32, u64) -> Result<Noise, crate::matching::MatchError>,
) -> Result<Noise, AdminError> {
    match *arg {
        NoiseArg::Word(NoNoise::None) => Ok(Noise::None),
        NoiseArg::Laplace {
            epsilon_micro,
            delta_exp,
        } => {
            let delta = 60_u32.checked_sub(delta_exp).map_or(0, |n| 1 << n);
            plan(epsilon_micro, delta).map_err(usage)
        }
    }
}

/// So many times one answer's charge.
fn answers(charge: &BudgetCap, times: u64) -> BudgetCap {
    BudgetCap {
        micro_rho: charge.micro_rho.saturating_mul(times),
        delta: charge
            .delta
            .saturating_mul(times)
            .min(tally_contracts::records::DELTA_ONE),
    }
}

/// What one answer costs an owner at most: so many of them are what a cap pays for.
fn price(terms: &ProposeAgreement) -> BudgetCap {
    let (count, largest) = (terms.noise.charge(), terms.largest_charge());
    BudgetCap {
        micro_rho: count.micro_rho.max(largest.micro_rho),
        delta: count.delta.max(largest.delta),
    }
}

/// Proposes an agreement; the own member accepts it by that.
pub(super) async fn propose(node: &Node, a: ProposeArgs) -> Result<Value, AdminError> {
    let own = node.chain.member();
    let mut parties = BTreeSet::from([own]);
    for name in &a.with {
        if !parties.insert(member_id(node, name)?) {
            return Err(usage(format!(
                "{name} is named twice, or is this node's own member"
            )));
        }
    }
    let computations: BTreeSet<Computation> = a
        .computations
        .iter()
        .map(|word| parse_computation(word))
        .collect::<Result<_, _>>()?;
    if !(1..=MAX_DAYS).contains(&a.days) {
        return Err(usage(format!("{} days, expected 1 to {MAX_DAYS}", a.days)));
    }
    let sums = match (computations.contains(&Computation::JoinSum), &a.sums) {
        (true, Some(sums)) => {
            let side = match &sums.label_side {
                Some(name) => member_id(node, name)?,
                None => own,
            };
            Some(sums.terms(&a.noise, side)?)
        }
        (false, None) => None,
        (true, None) => return Err(usage("join_sum needs its labels, model and value cap")),
        (false, Some(_)) => return Err(usage("terms of sums are for join_sum alone")),
    };
    let overlap = match (computations.contains(&Computation::OverlapN), &a.helper) {
        (true, Some(name)) => Some(HelperTerms {
            helper: Some(member_id(node, name)?),
            regions: noise(
                a.helper_noise.as_ref().unwrap_or(&a.noise),
                plan_region_noise,
            )?,
        }),
        (false, None) => None,
        (true, None) => {
            return Err(usage(
                "overlap_n needs a helper: a member that is no party, the auditor say",
            ));
        }
        (false, Some(_)) => return Err(usage("a helper is for overlap_n alone")),
    };
    let suite = parse_suite(a.suite.as_deref(), &computations)?;
    let noise = noise(&a.noise, plan_noise)?;
    let now = node.chain.ledger().head().time_ms.max(now_ms());
    let mut terms = ProposeAgreement {
        parties: parties.into_iter().collect(),
        purpose: a.purpose,
        computations: computations.into_iter().collect(),
        suite,
        profile: parse_profile(&a.id_type, &a.profile)?,
        min_set_size: a.min_set,
        max_set_size: a.max_set,
        min_result: a.min_result,
        noise,
        epoch_cap: BudgetCap::default(),
        lifetime_cap: BudgetCap::default(),
        max_audiences: a.max_audiences,
        max_matches: a.max_matches,
        expires_ms: now.saturating_add(a.days * DAY_MS),
        sums,
        overlap,
    };
    let charge = price(&terms);
    terms.epoch_cap = answers(&charge, a.epoch_answers);
    terms.lifetime_cap = answers(&charge, a.lifetime_answers);
    // What the codec bounds is said here in words.
    ProposeAgreement::from_bytes(&terms.to_bytes()).map_err(usage)?;
    signed(node, None, terms.into()).await
}

/// Accepts an agreement for the own member.
pub(super) async fn accept(node: &Node, a: OneArgs) -> Result<Value, AdminError> {
    let agreement = a.id()?;
    signed(node, Some(agreement), AcceptAgreement { agreement }.into()).await
}

/// Ends an agreement.
pub(super) async fn revoke(node: &Node, a: OneArgs) -> Result<Value, AdminError> {
    let agreement = a.id()?;
    signed(node, Some(agreement), RevokeAgreement { agreement }.into()).await
}

/// Has the administrator sign a body, and shows the agreement as it then stands.
async fn signed(
    node: &Node,
    agreement: Option<AgreementId>,
    body: Body,
) -> Result<Value, AdminError> {
    let (record, place) = node.admin.submit(&body, DEADLINE).await?;
    let id = agreement.unwrap_or(record);
    let found = find(node, &id)?;
    Ok(json!({
        "agreement": id.to_string(),
        "status": status(&found, &node.chain.ledger().head().time_ms),
        "waits_for": waits_for(node, &found),
        "party": found.terms.parties.contains(&node.chain.member()),
        "record": record.to_string(),
        "height": place.height,
    }))
}

fn find(node: &Node, id: &AgreementId) -> Result<AgreementState, AdminError> {
    state::agreement(node.chain.ledger().state(), id)
        .map_err(internal)?
        .ok_or_else(|| {
            AdminError::new(
                "not_found",
                format!("no agreement {id}"),
                "`tally agreement list` shows them; is the ID whole?",
            )
        })
}

fn status(agreement: &AgreementState, time_ms: &u64) -> &'static str {
    match agreement.status {
        AgreementStatus::Revoked => "revoked",
        _ if agreement.terms.expires_ms <= *time_ms => "expired",
        AgreementStatus::Proposed => "proposed",
        AgreementStatus::Active => "active",
    }
}

fn waits_for(node: &Node, agreement: &AgreementState) -> Vec<String> {
    if agreement.status != AgreementStatus::Proposed {
        return Vec::new();
    }
    let consenting = agreement.terms.consenting();
    consenting
        .iter()
        .filter(|m| !agreement.accepted.contains(m))
        .map(|m| name_of(node, m))
        .collect()
}

/// A time as UTC text to the minute.
pub(super) fn date(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(
        |_| "never".to_owned(),
        |t| {
            format!(
                "{}-{:02}-{:02} {:02}:{:02} UTC",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute()
            )
        },
    )
}

/// Epsilon, delta and bound in words.
#[allow(clippy::cast_precision_loss)]
pub(super) fn noise_text(noise: &Noise) -> String {
    match noise {
        Noise::None => "none: counts are exact, in a test network only".to_owned(),
        Noise::Laplace {
            micro_eps,
            delta,
            bound,
        } => format!(
            "two draws of at most {bound} each, epsilon {}, delta {:.1e}",
            *micro_eps as f64 / 1e6,
            *delta as f64 / (tally_contracts::records::DELTA_ONE as f64)
        ),
    }
}

/// The noise of `overlap_n` against the helper, in words.
#[allow(clippy::cast_precision_loss)]
fn region_text(noise: &Noise) -> String {
    match noise {
        Noise::None => "none: the helper sees exact numbers, in a test network only".to_owned(),
        Noise::Laplace {
            micro_eps,
            delta,
            bound,
        } => format!(
            "on how many people each set of parties shares one draw of at most {bound}, epsilon {}, delta {:.1e}, charged besides",
            *micro_eps as f64 / 1e6,
            *delta as f64 / (tally_contracts::records::DELTA_ONE as f64)
        ),
    }
}

/// What `join_sum` sums up, and how much noise a sum gets.
#[allow(clippy::cast_precision_loss)]
fn sums_shown(node: &Node, sums: &JoinSumTerms) -> Value {
    let unit = u64::from(sums.model.unit().max(1));
    let noise = match sums.noise {
        SumNoise::None => "none: sums are exact, in a test network only".to_owned(),
        SumNoise::Laplace {
            sums_micro_eps,
            matches_micro_eps,
            delta_exp,
        } => format!(
            "on each sum two draws of at most {} minor units each, epsilon {}; on what the label side sees of the matches epsilon {}, charged \
             to the other side besides; delta 2^-{delta_exp} each",
            sums.sum_bound().unwrap_or(u64::MAX).div_ceil(unit),
            f64::from(sums_micro_eps) / 1e6,
            f64::from(matches_micro_eps) / 1e6,
        ),
    };
    let labels: Vec<String> = sums
        .labels
        .iter()
        .map(|l| format!("{} (from {} people)", l.name, l.minimum_people))
        .collect();
    json!({
        "asked_by": name_of(node, &sums.label_side),
        "model": sums.model.to_string(),
        "click_window_s": sums.click_window_s,
        "view_window_s": sums.view_window_s,
        "labels": labels,
        "value_cap": sums.value_cap,
        "conversions_per_person": sums.conversions_per_person,
        "max_conversions": sums.max_conversions,
        "max_keys": sums.max_keys,
        "noise": noise,
    })
}

/// What is left of the budget of `owner` for `analyst`: in this epoch over all analysts, and over all epochs for this one; the
/// least of both in whole answers.
fn budget(
    node: &Node,
    terms: &ProposeAgreement,
    owner: &MemberId,
    analyst: &MemberId,
    epoch: u64,
) -> Result<Value, AdminError> {
    let state = node.chain.ledger().state();
    let left = |cap: &BudgetCap, key: Vec<u8>| -> Result<BudgetCap, AdminError> {
        let held = state::budget(state, &key)
            .map_err(internal)?
            .held()
            .unwrap_or(*cap);
        Ok(cap.less(&held))
    };
    let in_epoch = left(&terms.epoch_cap, keys::budget_epoch(owner, epoch))?;
    let in_all = left(&terms.lifetime_cap, keys::budget_lifetime(owner, analyst))?;
    let charge = price(terms);
    let whole = |left: &BudgetCap| {
        let times = |have: u64, cost: u64| have.checked_div(cost);
        let rho = times(left.micro_rho, charge.micro_rho);
        let delta = times(left.delta, charge.delta);
        rho.into_iter().chain(delta).min()
    };
    Ok(json!({
        "owner": name_of(node, owner),
        "analyst": name_of(node, analyst),
        "answers_left_this_epoch": whole(&in_epoch),
        "answers_left_in_all": whole(&in_all),
        "list_released": state::disclosed(state, owner, epoch, analyst).map_err(internal)?,
    }))
}

/// What an agreement allows, who has accepted it, and what is left of the budgets.
pub(super) fn show(node: &Node, a: &OneArgs) -> Result<Value, AdminError> {
    let id = a.id()?;
    let found = find(node, &id)?;
    let terms = &found.terms;
    let names = |ids: &[MemberId]| ids.iter().map(|m| name_of(node, m)).collect::<Vec<_>>();
    let words: Vec<_> = terms.computations.iter().map(|c| c.name()).collect();
    let epoch = node.matches.epoch()?;
    let helper = terms.overlap.as_ref().and_then(|o| o.helper);
    let mut budgets = Vec::new();
    if terms.noise != Noise::None {
        for owner in &terms.parties {
            for analyst in terms.parties.iter().chain(&helper).filter(|m| *m != owner) {
                budgets.push(budget(node, terms, owner, analyst, epoch)?);
            }
        }
    }
    Ok(json!({
        "agreement": id.to_string(),
        "status": status(&found, &node.chain.ledger().head().time_ms),
        "parties": names(&terms.parties),
        "proposed_by": name_of(node, &found.proposer),
        "accepted_by": names(&found.accepted),
        "waits_for": waits_for(node, &found),
        "purpose": terms.purpose,
        "computations": words,
        "suite": terms.suite.name(),
        "profile": terms.profile.to_string(),
        "noise": noise_text(&terms.noise),
        "sums": terms.sums.as_ref().map(|s| sums_shown(node, s)),
        "helper": helper.map(|h| name_of(node, &h)),
        "noise_against_helper": terms.overlap.as_ref().map(|o| region_text(&o.regions)),
        "people_in_a_set": format!("{} to {}", terms.min_set_size, terms.max_set_size),
        "smallest_result": terms.min_result,
        "audiences_an_epoch": terms.max_audiences,
        "matches": format!("{} of {}", found.matches, terms.max_matches),
        "expires": date(terms.expires_ms),
        "epoch": epoch,
        "budget_left": budgets,
    }))
}

/// The agreements that the own member is a party of, the newest first.
pub(super) fn list(node: &Node) -> Result<Value, AdminError> {
    let ledger = node.chain.ledger();
    let own = node.chain.member();
    let rows = ledger
        .state()
        .scan(keys::AGREEMENT.as_bytes())
        .map_err(internal)?;
    let mut found = Vec::new();
    for (key, value) in rows {
        let agreement = AgreementState::from_bytes(&value).map_err(internal)?;
        if agreement.terms.consenting().contains(&own) {
            let id = key.get(keys::AGREEMENT.len()..).map(hex::encode);
            found.push((agreement, id.unwrap_or_default()));
        }
    }
    found.sort_by_key(|(a, _)| std::cmp::Reverse(a.proposed_ms));
    let time_ms = ledger.head().time_ms;
    let rows: Vec<Value> = found
        .iter()
        .map(|(a, id)| {
            let with: Vec<_> = a
                .terms
                .parties
                .iter()
                .filter(|m| **m != own)
                .map(|m| name_of(node, m))
                .collect();
            let words: Vec<_> = a.terms.computations.iter().map(|c| c.name()).collect();
            json!({
                "agreement": id,
                "status": status(a, &time_ms),
                "with": with,
                "computations": words,
                "noise": matches!(a.terms.noise, Noise::Laplace { .. }),
                "matches": a.matches,
                "of": a.terms.max_matches,
                "expires": date(a.terms.expires_ms),
                "purpose": a.terms.purpose,
            })
        })
        .collect();
    Ok(Value::Array(rows))
}
