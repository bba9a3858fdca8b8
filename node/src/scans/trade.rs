//! Takes what dealers say: verifies the code, writes the event.

use std::sync::Arc;

use rand_core::OsRng;
use sha2::{Digest, Sha256};
use tally_contracts::domains::DEALER;

use super::draft::{Appended, EventDraft, Finding};
use super::keys::KeyUse;
use super::{
    EventKind, MAX_DEALER, Place, ScanError, ScanId, ScanService, ScannedCode, TradeEvent, Verdict,
};

/// What a dealer says of a unit.
pub struct EventRequest {
    /// What happened.
    pub kind: EventKind,
    /// The code.
    pub code: ScannedCode,
    /// The dealer's name, 1 to [`MAX_DEALER`] bytes.
    pub dealer: String,
    /// Where, if it was said.
    pub place: Option<Place>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// It stands in the log. Whether somebody had said before that the unit was sold.
    Taken {
        /// See above.
        sold_before: bool,
    },
    /// The dealer said the same of the code within the time that idempotency keys are remembered.
    Again,
    /// Nobody issued the code.
    Unknown,
}

/// The same at every gateway of the member, so that none takes a dealer for two. A name is no secret.
fn pseudonym(dealer: &str) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(DEALER)
        .chain_update(dealer.as_bytes())
        .finalize()
        .into();
    std::array::from_fn(|i| hash.get(i).copied().unwrap_or_default())
}

impl ScanService {
    /// Takes what a dealer says of a unit of this member: it is durable when this returns. The same said again by the same dealer is one event.
    ///
    /// # Errors
    /// [`ScanError::Input`], [`ScanError::NotIssuer`], [`ScanError::ReadOnly`], [`ScanError::Busy`], [`ScanError::IndexAway`]; it may be
    /// sent again after each of the last three.
    pub async fn event(self: &Arc<Self>, request: EventRequest) -> Result<EventOutcome, ScanError> {
        let dealer = request.dealer;
        if dealer.is_empty() || dealer.len() > MAX_DEALER {
            return Err(ScanError::Input {
                what: "dealer",
                expected: "1 to 64 bytes",
            });
        }
        let product = self.code_book.product(request.code.gtin());
        if !product.is_some_and(|p| p.own) {
            return Err(ScanError::NotIssuer {
                gtin: request.code.gtin().to_string(),
            });
        }
        self.log.check_writable()?;
        let place = self.coarse(request.place);
        let found = self.verify_own(&request.code, None, place.as_ref());
        let unit = match found.finding {
            Finding::Counted(unit) | Finding::Held(unit, _) => unit,
            Finding::Other(Verdict::CannotVerifyNow) | Finding::Answered { .. } => {
                return Err(ScanError::ReadOnly {
                    reason: "codes cannot be verified now".to_owned(),
                });
            }
            Finding::Other(_) => return Ok(EventOutcome::Unknown),
        };
        let said = [
            dealer.as_bytes(),
            request.kind.name().as_bytes(),
            &request.code.hash().0,
        ];
        let key = KeyUse {
            key: self.log.pseudonym(&[b"event", said[0], said[1], said[2]]),
            request: self.log.pseudonym(&[b"request", said[2]]),
        };
        let appended = self
            .log
            .append_event(EventDraft {
                event: TradeEvent {
                    id: ScanId::random(&mut OsRng),
                    time_ms: self.clock.now_ms(),
                    kind: request.kind,
                    code: request.code,
                    unit,
                    source: pseudonym(&dealer),
                    dealer,
                    place,
                    reach: found.reach,
                },
                key,
            })
            .await?;
        match appended {
            Appended::Event { sold_before, .. } => Ok(EventOutcome::Taken { sold_before }),
            Appended::Before { .. } | Appended::EventBefore => Ok(EventOutcome::Again),
            Appended::New { .. } | Appended::Later => Err(ScanError::Internal {
                what: "an event was not written as one",
            }),
        }
    }
}
