//! The issuer's keys: one permutation key for each key epoch, and for each batch five keys that are drawn apart, so that one
//! that leaks tells nothing of the others.

use std::fmt;

use rand_core::CryptoRngCore;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;

/// Most permutation keys that live at a time; a scanned code is tried against each.
pub const MAX_EPOCHS: usize = 4;

const VERSION: u8 = 1;
const ISSUER_KIND: u8 = b'I';
const BATCH_KIND: u8 = b'B';
const KEY: usize = 32;

/// The member ID of the issuer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IssuerId(pub [u8; 16]);

/// The number of a permutation key: 0 for an issuer's first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyEpoch(pub u32);

impl fmt::Display for KeyEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 32 bytes. Secret: no text form, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; KEY]);

impl SecretKey {
    /// A new one.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        let mut key = Self([0; KEY]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// Takes the bytes over; the caller wipes its own copy.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

/// What an issuer keeps over all its batches. Secret: no text form, wiped when dropped.
#[derive(Clone)]
pub struct IssuerKeys {
    issuer: IssuerId,
    /// By epoch, 1 to 4.
    epochs: Vec<(KeyEpoch, SecretKey)>,
    current: KeyEpoch,
}

impl IssuerKeys {
    /// The keys of a new issuer, with epoch 0.
    pub fn generate(issuer: IssuerId, rng: &mut impl CryptoRngCore) -> Self {
        Self {
            issuer,
            epochs: vec![(KeyEpoch(0), SecretKey::generate(rng))],
            current: KeyEpoch(0),
        }
    }

    /// The issuer.
    #[must_use]
    pub const fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// The epoch of new batches.
    #[must_use]
    pub const fn current(&self) -> KeyEpoch {
        self.current
    }

    /// The epochs that codes are tried against, in order.
    pub fn live(&self) -> impl Iterator<Item = KeyEpoch> {
        self.epochs.iter().map(|(epoch, _)| *epoch)
    }

    /// Draws the key of a new epoch, which new batches take.
    ///
    /// # Errors
    /// [`Error::TooManyEpochs`].
    pub fn begin_epoch(&mut self, rng: &mut impl CryptoRngCore) -> Result<KeyEpoch, Error> {
        if self.epochs.len() >= MAX_EPOCHS {
            return Err(Error::TooManyEpochs { max: MAX_EPOCHS });
        }
        let epoch = KeyEpoch(self.current.0.checked_add(1).ok_or(Error::Internal {
            what: "epochs are used up",
        })?);
        self.epochs.push((epoch, SecretKey::generate(rng)));
        self.current = epoch;
        Ok(epoch)
    }

    /// Forgets an epoch's key. Its codes are unknown from then on; the current epoch stays.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`] if it is not live or is the current one.
    pub fn retire_epoch(&mut self, epoch: KeyEpoch) -> Result<(), Error> {
        let before = self.epochs.len();
        self.epochs
            .retain(|(e, _)| *e != epoch || *e == self.current);
        if self.epochs.len() == before {
            return Err(Error::UnknownEpoch { epoch: epoch.0 });
        }
        Ok(())
    }

    /// The permutation key of an epoch.
    ///
    /// # Errors
    /// [`Error::UnknownEpoch`].
    pub fn permutation_key(&self, epoch: KeyEpoch) -> Result<&SecretKey, Error> {
        self.epochs
            .iter()
            .find_map(|(e, key)| (*e == epoch).then_some(key))
            .ok_or(Error::UnknownEpoch { epoch: epoch.0 })
    }

    /// Secret bytes for sealed storage: version, kind, issuer, number of epochs (u8), then number (u32) and key of each.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(19 + MAX_EPOCHS * (4 + KEY)));
        out.extend_from_slice(&[VERSION, ISSUER_KIND]);
        out.extend_from_slice(&self.issuer.0);
        out.push(u8::try_from(self.epochs.len()).unwrap_or_default());
        for (epoch, key) in &self.epochs {
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(&key.0);
        }
        out
    }

    /// Reads [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Bytes {
            what: "issuer keys",
            all: bytes,
            at: 0,
        };
        r.exactly(&[VERSION, ISSUER_KIND])?;
        let issuer = IssuerId(*r.array()?);
        let [n] = *r.array()?;
        let mut epochs: Vec<(KeyEpoch, SecretKey)> = Vec::with_capacity(MAX_EPOCHS);
        for _ in 0..n {
            let epoch = KeyEpoch(u32::from_be_bytes(*r.array()?));
            if epochs.len() == MAX_EPOCHS || epochs.last().is_some_and(|(last, _)| *last >= epoch) {
                return Err(r.malformed());
            }
            epochs.push((epoch, SecretKey(*r.array()?)));
        }
        r.end()?;
        let current = epochs.last().ok_or_else(|| r.malformed())?.0;
        Ok(Self {
            issuer,
            epochs,
            current,
        })
    }
}

/// The keys of one batch. Secret: no text form, wiped when dropped.
#[derive(Clone)]
pub struct BatchKeys {
    /// Makes tags.
    pub(crate) tag: SecretKey,
    /// Makes salts of leaves.
    pub(crate) salt: SecretKey,
    /// Makes claim codes and the salts of their commitments.
    pub(crate) claim: SecretKey,
    /// Makes nullifiers.
    pub(crate) null: SecretKey,
    /// Orders the leaves.
    pub(crate) order: SecretKey,
}

impl BatchKeys {
    /// New ones, each drawn apart.
    pub fn generate(rng: &mut impl CryptoRngCore) -> Self {
        Self {
            tag: SecretKey::generate(rng),
            salt: SecretKey::generate(rng),
            claim: SecretKey::generate(rng),
            null: SecretKey::generate(rng),
            order: SecretKey::generate(rng),
        }
    }

    /// Secret bytes for sealed storage: version, kind, then the keys for tags, salts, claims, nullifiers and order.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(2 + 5 * KEY));
        out.extend_from_slice(&[VERSION, BATCH_KIND]);
        for key in [&self.tag, &self.salt, &self.claim, &self.null, &self.order] {
            out.extend_from_slice(&key.0);
        }
        out
    }

    /// Reads [`Self::to_secret_bytes`].
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Bytes {
            what: "batch keys",
            all: bytes,
            at: 0,
        };
        r.exactly(&[VERSION, BATCH_KIND])?;
        let mut key = || r.array().map(|k| SecretKey(*k));
        let keys = Self {
            tag: key()?,
            salt: key()?,
            claim: key()?,
            null: key()?,
            order: key()?,
        };
        r.end()?;
        Ok(keys)
    }
}

/// Reads stored bytes; never beyond their end.
pub(crate) struct Bytes<'a> {
    pub(crate) what: &'static str,
    pub(crate) all: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) const fn malformed(&self) -> Error {
        Error::Malformed {
            what: self.what,
            offset: self.at,
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let found = self
            .all
            .get(self.at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(|| self.malformed())?;
        self.at += N;
        Ok(found)
    }

    pub(crate) fn exactly<const N: usize>(&mut self, expected: &[u8; N]) -> Result<(), Error> {
        if self
            .all
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(expected))
        {
            self.at += N;
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.at == self.all.len() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn bytes_round_trip_and_every_cut_is_refused() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut issuer = IssuerKeys::generate(IssuerId([5; 16]), &mut rng);
        issuer.begin_epoch(&mut rng).unwrap();
        let bytes = issuer.to_secret_bytes();
        let again = IssuerKeys::from_secret_bytes(&bytes).unwrap();
        assert_eq!(again.to_secret_bytes(), bytes);
        assert_eq!(again.current(), KeyEpoch(1));
        let batch = BatchKeys::generate(&mut rng);
        let batch_bytes = batch.to_secret_bytes();
        assert_eq!(
            BatchKeys::from_secret_bytes(&batch_bytes)
                .unwrap()
                .to_secret_bytes(),
            batch_bytes
        );
        for (bytes, other) in [(&bytes, &batch_bytes), (&batch_bytes, &bytes)] {
            let read = |b: &[u8]| {
                (
                    IssuerKeys::from_secret_bytes(b).is_ok(),
                    BatchKeys::from_secret_bytes(b).is_ok(),
                )
            };
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), (false, false));
            }
            assert_eq!(read(&[bytes.as_slice(), &[0]].concat()), (false, false));
            assert_ne!(read(bytes), read(other));
        }
    }

    #[test]
    fn keys_of_a_batch_all_differ() {
        let keys = BatchKeys::generate(&mut ChaCha20Rng::seed_from_u64(2));
        let mut all: Vec<_> = [&keys.tag, &keys.salt, &keys.claim, &keys.null, &keys.order]
            .map(|k| *k.bytes())
            .to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn four_epochs_live() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut keys = IssuerKeys::generate(IssuerId([5; 16]), &mut rng);
        for e in 1..4 {
            assert_eq!(keys.begin_epoch(&mut rng), Ok(KeyEpoch(e)));
        }
        assert_eq!(
            keys.begin_epoch(&mut rng),
            Err(Error::TooManyEpochs { max: 4 })
        );
        assert_eq!(
            keys.retire_epoch(KeyEpoch(3)),
            Err(Error::UnknownEpoch { epoch: 3 }),
            "the current one stays"
        );
        assert_eq!(keys.retire_epoch(KeyEpoch(1)), Ok(()));
        assert!(keys.permutation_key(KeyEpoch(1)).is_err());
        assert_eq!(keys.begin_epoch(&mut rng), Ok(KeyEpoch(4)));
        assert_eq!(keys.live().collect::<Vec<_>>(), [0, 2, 3, 4].map(KeyEpoch));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: bool) {
            if bytes.len() > 1 {
                bytes[0] = 1;
                bytes[1] = if kind { b'I' } else { b'B' };
            }
            if let Ok(keys) = IssuerKeys::from_secret_bytes(&bytes) {
                prop_assert_eq!(keys.to_secret_bytes().to_vec(), bytes.clone());
            }
            if let Ok(keys) = BatchKeys::from_secret_bytes(&bytes) {
                prop_assert_eq!(keys.to_secret_bytes().to_vec(), bytes.clone());
            }
        }
    }
}
