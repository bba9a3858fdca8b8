//! The connection between node and worker: messages over TCP, sealed under the worker key.
//!
//! Each end draws 32 bytes and sends them. The key of a direction is HMAC(worker key, both draws, direction); a message is a 32-bit length
//! and ChaCha20-Poly1305 of its bytes under a nonce that counts. So an end without the key can neither read nor write a message, and none
//! can be repeated, left out or moved to another connection. A key that leaks later opens what was recorded: frames that the peer saw
//! anyway, and matching rows.

use std::io;
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use rand_core::{OsRng, RngCore as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::WorkersError;
use crate::sealed::StorageKey;

/// Longest message: the rows of a full bucket.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Longest first message of a worker, before the node knows that it has the key.
pub(crate) const MAX_FIRST_BYTES: usize = 64;
/// How long opening a connection may take.
const OPENING: Duration = Duration::from_secs(5);
const TAG: usize = 16;
/// Bytes of frames in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Node,
    Worker,
}

struct Half {
    cipher: ChaCha20Poly1305,
    /// Messages so far.
    count: u64,
}

impl Half {
    fn nonce(&mut self) -> Result<Nonce, WorkersError> {
        let mut nonce = Nonce::default();
        for (to, from) in nonce.iter_mut().zip(self.count.to_be_bytes()) {
            *to = from;
        }
        // A nonce is never used twice.
        self.count = self.count.checked_add(1).ok_or(WorkersError::Malformed {
            what: "too many messages",
        })?;
        Ok(nonce)
    }
}

/// Sends messages.
pub(crate) struct Sender {
    write: OwnedWriteHalf,
    half: Half,
}

/// Receives messages.
pub(crate) struct Receiver {
    read: OwnedReadHalf,
    half: Half,
}

/// Opens a connection; what has the other key is found at the first message.
///
/// # Errors
/// [`WorkersError::Io`].
pub(crate) async fn open(
    mut stream: TcpStream,
    key: &StorageKey,
    end: End,
) -> Result<(Sender, Receiver), WorkersError> {
    stream.set_nodelay(true)?;
    let (mut own, mut theirs) = ([0; 32], [0; 32]);
    OsRng.fill_bytes(&mut own);
    let drawn = async {
        stream.write_all(&own).await?;
        stream.read_exact(&mut theirs).await
    };
    timeout(OPENING, drawn).await.map_err(late)??;
    let key = key.derive("tally/worker-channel/v1");
    let (node, worker) = match end {
        End::Node => (own, theirs),
        End::Worker => (theirs, own),
    };
    let half = |from: &[u8]| {
        let key = Zeroizing::new(key.mac(&[&node, &worker, from]));
        Half {
            cipher: ChaCha20Poly1305::new((&*key).into()),
            count: 0,
        }
    };
    let (from_node, from_worker) = (half(b"node"), half(b"worker"));
    let (read, write) = stream.into_split();
    let (sends, receives) = match end {
        End::Node => (from_node, from_worker),
        End::Worker => (from_worker, from_node),
    };
    Ok((
        Sender { write, half: sends },
        Receiver {
            read,
            half: receives,
        },
    ))
}

fn late(_: tokio::time::error::Elapsed) -> WorkersError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

impl Sender {
    /// Sends a message.
    ///
    /// # Errors
    /// [`WorkersError::Io`], [`WorkersError::Malformed`] for one over the limit.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), WorkersError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(WorkersError::Malformed {
                what: "a message over the limit",
            });
        }
        let mut frame = Zeroizing::new(Vec::with_capacity(4 + message.len() + TAG));
        let len = u32::try_from(message.len() + TAG).unwrap_or(u32::MAX);
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(message);
        let nonce = self.half.nonce()?;
        let sealed = frame.get_mut(4..).unwrap_or_default();
        let tag = self
            .half
            .cipher
            .encrypt_in_place_detached(&nonce, b"", sealed)
            .map_err(|_| WorkersError::Malformed {
                what: "a message that cannot be sealed",
            })?;
        frame.extend_from_slice(&tag);
        self.write.write_all(&frame).await?;
        Ok(())
    }
}

impl Receiver {
    /// The next message, at most `max` bytes; `None` where the other end has closed.
    ///
    /// # Errors
    /// [`WorkersError::Key`] for one that does not open, [`WorkersError::Io`], [`WorkersError::Malformed`] for one over the limit.
    pub(crate) async fn receive(
        &mut self,
        max: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, WorkersError> {
        let mut len = [0; 4];
        if self.read.read(len.get_mut(..1).unwrap_or_default()).await? == 0 {
            return Ok(None);
        }
        self.read
            .read_exact(len.get_mut(1..).unwrap_or_default())
            .await?;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if !(TAG..=max + TAG).contains(&len) {
            return Err(WorkersError::Malformed {
                what: "a message over the limit",
            });
        }
        let mut sealed = Zeroizing::new(vec![0; len]);
        self.read.read_exact(&mut sealed).await?;
        let nonce = self.half.nonce()?;
        let tag = sealed.split_off(len - TAG);
        self.half
            .cipher
            .decrypt_in_place_detached(&nonce, b"", &mut sealed, tag.as_slice().into())
            .map_err(|_| WorkersError::Key {
                what: "the other end of a connection",
            })?;
        Ok(Some(sealed))
    }

    /// The worker's first message, bounded in time and length.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) async fn first(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, WorkersError> {
        let first = self.receive(MAX_FIRST_BYTES);
        timeout(OPENING, first).await.map_err(late)?
    }
}

/// Carries bytes between a stream and a connection, in both directions, until both have ended or one breaks; an empty message is the
/// end of a direction.
pub(crate) async fn carry<S: AsyncRead + AsyncWrite>(
    stream: S,
    mut sender: Sender,
    mut receiver: Receiver,
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let out = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = read.read(&mut chunk).await?;
            sender.send(chunk.get(..n).unwrap_or_default()).await?;
            if n == 0 {
                return Ok::<_, WorkersError>(());
            }
        }
    };
    let back = async {
        loop {
            match receiver.receive(CHUNK_BYTES).await? {
                Some(chunk) if !chunk.is_empty() => {
                    write.write_all(&chunk).await?;
                    write.flush().await?;
                }
                Some(_) => {
                    write.shutdown().await?;
                    return Ok::<_, WorkersError>(());
                }
                // It died: what it would have said is not at its end.
                None => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    };
    if let Err(error) = tokio::try_join!(out, back) {
        tracing::debug!(%error, "a worker's stream broke");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = TcpStream::connect(listener.local_addr().unwrap());
        let (there, here) = tokio::join!(to, listener.accept());
        (there.unwrap(), here.unwrap().0)
    }

    #[tokio::test]
    async fn messages_come_as_sent_and_another_key_opens_none() {
        let (a, b) = pair().await;
        let key = StorageKey::from_bytes([1; 32]);
        let ends = tokio::join!(open(a, &key, End::Worker), open(b, &key, End::Node));
        let ((mut send, _a), (_b, mut receive)) = (ends.0.unwrap(), ends.1.unwrap());
        let long = vec![7; 1 << 20];
        for message in [&b"one"[..], b"", &long] {
            let (sent, got) = tokio::join!(send.send(message), receive.receive(1 << 20));
            sent.unwrap();
            assert_eq!(got.unwrap().unwrap().as_slice(), message);
        }
        assert!(send.send(&vec![0; MAX_MESSAGE_BYTES + 1]).await.is_err());
        drop((send, _a));
        assert!(receive.receive(10).await.unwrap().is_none());

        let (a, b) = pair().await;
        let other = StorageKey::from_bytes([2; 32]);
        let ends = tokio::join!(open(a, &other, End::Worker), open(b, &key, End::Node));
        let ((mut send, _a), (_b, mut receive)) = (ends.0.unwrap(), ends.1.unwrap());
        send.send(b"let me in").await.unwrap();
        let refused = receive.first().await;
        assert!(matches!(refused, Err(WorkersError::Key { .. })));
    }

    #[tokio::test]
    async fn a_message_that_was_bent_repeated_or_is_too_long_is_refused() {
        let key = StorageKey::from_bytes([1; 32]);
        for case in 0..3 {
            let (a, b) = pair().await;
            let (c, d) = pair().await;
            // A relay that bends or repeats the first message.
            tokio::spawn(async move {
                let ((mut ar, mut aw), (mut dr, mut dw)) = (b.into_split(), c.into_split());
                let back = tokio::spawn(async move { tokio::io::copy(&mut dr, &mut aw).await });
                let mut draw = [0; 32];
                ar.read_exact(&mut draw).await.unwrap();
                dw.write_all(&draw).await.unwrap();
                let mut frame = [0; 4 + 5 + TAG];
                ar.read_exact(&mut frame).await.unwrap();
                match case {
                    0 => frame[6] ^= 1,
                    1 => frame[0] = 1,
                    _ => dw.write_all(&frame).await.unwrap(),
                }
                dw.write_all(&frame).await.unwrap();
                let _ = back.await;
            });
            let ends = tokio::join!(open(a, &key, End::Worker), open(d, &key, End::Node));
            let ((mut send, _a), (_b, mut receive)) = (ends.0.unwrap(), ends.1.unwrap());
            send.send(b"hello").await.unwrap();
            if case == 2 {
                assert_eq!(receive.first().await.unwrap().unwrap().as_slice(), b"hello");
            }
            let refused = receive.first().await;
            match case {
                1 => assert!(matches!(refused, Err(WorkersError::Malformed { .. }))),
                _ => assert!(matches!(refused, Err(WorkersError::Key { .. }))),
            }
        }
    }
}
