//! Which of its own audiences a node brings to a match that another member asks for.

use tally_contracts::ids::{AgreementId, MemberId};
use tally_contracts::records::{Computation, ProposeAgreement};
use tally_contracts::refusal::RefusalNotice;

use super::error::{MatchError, Side};
use crate::audiences::{AudienceKey, AudienceMeta};

/// A request that the agreement allows, before it is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The agreement.
    pub agreement: &'a AgreementId,
    /// Its terms.
    pub terms: &'a ProposeAgreement,
    /// What is asked.
    pub computation: Computation,
    /// Who asks.
    pub initiator: MemberId,
    /// Size bucket of what it brings.
    pub initiator_bucket: u8,
}

/// Decides on requests that the agreement allows.
pub trait Policy: Send + Sync {
    /// The audience to bring, one of `candidates`: own sets that are committed, recent, of the agreement's profile and size,
    /// and of the label that the initiator named, if it did; the newest epoch first.
    ///
    /// # Errors
    /// Why the request is declined; the initiator sees it.
    fn choose(
        &self,
        inquiry: &Inquiry<'_>,
        candidates: &[AudienceMeta],
    ) -> Result<AudienceKey, RefusalNotice>;

    /// Whether to help with a count of other members, under an agreement that names this one as the helper.
    ///
    /// # Errors
    /// Why not; the asker sees it.
    fn help(&self, inquiry: &Inquiry<'_>) -> Result<(), RefusalNotice>;
}

/// A policy's no.
pub(super) const fn declined(notice: RefusalNotice) -> MatchError {
    MatchError::Refused {
        by: Side::Us,
        notice,
    }
}

/// Answers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefuseAll;

impl Policy for RefuseAll {
    fn choose(
        &self,
        inquiry: &Inquiry<'_>,
        _candidates: &[AudienceMeta],
    ) -> Result<AudienceKey, RefusalNotice> {
        tracing::warn!(
            agreement = %inquiry.agreement,
            computation = %inquiry.computation,
            initiator = %inquiry.initiator,
            "declined a match that the agreement allows: match.auto_accept is \"never\""
        );
        Err(RefusalNotice {
            code: "not_answering".to_owned(),
            message: "the other member's node answers no requests: its operator has to set match.auto_accept to \"agreed\""
                .to_owned(),
        })
    }

    fn help(&self, inquiry: &Inquiry<'_>) -> Result<(), RefusalNotice> {
        self.choose(inquiry, &[]).map(drop)
    }
}

/// Answers whatever the agreement allows, with the newest set of the only audience that fits.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerAgreed;

impl Policy for AnswerAgreed {
    fn choose(
        &self,
        _inquiry: &Inquiry<'_>,
        candidates: &[AudienceMeta],
    ) -> Result<AudienceKey, RefusalNotice> {
        let decline = |code: &str, message: &str| RefusalNotice {
            code: code.to_owned(),
            message: message.to_owned(),
        };
        let Some(first) = candidates.first() else {
            return Err(decline(
                "no_audience",
                "no committed audience fits the agreement",
            ));
        };
        if candidates.iter().any(|c| c.key.label != first.key.label) {
            return Err(decline(
                "audience_ambiguous",
                "several audiences fit the agreement; name one by its label",
            ));
        }
        Ok(first.key)
    }

    fn help(&self, _inquiry: &Inquiry<'_>) -> Result<(), RefusalNotice> {
        Ok(())
    }
}
