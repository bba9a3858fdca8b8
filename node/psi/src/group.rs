//! Blinding on all cores: points times the session's key, encoded in batches, and the tags that are compared.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Error;
use crate::expand::HashToGroup;
use crate::simd::{Digits, Eights, digits, wipe};
use crate::sorter::Row;

/// Points that share one inversion; large enough to hide it, small enough to stay in the cache.
const BATCH: usize = 128;

/// The session key of one side, halved: encoding in batches doubles the points, so k/2 gives multiples by k. Fresh per session,
/// never zero, wiped when dropped.
pub(crate) struct Key {
    half: Zeroizing<Scalar>,
    /// The same, as the vector instructions take it.
    digits: Zeroizing<Digits>,
    eights: Option<Eights>,
}

impl Key {
    /// The key of 64 uniform bytes; `None` for the one in 2^252 that give zero.
    pub(crate) fn from_uniform(bytes: &[u8; 64]) -> Option<Self> {
        Self::from_scalar(&Scalar::from_bytes_mod_order_wide(bytes))
    }

    fn from_scalar(k: &Scalar) -> Option<Self> {
        (*k != Scalar::ZERO).then(|| {
            let half = Zeroizing::new(k.div_by_2());
            Self {
                digits: Zeroizing::new(digits(half.as_bytes())),
                half,
                eights: Eights::detect(),
            }
        })
    }

    /// The same key, multiplied by curve25519-dalek, whatever the processor can.
    #[cfg(test)]
    pub(crate) fn without_eights(self) -> Self {
        Self {
            eights: None,
            ..self
        }
    }

    /// Encodings of the points of `count` messages, in their order, each times the key. Constant time in key and messages.
    pub(crate) fn blind<M>(
        &self,
        hash: &HashToGroup,
        count: usize,
        message: M,
    ) -> Result<Vec<Row>, Error>
    where
        M: Fn(usize) -> Result<Input, Error> + Sync,
    {
        let batches: Result<Vec<Vec<Row>>, Error> = starts(count)
            .into_par_iter()
            .map(|(from, to)| {
                let mut uniform = (from..to)
                    .map(|i| Ok(message(i)?.expand(hash)))
                    .collect::<Result<Vec<_>, Error>>()?;
                let rows = match self.eights {
                    Some(eights) => eights.blind(&uniform, &self.digits),
                    None => self.encode(uniform.iter().map(RistrettoPoint::from_uniform_bytes)),
                };
                // An item's hash tells whoever guesses the item that it is right.
                wipe(uniform.as_flattened_mut());
                Ok(rows)
            })
            .collect();
        Ok(batches?.concat())
    }

    /// The peer's points times the key, in their order; `first` is the stream index of the first, for error messages.
    ///
    /// # Errors
    /// [`Error::Point`] for the identity and for anything but a canonical encoding (RFC 9496 4.3.1).
    pub(crate) fn raise(&self, points: &[Row], first: u64) -> Result<Vec<Row>, Error> {
        let batches: Result<Vec<Vec<Row>>, Error> = starts(points.len())
            .into_par_iter()
            .map(|(from, to)| {
                let rows = points.get(from..to).unwrap_or_default();
                let first = first + from as u64;
                if let Some(eights) = self.eights {
                    return eights.raise(rows, &self.digits).map_err(|place| {
                        let identity = rows.get(place) == Some(&[0; 32]);
                        refused(first + place as u64, identity)
                    });
                }
                let points = rows
                    .iter()
                    .zip(first..)
                    .map(|(row, index)| decode(row, index))
                    .collect::<Result<Vec<_>, Error>>()?;
                Ok(self.encode(points.into_iter()))
            })
            .collect();
        Ok(batches?.concat())
    }

    fn encode(&self, points: impl Iterator<Item = RistrettoPoint>) -> Vec<Row> {
        let halves: Vec<RistrettoPoint> = points.map(|p| *Zeroizing::new(p) * *self.half).collect();
        RistrettoPoint::double_and_compress_batch(&halves)
            .into_iter()
            .map(|c| c.to_bytes())
            .collect()
    }
}

/// What [`Key::blind`] hashes: owned, since dummies and fillers are made on the spot.
pub(crate) struct Input {
    pub(crate) head: [u8; 3],
    pub(crate) rest: Zeroizing<Vec<u8>>,
    /// How many bytes of `head` count.
    pub(crate) head_len: usize,
}

impl Input {
    fn expand(&self, hash: &HashToGroup) -> [u8; 64] {
        hash.expand64(&[
            self.head.get(..self.head_len).unwrap_or_default(),
            &self.rest,
        ])
    }
}

fn starts(count: usize) -> Vec<(usize, usize)> {
    (0..count)
        .step_by(BATCH)
        .map(|from| (from, count.min(from + BATCH)))
        .collect()
}

pub(crate) fn decode(row: &Row, index: u64) -> Result<RistrettoPoint, Error> {
    if *row == [0; 32] {
        return Err(refused(index, true));
    }
    CompressedRistretto(*row)
        .decompress()
        .ok_or(refused(index, false))
}

const fn refused(index: u64, identity: bool) -> Error {
    Error::Point {
        index,
        problem: if identity {
            "the identity"
        } else {
            "not a canonical encoding"
        },
    }
}

/// Bytes of a tag for padded counts: 40 + ceil(log2(product)) bits, rounded up; a false match has odds of 2^-40 in all.
pub(crate) fn tag_bytes(initiator_count: u64, responder_count: u64) -> usize {
    let product = u128::from(initiator_count.max(1)) * u128::from(responder_count.max(1));
    let log2_up = 128 - (product - 1).leading_zeros();
    ((40 + log2_up).div_ceil(8) as usize).min(MAX_TAG_BYTES)
}

/// No tag is longer.
pub(crate) const MAX_TAG_BYTES: usize = 16;

/// The tags of doubly blinded encodings: the first `len` bytes of SHA-256(context || encoding), zeros behind.
pub(crate) fn tags(context_digest: &[u8; 32], encodings: &[Row], len: usize) -> Vec<Row> {
    encodings
        .par_iter()
        .with_min_len(BATCH)
        .map(|e| {
            let mut tag: Row = Sha256::new()
                .chain_update(context_digest)
                .chain_update(e)
                .finalize()
                .into();
            if let Some(tail) = tag.get_mut(len..) {
                tail.fill(0);
            }
            tag
        })
        .collect()
}

/// Which arithmetic multiplies blinded points on this machine: `avx512ifma x8` for eight at a time (no matter how this was built), else that
/// of curve25519-dalek, one at a time: `avx512ifma` where the build asked for it (see `.cargo/config.toml`), `avx2` or `serial`. The
/// ElGamal slots of `join_sum` and the base transfers always take the latter.
#[must_use]
#[allow(unexpected_cfgs)]
pub fn backend() -> &'static str {
    if Eights::detect().is_some() {
        return "avx512ifma x8";
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[cfg(any(
            curve25519_dalek_backend = "avx512",
            all(
                target_feature = "avx512ifma",
                target_feature = "avx512vl",
                not(any(
                    curve25519_dalek_backend = "simd",
                    curve25519_dalek_backend = "serial",
                    curve25519_dalek_backend = "fiat"
                ))
            )
        ))]
        if std::arch::is_x86_feature_detected!("avx512ifma")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            return "avx512ifma";
        }
        #[cfg(not(any(curve25519_dalek_backend = "serial", curve25519_dalek_backend = "fiat")))]
        if std::arch::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "serial"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex32(s: &str) -> Row {
        hex::decode(s).unwrap().try_into().unwrap()
    }

    /// Keys for a scalar: with the instructions of this processor, and without.
    fn keys(k: &Scalar) -> [Key; 2] {
        let key = || Key::from_scalar(k).unwrap();
        [key(), key().without_eights()]
    }

    fn scalar(s: &str) -> Scalar {
        Scalar::from_canonical_bytes(hex32(s)).unwrap()
    }

    /// RFC 9497 A.1.1, vectors 1 and 2: hash to the group, blinding and evaluation of OPRF(ristretto255, SHA-512).
    #[test]
    fn rfc9497_a1_1() {
        let hash = HashToGroup::new(b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512").unwrap();
        let blind = scalar("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706");
        let server = scalar("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e");
        let vectors: [(&[u8], &str, &str); 2] = [
            (
                &[0],
                "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
                "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
            ),
            (
                &[0x5a; 17],
                "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
                "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
            ),
        ];
        for (blind, server) in keys(&blind).iter().zip(&keys(&server)) {
            for (input, blinded, evaluated) in vectors {
                let got = blind
                    .blind(&hash, 1, |_| {
                        Ok(Input {
                            head: [0; 3],
                            head_len: 0,
                            rest: Zeroizing::new(input.to_vec()),
                        })
                    })
                    .unwrap();
                assert_eq!(got, [hex32(blinded)]);
                assert_eq!(server.raise(&got, 0).unwrap(), [hex32(evaluated)]);
            }
        }
    }

    #[test]
    fn halved_keys_and_batches_equal_plain_multiplication() {
        let hash = HashToGroup::new(b"test").unwrap();
        let k = Scalar::from_bytes_mod_order_wide(&[7; 64]);
        let input = |i: usize| {
            Ok(Input {
                head: [1, 0, 0],
                head_len: 1,
                rest: Zeroizing::new(i.to_be_bytes().to_vec()),
            })
        };
        for key in keys(&k) {
            let n = 2 * BATCH + 3;
            let got = key.blind(&hash, n, input).unwrap();
            assert_eq!(got.len(), n);
            for (i, row) in got.iter().enumerate() {
                let point = hash.point(&[&[1], &i.to_be_bytes()]);
                assert_eq!(*row, (k * point).compress().to_bytes());
            }
            let twice = key.raise(&got, 0).unwrap();
            assert_eq!(
                twice[n - 1],
                (k * k * hash.point(&[&[1], &(n - 1).to_be_bytes()]))
                    .compress()
                    .to_bytes()
            );
        }
        assert!(Key::from_scalar(&Scalar::ZERO).is_none());
    }

    /// RFC 9496 4.3.1: what a decoder has to refuse.
    #[test]
    fn malformed_points_are_refused_each() {
        let keys = keys(&Scalar::from_bytes_mod_order_wide(&[9; 64]));
        let mut p_plus_1 = [0xff; 32];
        (p_plus_1[0], p_plus_1[31]) = (0xee, 0x7f);
        let mut p = p_plus_1;
        p[0] = 0xed;
        // s = 1 is odd, and so negative (RFC 9496 4.1); so is p minus a good s.
        let mut one = [0; 32];
        one[0] = 1;
        let good = RistrettoPoint::from_uniform_bytes(&[3; 64])
            .compress()
            .to_bytes();
        let mut negative = [0_u8; 32];
        let mut borrow = 0_i32;
        for (i, n) in negative.iter_mut().enumerate() {
            let d = i32::from(p[i]) - i32::from(good[i]) - borrow;
            borrow = i32::from(d < 0);
            *n = u8::try_from(d.rem_euclid(256)).unwrap();
        }
        let mut high_bit = good;
        high_bit[31] |= 0x80;
        for (name, bad) in [
            ("ff", [0xff; 32]),
            ("p", p),
            ("p + 1", p_plus_1),
            ("1", one),
            ("negative s", negative),
            ("high bit", high_bit),
        ] {
            for key in &keys {
                assert_eq!(
                    key.raise(&[good, bad], 40).unwrap_err(),
                    Error::Point {
                        index: 41,
                        problem: "not a canonical encoding"
                    },
                    "{name}"
                );
            }
        }
        for key in &keys {
            assert_eq!(
                key.raise(&[[0; 32]], 0).unwrap_err(),
                Error::Point {
                    index: 0,
                    problem: "the identity"
                }
            );
            // The first that is wrong is named, also behind a vector of good ones.
            let mut rows = vec![good; 20];
            (rows[13], rows[17]) = ([0; 32], [0xff; 32]);
            assert!(matches!(
                key.raise(&rows, 100).unwrap_err(),
                Error::Point {
                    index: 113,
                    problem: "the identity"
                }
            ));
            assert!(key.raise(&[good], 0).is_ok());
        }
    }

    #[test]
    fn tag_lengths() {
        assert_eq!(tag_bytes(1 << 20, 1 << 20), 10);
        assert_eq!(tag_bytes(1 << 24, 1 << 24), 11);
        assert_eq!(tag_bytes((1 << 20) + 1, 1 << 20), 11);
        assert_eq!(tag_bytes(0, 0), 5);
        assert_eq!(tag_bytes(1, 2), 6);
        assert_eq!(tag_bytes(u64::MAX, u64::MAX), 16);
    }

    #[test]
    fn backend_is_named() {
        assert!(["avx512ifma x8", "avx512ifma", "avx2", "serial"].contains(&backend()));
    }
}
