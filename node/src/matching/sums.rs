//! `join_sum` between two nodes: the agreement's terms in those of the protocol, and each side's set from its stored rows.
//!
//! The initiator brings an audience with touches, the responder one with conversions. Both take model, labels, bounds and noise
//! from the agreement alone.

use tally_contracts::NetworkKind;
use tally_contracts::records::{
    Computation, JoinSumTerms, ProposeAgreement, SumNoise as AgreedNoise,
};
use tally_contracts::refusal::Refusal;
use tally_contracts::state;
use tally_measure::attribution::{Conversions, Journeys, Labels, Windows, brand_keys, media_keys};
use tally_psi::sum::{
    LabelledSet, LabelledSetBuilder, SumInitiator, SumNoise, SumParams, SumResponder, SumTerms,
    ValueNoise, ValuedSet, ValuedSetBuilder,
};
use tally_psi::{Context, Machine, NoiseParams, Seeds};

use super::answer::{Answer, LabelSum};
use super::desk::Inner;
use super::engine::{Agreed, item_numbers};
use super::error::MatchError;
use super::noise::NoiseView;
use super::state::Role;
use crate::audiences::{AudienceMeta, AudienceStore, Holds};

/// What a side has to bring to a computation; `None`: people, and it does not matter what else.
const fn needed(computation: Computation, role: Role) -> Option<Holds> {
    match (computation, role) {
        (Computation::JoinSum, Role::Initiator) => Some(Holds::Touches),
        (Computation::JoinSum, Role::Responder) => Some(Holds::Conversions),
        _ => None,
    }
}

/// Refuses an own audience that does not hold what the computation needs from this side.
pub(super) fn check_holds(
    computation: Computation,
    role: Role,
    meta: &AudienceMeta,
) -> Result<(), MatchError> {
    match needed(computation, role) {
        Some(needed) if needed != meta.holds() => Err(MatchError::decline(
            "holds",
            format!(
                "audience {} holds {}; {computation} needs {} from this side",
                meta.name,
                meta.holds().name(),
                needed.name()
            ),
        )),
        _ => Ok(()),
    }
}

/// The agreement's terms for sums.
fn agreed_terms(terms: &ProposeAgreement) -> Result<&JoinSumTerms, MatchError> {
    terms.sums.as_ref().ok_or_else(|| {
        Refusal::Computation {
            computation: Computation::JoinSum,
        }
        .into()
    })
}

/// What of the terms does not fit the protocol: the contract bounds it, so nothing should.
fn unfit<T>(_: T) -> MatchError {
    MatchError::Internal {
        what: "terms of a sum that the contract should refuse",
    }
}

/// The protocol's terms. Exact sums run in test networks alone; a noise that does not give the agreement's delta is refused,
/// because the ledger would charge too little.
pub(super) fn psi_terms(
    terms: &ProposeAgreement,
    kind: NetworkKind,
) -> Result<SumTerms, MatchError> {
    let agreed = agreed_terms(terms)?;
    let noise = match agreed.noise {
        AgreedNoise::None if kind == NetworkKind::Test => SumNoise::NoneInTestNetwork,
        AgreedNoise::None => {
            return Err(Refusal::Noise {
                computation: Computation::JoinSum,
            }
            .into());
        }
        AgreedNoise::Laplace {
            sums_micro_eps,
            matches_micro_eps,
            delta_exp,
        } => {
            let matches = NoiseParams {
                epsilon_micro: matches_micro_eps,
                sensitivity: agreed.match_sensitivity().ok_or(()).map_err(unfit)?,
                bound: agreed.match_bound().ok_or(()).map_err(unfit)?,
            };
            if matches.delta()? > tally_psi::DELTA_ONE >> delta_exp.min(60) {
                return Err(MatchError::decline(
                    "noise",
                    "the noise on numbers of matches costs more than the agreement's delta",
                ));
            }
            SumNoise::Laplace {
                matches,
                values: vec![ValueNoise {
                    epsilon_micro: sums_micro_eps,
                    sensitivity: agreed.sum_sensitivity().ok_or(()).map_err(unfit)?,
                    bound: agreed.sum_bound().ok_or(()).map_err(unfit)?,
                }],
            }
        }
    };
    let minimums = agreed.labels.iter().map(|l| l.minimum_people);
    let terms = SumTerms {
        minimum_people: std::iter::once(0).chain(minimums).collect(),
        weights: agreed.model.weights(),
        unit: agreed.model.unit(),
        value_caps: vec![agreed.value_cap],
        entries_per_person: agreed.conversions_per_person,
        rows_per_entry: agreed.rows_per_conversion(),
        slots: agreed.model.slots(),
        max_label_rows: agreed.max_keys,
        max_entries: agreed.max_conversions,
        noise,
    };
    terms.verify()?;
    Ok(terms)
}

/// What the noise does to each sum.
pub(super) fn noise_view(terms: &SumTerms) -> NoiseView {
    match &terms.noise {
        SumNoise::NoneInTestNetwork => NoiseView::None,
        SumNoise::Laplace { matches, values } => {
            let unit = u64::from(terms.unit.max(1));
            let of = |f: fn(&ValueNoise) -> u64| values.iter().map(f).sum::<u64>().div_ceil(unit);
            NoiseView::Sums {
                epsilon: values
                    .first()
                    .map_or(0.0, |v| f64::from(v.epsilon_micro) / 1e6),
                matches_epsilon: f64::from(matches.epsilon_micro) / 1e6,
                bound: of(|v| v.bound),
                within_95: of(ValueNoise::within_95),
            }
        }
    }
}

/// The published sums by label.
pub(super) fn answer(terms: &ProposeAgreement, values: &[i64]) -> Result<Answer, MatchError> {
    let agreed = agreed_terms(terms)?;
    if values.len() != agreed.label_count() {
        return Err(MatchError::Mismatch {
            what: "number of sums",
        });
    }
    let labels = values.iter().enumerate().map(|(number, value)| LabelSum {
        label: agreed.label(number).unwrap_or_default().to_owned(),
        value: *value,
    });
    Ok(Answer::Sums {
        labels: labels.collect(),
        unit: agreed.model.unit(),
    })
}

impl Inner {
    /// The protocol's terms for an agreement on this network.
    pub(super) fn sum_terms(&self, terms: &ProposeAgreement) -> Result<SumTerms, MatchError> {
        psi_terms(terms, state::network_info(&*self.ledger)?.kind)
    }

    /// The machine of this side, its rows read and verified on a thread of its own.
    pub(super) async fn sum_machine(
        &self,
        agreed: &Agreed,
        context: Context,
        terms: SumTerms,
        seeds: Seeds,
    ) -> Result<Box<dyn Machine>, MatchError> {
        let (audiences, meta, role) = (self.audiences.clone(), agreed.own.clone(), agreed.role);
        let sums = agreed_terms(&agreed.terms)?.clone();
        let work = move || -> Result<Box<dyn Machine>, MatchError> {
            check_holds(Computation::JoinSum, role, &meta)?;
            let params = SumParams { context, terms };
            Ok(match role {
                Role::Initiator => {
                    let set = labelled(&audiences, &meta, &sums, &params.terms)?;
                    Box::new(SumInitiator::new(params, set, seeds)?)
                }
                Role::Responder => {
                    let set = valued(&audiences, &meta, &sums, &params.terms)?;
                    Box::new(SumResponder::new(params, set, seeds)?)
                }
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| MatchError::Internal {
                what: "the thread that reads a set died",
            })?
    }
}

fn windows(sums: &JoinSumTerms) -> Result<Windows, MatchError> {
    Windows::new(sums.click_window_s, sums.view_window_s).map_err(unfit)
}

/// The stored rows of a set that has some.
fn rows(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
) -> Result<zeroize::Zeroizing<Vec<u8>>, MatchError> {
    audiences.load_rows(meta)?.ok_or(MatchError::Internal {
        what: "an audience without rows in a sum",
    })
}

/// The label side's keys.
fn labelled(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
    sums: &JoinSumTerms,
    terms: &SumTerms,
) -> Result<LabelledSet, MatchError> {
    let journeys = Journeys::from_bytes(&rows(audiences, meta)?)?;
    let labels = Labels::new(sums.labels.clone()).map_err(unfit)?;
    let touches = journeys.labelled(&labels);
    // People of each label, as far as it was not put together with others already.
    let mut people = vec![0_u64; labels.count()];
    for touches in touches.values() {
        let met: std::collections::BTreeSet<u16> = touches.iter().map(|t| t.label).collect();
        for label in met {
            if let Some(n) = people.get_mut(usize::from(label)) {
                *n += 1;
            }
        }
    }
    let (id_type, profile) = item_numbers(meta.profile)?;
    let mut set = LabelledSetBuilder::new(id_type, profile);
    media_keys::<MatchError>(
        &touches,
        &sums.model,
        &windows(sums)?,
        |label, class, key| Ok(set.push(label, u16::try_from(class).map_err(unfit)?, key)?),
    )?;
    Ok(set.finish(terms, &people)?)
}

/// The value side's keys.
fn valued(
    audiences: &AudienceStore,
    meta: &AudienceMeta,
    sums: &JoinSumTerms,
    terms: &SumTerms,
) -> Result<ValuedSet, MatchError> {
    let conversions = Conversions::from_bytes(&rows(audiences, meta)?)?;
    let (bounded, ..) = conversions.bounded(sums.value_cap, sums.conversions_per_person);
    let entries = bounded.values().map(|c| c.len() as u64).sum();
    let (id_type, profile) = item_numbers(meta.profile)?;
    let mut set = ValuedSetBuilder::new(id_type, profile, 1);
    brand_keys::<MatchError>(&bounded, &sums.model, &windows(sums)?, |key, value| {
        Ok(set.push(key, &[value])?)
    })?;
    Ok(set.finish(terms, entries)?)
}

#[cfg(test)]
mod tests {
    use tally_contracts::records::{Noise, SumLabel, SumModel};

    use super::*;

    fn sums(model: SumModel, noise: AgreedNoise) -> JoinSumTerms {
        JoinSumTerms {
            label_side: tally_contracts::ids::MemberId([1; 16]),
            model,
            click_window_s: 7 * 86_400,
            view_window_s: 86_400,
            labels: vec![SumLabel {
                name: "eta".into(),
                minimum_people: 50,
            }],
            value_cap: 200_000,
            conversions_per_person: 2,
            max_conversions: 1_024,
            max_keys: 1 << 20,
            noise,
        }
    }

    fn agreement(sums: JoinSumTerms) -> ProposeAgreement {
        ProposeAgreement {
            parties: Vec::new(),
            purpose: String::new(),
            computations: vec![Computation::JoinSum],
            suite: tally_contracts::records::Suite::DhRistrettoV1,
            profile: "e164".parse().unwrap(),
            min_set_size: 1,
            max_set_size: 1,
            min_result: 1,
            noise: Noise::None,
            epoch_cap: Default::default(),
            lifetime_cap: Default::default(),
            max_audiences: 1,
            max_matches: 1,
            expires_ms: 1,
            sums: Some(sums),
            overlap: None,
        }
    }

    /// What the contract derives is what the protocol accepts.
    #[test]
    fn the_contract_and_the_protocol_agree_on_terms() {
        let noise = |sums_micro_eps, matches_micro_eps, delta_exp| AgreedNoise::Laplace {
            sums_micro_eps,
            matches_micro_eps,
            delta_exp,
        };
        let linear = SumModel::Linear { touches: 7 };
        for agreed in [
            sums(SumModel::LastTouch, noise(500_000, 500_000, 20)),
            sums(SumModel::First, noise(100_000, 2_000_000, 40)),
            sums(linear, noise(1_000_000, 300_000, 20)),
            sums(linear, AgreedNoise::None),
        ] {
            let rows = tally_measure::attribution::brand_rows_per_conversion(
                &agreed.model,
                &windows(&agreed).unwrap(),
            );
            assert_eq!(rows, agreed.rows_per_conversion());
            let exact = agreed.noise == AgreedNoise::None;
            let terms = agreement(agreed);
            assert!(psi_terms(&terms, NetworkKind::Test).is_ok());
            assert_eq!(psi_terms(&terms, NetworkKind::Live).is_err(), exact);
        }
    }
}
