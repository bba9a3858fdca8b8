//! Exponential ElGamal over ristretto255, several quantities under shared randomness: (r G, r X_1 + v_1 G, r X_2 + v_2 G, ...).
//! The key's owner encrypts: r X + v G is then (r x + v) G, so every point is one product with the base point's table.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use rand_core::RngCore;
use rayon::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::group::decode;
use crate::seeds::SeedRng;
use crate::sorter::Row;

/// A ciphertext: 1 point, and one for each quantity.
pub(crate) type Ciphertext = Vec<RistrettoPoint>;

/// Secret keys, one for each quantity; fresh in every session, never zero, wiped when dropped.
pub(crate) struct SecretKeys(Vec<Zeroizing<Scalar>>);

/// A uniform scalar; zero with odds of 2^-252.
fn scalar(rng: &mut SeedRng) -> Scalar {
    let mut wide = Zeroizing::new([0; 64]);
    rng.fill_bytes(wide.as_mut());
    Scalar::from_bytes_mod_order_wide(&wide)
}

impl SecretKeys {
    pub(crate) fn draw(quantities: usize, rng: &mut SeedRng) -> Result<Self, Error> {
        let keys: Vec<_> = (0..quantities)
            .map(|_| Zeroizing::new(scalar(rng)))
            .collect();
        if keys.iter().any(|k| **k == Scalar::ZERO) {
            return Err(Error::Internal { what: "zero key" });
        }
        Ok(Self(keys))
    }

    /// The public keys' encodings.
    pub(crate) fn public(&self) -> Vec<Row> {
        self.0
            .iter()
            .map(|k| RistrettoPoint::mul_base(k).compress().to_bytes())
            .collect()
    }

    /// Encodings of encryptions of `rows`, each with a value for every key. Constant time in values, keys and randomness.
    pub(crate) fn encrypt(&self, rows: &[&[u64]], rng: &mut SeedRng) -> Result<Vec<Row>, Error> {
        // Drawn in their order, so that a run can be derived again.
        let mut randomness: Vec<Scalar> = rows.iter().map(|_| scalar(rng)).collect();
        let batches: Result<Vec<Vec<Row>>, Error> = rows
            .par_chunks(64)
            .zip(randomness.par_chunks(64))
            .map(|(rows, randomness)| {
                // Halves, since encoding a batch doubles.
                let mut halves = Vec::with_capacity(rows.len() * (self.0.len() + 1));
                for (values, r) in rows.iter().zip(randomness) {
                    if values.len() != self.0.len() {
                        return Err(Error::Internal {
                            what: "values of a row",
                        });
                    }
                    halves.push(RistrettoPoint::mul_base(&r.div_by_2()));
                    for (key, value) in self.0.iter().zip(*values) {
                        let exponent =
                            Zeroizing::new((r * **key + Scalar::from(*value)).div_by_2());
                        halves.push(RistrettoPoint::mul_base(&exponent));
                    }
                }
                Ok(RistrettoPoint::double_and_compress_batch(&halves)
                    .into_iter()
                    .map(|c| c.to_bytes())
                    .collect())
            })
            .collect();
        randomness.zeroize();
        Ok(batches?.concat())
    }

    /// Half of (value G) for each quantity of a ciphertext: what [`super::discrete_log`] takes.
    pub(crate) fn decrypt_halves(
        &self,
        c: &[RistrettoPoint],
    ) -> Result<Vec<RistrettoPoint>, Error> {
        let Some((shared, masked)) = c.split_first() else {
            return Err(Error::Internal {
                what: "an empty ciphertext",
            });
        };
        let half = Scalar::ONE.div_by_2();
        Ok(self
            .0
            .iter()
            .zip(masked)
            .map(|(key, m)| half * (m - **key * shared))
            .collect())
    }
}

/// The value side's public keys.
pub(crate) struct PublicKeys(Vec<RistrettoPoint>);

impl PublicKeys {
    /// Keys from the peer.
    ///
    /// # Errors
    /// [`Error::Point`] for the identity and what is no canonical encoding, [`Error::Count`] unless there is one a quantity.
    pub(crate) fn decode(rows: &[Row], quantities: usize) -> Result<Self, Error> {
        if rows.len() != quantities {
            return Err(Error::Count {
                what: "public keys",
                expected: quantities as u64,
                found: rows.len() as u64,
            });
        }
        let keys: Result<Vec<_>, Error> = rows
            .iter()
            .zip(0..)
            .map(|(row, index)| decode(row, index))
            .collect();
        keys.map(Self)
    }

    /// A fresh encryption of one value for each quantity.
    pub(crate) fn encrypt(&self, values: &[u64], rng: &mut SeedRng) -> Ciphertext {
        let r = Zeroizing::new(scalar(rng));
        let mut out = vec![RistrettoPoint::mul_base(&r)];
        for (key, value) in self.0.iter().zip(values) {
            out.push(*r * key + RistrettoPoint::mul_base(&Scalar::from(*value)));
        }
        out
    }
}

/// An encryption of zero without randomness: where sums begin.
pub(crate) fn nothing(quantities: usize) -> Ciphertext {
    vec![RistrettoPoint::identity(); quantities + 1]
}

pub(crate) fn add(sum: &mut [RistrettoPoint], c: &[RistrettoPoint]) {
    for (s, c) in sum.iter_mut().zip(c) {
        *s += c;
    }
}

/// Adds `weight` times a ciphertext. Constant time.
pub(crate) fn add_weighted(sum: &mut [RistrettoPoint], c: &[RistrettoPoint], weight: u32) {
    let weight = Scalar::from(weight);
    for (s, c) in sum.iter_mut().zip(c) {
        *s += weight * c;
    }
}

/// Points from the peer, each of a canonical encoding and none the identity; `first` is the stream index of the first.
pub(crate) fn decode_all(rows: &[Row], first: u64) -> Result<Vec<RistrettoPoint>, Error> {
    let batches: Result<Vec<Vec<_>>, Error> = rows
        .par_chunks(128)
        .enumerate()
        .map(|(batch, rows)| {
            rows.iter()
                .zip(first + 128 * batch as u64..)
                .map(|(row, index)| decode(row, index))
                .collect()
        })
        .collect();
    Ok(batches?.concat())
}

#[cfg(test)]
mod tests {
    use super::super::discrete_log::solve;
    use super::*;

    #[test]
    fn what_is_encrypted_added_and_weighted_is_decrypted() {
        let mut rng = SeedRng::new(&[1; 32]);
        let keys = SecretKeys::draw(2, &mut rng).unwrap();
        let public = PublicKeys::decode(&keys.public(), 2).unwrap();
        let rows: Vec<Vec<u64>> = (0..150).map(|i| vec![i * 1000, 1]).collect();
        let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
        let encoded = keys.encrypt(&rows, &mut rng).unwrap();
        assert_eq!(encoded.len(), 3 * 150);
        let points = decode_all(&encoded, 0).unwrap();
        let mut sum = nothing(2);
        for c in points.chunks(3) {
            add(&mut sum, c);
        }
        let mut total = public.encrypt(&[5, 7], &mut rng);
        add_weighted(&mut total, &sum, 420);
        let halves = keys.decrypt_halves(&total).unwrap();
        // 1000 * (0 + ... + 149) is 11,175,000.
        assert_eq!(
            solve(&halves, &[1 << 33, 1 << 20]).unwrap(),
            [Some(420 * 11_175_000 + 5), Some(420 * 150 + 7)]
        );
    }

    #[test]
    fn the_same_value_twice_shows_nothing_in_common() {
        let mut rng = SeedRng::new(&[2; 32]);
        let keys = SecretKeys::draw(1, &mut rng).unwrap();
        let rows = keys.encrypt(&[&[9], &[9]], &mut rng).unwrap();
        assert_ne!(rows[0], rows[2]);
        assert_ne!(rows[1], rows[3]);
        assert!(keys.encrypt(&[&[9, 9]], &mut rng).is_err());
    }

    #[test]
    fn bad_keys_and_points_are_refused() {
        let keys = SecretKeys::draw(1, &mut SeedRng::new(&[3; 32])).unwrap();
        let good = keys.public();
        assert!(PublicKeys::decode(&good, 2).is_err());
        for bad in [[0; 32], [0xff; 32]] {
            assert!(matches!(
                PublicKeys::decode(&[bad], 1),
                Err(Error::Point { index: 0, .. })
            ));
            assert!(matches!(
                decode_all(&[good[0], bad], 10),
                Err(Error::Point { index: 11, .. })
            ));
        }
    }
}
