//! This node's own records: bodies in, signed records out, one at a time a key so that nonces never have a gap.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_contracts::envelope::Signer;
use tally_contracts::ids::{KeyId, PublicKey, RecordId};
use tally_contracts::records::Body;
use tally_contracts::{Record, Unsigned};
use tally_ledger::RecordPlace;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Chain, SubmitError, lock, next_nonce, now_ms};

/// How long a record of this node stays valid.
const VALID_MS: u64 = 3_600_000;
/// How often a record whose nonce was taken by another is signed anew.
const TRIES: usize = 4;

/// Signs and submits records with one key of the own member.
#[derive(Clone)]
pub struct Submitter {
    chain: Chain,
    key: Arc<SigningKey>,
    turn: Arc<Mutex<()>>,
}

/// The right to use the key's next nonce; the key signs nothing else while it is held.
pub struct Lease {
    _turn: OwnedMutexGuard<()>,
    signer: Signer,
    key: Arc<SigningKey>,
}

impl Lease {
    /// The signer with the nonce, for the envelope.
    #[must_use]
    pub const fn signer(&self) -> Signer {
        self.signer
    }

    /// The key, for [`Unsigned::sign_with`].
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }
}

impl Submitter {
    /// A submitter for one key. There must be one a key in the whole process.
    #[must_use]
    pub fn new(chain: Chain, key: SigningKey) -> Self {
        Self {
            chain,
            key: Arc::new(key),
            turn: Arc::default(),
        }
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// The key itself, for what is signed besides records.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Takes the key's next nonce, for a record that a second party signs too. Waits for the key's turn.
    pub async fn lease(&self) -> Lease {
        let turn = self.turn.clone().lock_owned().await;
        Lease {
            _turn: turn,
            signer: self.next_signer(),
            key: self.key.clone(),
        }
    }

    fn next_signer(&self) -> Signer {
        let public = self.public_key();
        let id = KeyId::of(&public);
        let member = self.chain.member();
        let mut nonce = next_nonce(self.chain.ledger().state(), &member, &id);
        let pool = lock(&self.chain.0.pool);
        while pool.has_nonce(&id, nonce) {
            nonce = nonce.saturating_add(1);
        }
        drop(pool);
        Signer::new(member, &public, nonce)
    }

    /// A record of this body with the signer given.
    ///
    /// # Errors
    /// [`SubmitError::Internal`] for a body that does not fit a record.
    pub fn sign(&self, body: &Body, signer: Signer) -> Result<Record, SubmitError> {
        Unsigned::new(
            self.chain.ledger().network(),
            now_ms() + VALID_MS,
            vec![signer],
            body,
        )
        .sign(&[&*self.key])
        .map_err(|e| SubmitError::Internal(e.to_string()))
    }

    /// Signs a record of this body, submits it, and waits until it is committed.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(
        &self,
        body: &Body,
        deadline: Duration,
    ) -> Result<(RecordId, RecordPlace), SubmitError> {
        let turn = self.turn.lock().await;
        for _ in 1..TRIES {
            let record = self.sign(body, self.next_signer())?;
            match self.chain.submit_and_wait(record.bytes(), deadline).await {
                // Another process used the key, or a record of before a restart was still on its way.
                Err(SubmitError::Refused(notice)) if notice.code.starts_with("nonce_") => {
                    tracing::debug!(reason = %notice, "signing anew with the next nonce");
                }
                other => return other,
            }
        }
        let record = self.sign(body, self.next_signer())?;
        let done = self.chain.submit_and_wait(record.bytes(), deadline).await;
        drop(turn);
        done
    }
}
