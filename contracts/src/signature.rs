//! One signature rule for everything that members agree on: ZIP-215, by one crate, single and batch.
//!
//! ZIP-215 accepts a signature (R, s) under A when s is reduced and `8 s B = 8 R + 8 k A`; R and A may be any encodings that
//! decode, small orders included. A batch then accepts exactly what its items accept one by one, so that validators that
//! batch differently cannot disagree.

use std::convert::Infallible;

use ed25519_zebra::batch;
use rand_core_10::{TryCryptoRng, TryRng};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::domains;
use crate::error::Error;
use crate::ids::{PublicKey, Signature};

/// Signatures checked by one batch equation; more gain little and cost more when one is bad.
const BATCH: usize = 256;

/// A signature to be checked.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The key that it should verify under.
    pub key: PublicKey,
    /// The whole message, with its domain prefix.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

impl Signed {
    fn item(&self) -> batch::Item {
        batch::Item::from((
            ed25519_zebra::VerificationKeyBytes::from(self.key.0),
            ed25519_zebra::Signature::from(self.signature.0),
            self.message.as_slice(),
        ))
    }
}

/// Checks one signature by ZIP-215. `what` names what was signed in the error.
///
/// # Errors
/// [`Error::Signature`].
pub fn verify(
    what: &'static str,
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), Error> {
    ed25519_zebra::VerificationKey::try_from(key.0)
        .and_then(|k| k.verify(&ed25519_zebra::Signature::from(signature.0), message))
        .map_err(|_| Error::Signature { what, key: *key })
}

/// Checks many signatures; the answer at `i` is what [`verify`] says of item `i`. Uses every core.
#[must_use]
pub fn verify_batch(items: &[Signed]) -> Vec<bool> {
    items
        .par_chunks(BATCH)
        .flat_map_iter(verify_chunk)
        .collect()
}

fn verify_chunk(items: &[Signed]) -> Vec<bool> {
    let queued: Vec<_> = items.iter().map(Signed::item).collect();
    if queued.len() > 1 {
        let mut batch = batch::Verifier::new();
        for item in &queued {
            batch.queue(item.clone());
        }
        if batch.verify(Factors::of(items)).is_ok() {
            return vec![true; items.len()];
        }
    }
    queued
        .into_iter()
        .map(|item| item.verify_single().is_ok())
        .collect()
}

/// Refuses a key that is not the canonical encoding of a point of large order: ZIP-215 would let anyone sign under a key of
/// small order. For keys that enter the ledger; never part of signature verification.
///
/// # Errors
/// [`Error::PublicKey`].
pub fn check_public_key(key: &PublicKey) -> Result<(), Error> {
    let bad = || Error::PublicKey { found: *key };
    // y must be below 2^255 - 19; the top bit is the sign of x. (A sign on x = 0 is a small order, refused below.)
    let [low, middle @ .., top] = key.0;
    if top & 0x7f == 0x7f && middle.iter().all(|b| *b == 0xff) && low >= 0xed {
        return Err(bad());
    }
    let point = ed25519_dalek::VerifyingKey::from_bytes(&key.0).map_err(|_| bad())?;
    if point.is_weak() { Err(bad()) } else { Ok(()) }
}

/// The random factors of one batch, drawn from a hash of everything in it (Fiat and Shamir): no source of randomness is
/// needed, and whoever makes a signature cannot know its factor before the signature is fixed.
struct Factors {
    seed: [u8; 32],
    counter: u64,
}

impl Factors {
    fn of(items: &[Signed]) -> Self {
        let mut hash = Sha256::new().chain_update(domains::BATCH_VERIFY);
        for item in items {
            hash.update(item.key.0);
            hash.update(item.signature.0);
            hash.update((item.message.len() as u64).to_be_bytes());
            hash.update(&item.message);
        }
        Self {
            seed: hash.finalize().into(),
            counter: 0,
        }
    }

    fn block(&mut self) -> [u8; 32] {
        let out = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.counter.to_be_bytes())
            .finalize();
        self.counter = self.counter.wrapping_add(1);
        out.into()
    }
}

impl TryRng for Factors {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(32) {
            for (to, from) in chunk.iter_mut().zip(self.block()) {
                *to = from;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for Factors {}
