//! The agreement's terms in those of the protocol.

use tally_contracts::NetworkKind;
use tally_contracts::ids::{AgreementId, MemberId, PublicKey, SessionId};
use tally_contracts::records::{Computation, HelperTerms, ProposeAgreement};
use tally_contracts::refusal::Refusal;
use tally_contracts::state::{self, OverlapState};
use tally_psi::Party;
use tally_psi::overlap::{MAX_OVERLAP_ITEMS, OverlapNoise, OverlapTerms};

use crate::matching::error::MatchError;
use crate::matching::noise::{NoiseView, noise_params};
use crate::matching::ports::LedgerPort;

/// The most that one row changes what the helper sees: a person moves from one set of parties to another.
pub(in crate::matching) const REGION_SENSITIVITY: u32 = 2;

/// The helper that an agreement names, and its terms.
pub(super) fn helper_terms(
    terms: &ProposeAgreement,
) -> Result<(MemberId, &HelperTerms), MatchError> {
    terms
        .overlap
        .as_ref()
        .and_then(|o| Some((o.helper?, o)))
        .ok_or_else(|| {
            Refusal::Computation {
                computation: Computation::OverlapN,
            }
            .into()
        })
}

/// The protocol's noise. Exact counts run in test networks alone; a noise that does not give the agreement's delta is refused,
/// because the ledger would charge too little.
pub(super) fn psi_noise(
    terms: &ProposeAgreement,
    kind: NetworkKind,
) -> Result<OverlapNoise, MatchError> {
    let (_, agreed) = helper_terms(terms)?;
    let published = noise_params(&terms.noise, 1)?;
    let regions = noise_params(&agreed.regions, REGION_SENSITIVITY)?;
    match (published, regions) {
        (Some(published), Some(regions)) => Ok(OverlapNoise::Laplace { regions, published }),
        (None, None) if kind == NetworkKind::Test => Ok(OverlapNoise::NoneInTestNetwork),
        _ => Err(Refusal::Noise {
            computation: Computation::OverlapN,
        }
        .into()),
    }
}

/// What the noise does to the count.
pub(super) fn noise_view(noise: &OverlapNoise) -> NoiseView {
    match noise {
        OverlapNoise::NoneInTestNetwork => NoiseView::None,
        OverlapNoise::Laplace { regions, published } => NoiseView::overlap(regions, published),
    }
}

/// The protocol's terms for a session that every party has joined. `nodes` are the parties' in the order of the agreement, then the
/// helper's.
pub(super) fn psi_terms(
    ledger: &dyn LedgerPort,
    agreement: AgreementId,
    terms: &ProposeAgreement,
    session: SessionId,
    joined: &OverlapState,
    nodes: &[PublicKey],
) -> Result<OverlapTerms, MatchError> {
    let members = joined.parties.iter().map(|p| p.member);
    let mut named: Vec<Party> = members
        .chain([joined.helper])
        .zip(nodes)
        .map(|(member, node)| Party {
            member: member.0,
            node: node.0,
        })
        .collect();
    let helper = named.pop();
    let mut roots = Vec::new();
    for place in &joined.parties {
        let audience = place.audience.as_ref().ok_or(MatchError::Internal {
            what: "an overlap that not all have joined",
        })?;
        roots.push(audience.root.0);
    }
    let out = OverlapTerms {
        network: ledger.network().0,
        session: session.0,
        parties: named,
        helper,
        agreement: agreement.0,
        roots,
        noise: psi_noise(terms, state::network_info(ledger)?.kind)?,
        max_items: terms.max_set_size.min(MAX_OVERLAP_ITEMS),
        min_result: terms.min_result,
    };
    out.verify()?;
    Ok(out)
}
