//! Signed messages over a stream, with deadlines and bounds.

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use tally_contracts::codec::Canonical;
use tally_contracts::ids::{KeyId, MemberId, PublicKey, Signature};
use tally_contracts::signature::verify;
use tally_contracts::state::{self, KeyUse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::{MatchError, Side};
use super::messages::{MAX_MESSAGE_BYTES, Message, message_sign_bytes, seal_bytes, split_frame};
use super::ports::{LedgerPort, MatchIo, PeerIdentity};

/// One stream of one match.
pub(super) struct Wire<'a> {
    pub(super) stream: Box<dyn MatchIo>,
    pub(super) ledger: &'a dyn LedgerPort,
    pub(super) own: MemberId,
    pub(super) peer: PeerIdentity,
    pub(super) key: &'a SigningKey,
    pub(super) step: Duration,
    /// Of the initiator; every signature is bound to it.
    pub(super) nonce: [u8; 32],
    /// Whether the peer's first message is still due, on the side that takes the stream.
    pub(super) opening: bool,
}

/// The public half of a member's record key, if it is one.
pub(super) fn record_key(
    ledger: &dyn LedgerPort,
    member: &MemberId,
    key: &KeyId,
    what: &'static str,
) -> Result<PublicKey, MatchError> {
    state::key_state(ledger, member, key)?
        .filter(|k| k.key_use == KeyUse::Records)
        .map(|k| k.key)
        .ok_or(MatchError::Signature { what })
}

impl Wire<'_> {
    pub(super) async fn send(&mut self, message: &Message) -> Result<(), MatchError> {
        let body = message.to_bytes();
        let sign_bytes = message_sign_bytes(
            &self.ledger.network(),
            &self.own,
            &self.peer.member,
            &self.nonce,
            &body,
        );
        let signature = Signature(self.key.sign(&sign_bytes).to_bytes());
        let seal = seal_bytes(&KeyId::of(&PublicKey::from(self.key)), &signature);
        let len = u32::try_from(body.len() + seal.len()).unwrap_or(u32::MAX);
        let frame = [&len.to_be_bytes()[..], &body, &seal].concat();
        let write = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        within(self.step, message.name(), write)
            .await?
            .map_err(|e| ended("sending a message", e))
    }

    /// The next message. A refusal is an error of its own.
    pub(super) async fn receive(&mut self, expected: &'static str) -> Result<Message, MatchError> {
        let frame = within(self.step, expected, read_frame(&mut self.stream)).await??;
        let (body, key, signature) = split_frame(&frame)?;
        let message = Message::from_bytes(body)?;
        // What opens a stream names the match that it is about.
        match &message {
            Message::Request(m) if self.opening => self.nonce = m.nonce,
            Message::Receipt(m) if self.opening => self.nonce = m.nonce,
            Message::Invite(m) if self.opening => self.nonce = m.nonce,
            Message::Resume { nonce } | Message::Bucket { nonce, .. } | Message::Link { nonce }
                if self.opening =>
            {
                self.nonce = *nonce;
            }
            _ => {}
        }
        self.opening = false;
        let sign_bytes = message_sign_bytes(
            &self.ledger.network(),
            &self.peer.member,
            &self.own,
            &self.nonce,
            body,
        );
        let what = message.name();
        let public = record_key(self.ledger, &self.peer.member, &key, what)?;
        verify(what, &public, &sign_bytes, &signature)
            .map_err(|_| MatchError::Signature { what })?;
        match message {
            Message::Refuse(notice) => Err(MatchError::Refused {
                by: Side::Peer,
                notice,
            }),
            other => Ok(other),
        }
    }

    /// Tells the peer why this side will not go on, if it still listens.
    pub(super) async fn refuse(&mut self, error: &MatchError) {
        if matches!(
            error,
            MatchError::Refused {
                by: Side::Peer | Side::Member(_),
                ..
            } | MatchError::Ended { .. }
        ) {
            return;
        }
        // The error that is being reported matters more than one of telling it.
        let _ = self.send(&Message::Refuse(error.notice())).await;
        let _ = within(self.step, "the end of the stream", self.stream.shutdown()).await;
    }
}

/// A message that is not the one that is due.
pub(super) fn unexpected<T>(expected: &'static str, found: &Message) -> Result<T, MatchError> {
    Err(MatchError::Unexpected {
        expected,
        found: found.name(),
    })
}

/// The error of a stream.
pub(super) fn ended(doing: &'static str, source: std::io::Error) -> MatchError {
    MatchError::Ended {
        doing,
        source: Some(source),
    }
}

/// `work`, or an error after the deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    waiting_for: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, MatchError> {
    tokio::time::timeout(deadline, work)
        .await
        .map_err(|_| MatchError::Timeout {
            waiting_for,
            after: deadline,
        })
}

async fn read_frame(stream: &mut Box<dyn MatchIo>) -> Result<Vec<u8>, MatchError> {
    let reading = |e| ended("waiting for a message", e);
    let mut len = [0; 4];
    stream.read_exact(&mut len).await.map_err(reading)?;
    let found = u32::from_be_bytes(len) as usize;
    if found > MAX_MESSAGE_BYTES {
        return Err(MatchError::TooLong {
            found,
            max: MAX_MESSAGE_BYTES,
        });
    }
    let mut frame = vec![0; found];
    stream.read_exact(&mut frame).await.map_err(reading)?;
    Ok(frame)
}
