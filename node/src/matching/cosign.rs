//! A record that both sides sign: both know its body; nonces and signatures go over the wire, and both submit it, so that
//! neither can hold it back.
//!
//! Two matches at once between two nodes must not each hold the own key and wait for the other's: the key of the lower member
//! ID is taken first, whoever asked.

use tally_contracts::envelope::Signer;
use tally_contracts::ids::{RecordId, Signature};
use tally_contracts::records::Body;
use tally_contracts::signature::verify;
use tally_contracts::{Record, Unsigned};

use super::desk::DeskOptions;
use super::error::MatchError;
use super::messages::Message;
use super::ports::{LedgerError, RecordLease};
use super::wire::{Wire, record_key, unexpected, within};

/// How long a record that both sign can be committed.
pub(super) const VALID_MS: u64 = 120_000;
/// The most that the peer may ask for.
const MAX_VALID_MS: u64 = 10 * VALID_MS;

/// Notes, durably, that this node signs a record that can be committed until a time.
pub(super) type OnSign<'a> = &'a (dyn Fn(RecordId, u64) -> Result<(), MatchError> + Sync);

impl Wire<'_> {
    async fn take_lease(&mut self) -> Result<Box<dyn RecordLease>, MatchError> {
        within(
            self.step,
            "the turn of the own record key",
            self.ledger.lease(),
        )
        .await
    }

    fn check_signer(&self, signer: &Signer) -> Result<(), MatchError> {
        if signer.member != self.peer.member {
            return Err(MatchError::Mismatch { what: "signer" });
        }
        record_key(self.ledger, &signer.member, &signer.key, "record").map(drop)
    }

    fn check_signature(
        &self,
        unsigned: &Unsigned,
        signer: &Signer,
        signature: &Signature,
    ) -> Result<(), MatchError> {
        let key = record_key(self.ledger, &signer.member, &signer.key, "record")?;
        verify("record", &key, &unsigned.sign_bytes(), signature)
            .map_err(|_| MatchError::Signature { what: "record" })
    }

    async fn commit(
        &mut self,
        record: &Record,
        options: &DeskOptions,
    ) -> Result<RecordId, MatchError> {
        let id = self.ledger.submit(record.bytes()).await?;
        self.ledger.wait_committed(&id, options.commit).await?;
        Ok(id)
    }

    /// The initiator's side: has the record signed and committed.
    pub(super) async fn cosign(
        &mut self,
        body: &Body,
        options: &DeskOptions,
        on_sign: OnSign<'_>,
    ) -> Result<RecordId, MatchError> {
        let mut lease = if self.own < self.peer.member {
            Some(self.take_lease().await?)
        } else {
            None
        };
        let signer = lease.as_ref().map(|l| l.signer());
        self.send(&Message::Lease { signer }).await?;
        let theirs = match self.receive("leased").await? {
            Message::Leased { signer } => signer,
            other => return unexpected("leased", &other),
        };
        self.check_signer(&theirs)?;
        let lease = match lease.take() {
            Some(lease) => lease,
            None => self.take_lease().await?,
        };
        let own = lease.signer();
        let valid_until_ms = self.ledger.time_ms().saturating_add(VALID_MS);
        let unsigned = Unsigned::new(
            self.ledger.network(),
            valid_until_ms,
            vec![own, theirs],
            body,
        );
        on_sign(unsigned.id(), valid_until_ms)?;
        let signature = lease.sign(&unsigned);
        self.send(&Message::Sign {
            signer: own,
            valid_until_ms,
            signature,
        })
        .await?;
        let their_signature = match self.receive("signed").await? {
            Message::Signed { signature } => signature,
            other => return unexpected("signed", &other),
        };
        self.check_signature(&unsigned, &theirs, &their_signature)?;
        let record = assemble(&unsigned, &[signature, their_signature])?;
        let id = self.commit(&record, options).await?;
        drop(lease);
        Ok(id)
    }

    /// The responder's side.
    pub(super) async fn countersign(
        &mut self,
        body: &Body,
        options: &DeskOptions,
        on_sign: OnSign<'_>,
    ) -> Result<RecordId, MatchError> {
        let first = match self.receive("lease").await? {
            Message::Lease { signer } => signer,
            other => return unexpected("lease", &other),
        };
        if first.is_some() != (self.peer.member < self.own) {
            return Err(MatchError::Mismatch { what: "turn" });
        }
        let lease = self.take_lease().await?;
        let own = lease.signer();
        self.send(&Message::Leased { signer: own }).await?;
        let (theirs, valid_until_ms, their_signature) = match self.receive("sign").await? {
            Message::Sign {
                signer,
                valid_until_ms,
                signature,
            } => (signer, valid_until_ms, signature),
            other => return unexpected("sign", &other),
        };
        if first.is_some_and(|f| f != theirs) {
            return Err(MatchError::Mismatch { what: "signer" });
        }
        self.check_signer(&theirs)?;
        let now = self.ledger.time_ms();
        if valid_until_ms > now.saturating_add(MAX_VALID_MS) {
            return Err(MatchError::Mismatch { what: "validity" });
        }
        let unsigned = Unsigned::new(
            self.ledger.network(),
            valid_until_ms,
            vec![theirs, own],
            body,
        );
        self.check_signature(&unsigned, &theirs, &their_signature)?;
        on_sign(unsigned.id(), valid_until_ms)?;
        let signature = lease.sign(&unsigned);
        let record = assemble(&unsigned, &[their_signature, signature])?;
        // A record that the contracts refuse is refused here, before the peer waits for it.
        let submitted = self.ledger.submit(record.bytes()).await;
        if let Err(LedgerError::Refused(_)) = &submitted {
            submitted?;
        }
        self.send(&Message::Signed { signature }).await?;
        let id = self.commit(&record, options).await?;
        drop(lease);
        Ok(id)
    }
}

fn assemble(unsigned: &Unsigned, signatures: &[Signature]) -> Result<Record, MatchError> {
    unsigned
        .assemble(signatures)
        .map_err(|_| MatchError::Internal {
            what: "a record that does not fit",
        })
}
