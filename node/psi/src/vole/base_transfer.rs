//! 256 oblivious transfers over ristretto255 (RFC 9496), from which all others grow: the two-message protocol of Masny and
//! Rindal, "Endemic oblivious transfer" (CCS 2019), with one message of the sender for all transfers, as McQuoid, Rosulek and Roy
//! treat it in "Batching base oblivious transfers" (ASIACRYPT 2021): there the pair (r0, r1) is a programmable-once public
//! function, and keys that hash the transfer's number and both sides' messages are secure against malicious parties in the random
//! oracle model, under the (strong) computational Diffie-Hellman assumption.
//!
//! The receiver with choice c sends r0, r1 such that it knows the logarithm of r_c + H(c, r_(1-c)), and of no more than one of
//! the two; the sender's key for side c is its scalar times that sum. Points are decoded canonically; the identity is refused for
//! each point that arrives and for each sum. Scalars are fresh, never zero, and wiped; what the receiver does is constant time in
//! its choices.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand_core::RngCore;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

use super::hashes::base_key;
use crate::Error;
use crate::expand::HashToGroup;
use crate::group::decode;
use crate::sorter::Row;

/// Transfers of a session: 128 for the extension, 128 for the noise of the correlation.
pub(crate) const BASE_TRANSFERS: usize = 256;

/// What both sides hash into a transfer.
pub(crate) struct BaseTransfer<'a> {
    pub(crate) context: &'a [u8; 32],
    pub(crate) hash: &'a HashToGroup,
}

/// Digest of both sides' messages: what is proved later of the keys names it.
pub(crate) fn transcript(point: &Row, choices: &[Row]) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(point);
    choices.iter().for_each(|row| h.update(row));
    h.finalize().into()
}

/// The sender's scalar and its point, which goes to the receiver.
pub(crate) struct BaseSender {
    scalar: Zeroizing<Scalar>,
    pub(crate) point: Row,
}

impl BaseSender {
    pub(crate) fn new(rng: &mut impl RngCore) -> Result<Self, Error> {
        let scalar = fresh_scalar(rng)?;
        Ok(Self {
            point: (&*scalar * RISTRETTO_BASEPOINT_TABLE).compress().to_bytes(),
            scalar,
        })
    }

    /// Both keys of each transfer, from the receiver's points: r0 and r1 of the first, of the second, ...
    ///
    /// # Errors
    /// [`Error::Count`] for another number of points, [`Error::Point`] for one that is not canonical or gives the identity.
    pub(crate) fn keys(
        self,
        with: &BaseTransfer<'_>,
        points: &[Row],
    ) -> Result<Zeroizing<Vec<[u128; 2]>>, Error> {
        let (pairs, rest) = points.as_chunks::<2>();
        if pairs.len() != BASE_TRANSFERS || !rest.is_empty() {
            return Err(Error::Count {
                what: "choice points",
                expected: 2 * BASE_TRANSFERS as u64,
                found: points.len() as u64,
            });
        }
        let keys = pairs
            .par_iter()
            .enumerate()
            .map(|(i, pair)| {
                let index = number(i)?;
                let first = 2 * i as u64;
                let [r0, r1] = [decode(&pair[0], first)?, decode(&pair[1], first + 1)?];
                let mut keys = [0; 2];
                for (side, own, other) in [(0_u8, r0, &pair[1]), (1, r1, &pair[0])] {
                    let sum = own + with.mask(index, side, other);
                    if sum.is_identity() {
                        return Err(Error::Point {
                            index: first + u64::from(side),
                            problem: "the identity once unmasked",
                        });
                    }
                    let shared = Zeroizing::new(sum * *self.scalar);
                    let shared = Zeroizing::new(shared.compress().to_bytes());
                    keys[usize::from(side)] = base_key(
                        with.context,
                        index,
                        side,
                        [&self.point, &pair[0], &pair[1], &shared],
                    );
                }
                Ok(keys)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Zeroizing::new(keys))
    }
}

/// The receiver's points and the keys of its choices, bit i of `choices` for transfer i (the second number from 128 on).
///
/// # Errors
/// [`Error::Point`] for a sender's point that is not canonical, or the identity.
pub(crate) fn choose(
    with: &BaseTransfer<'_>,
    rng: &mut impl RngCore,
    sender: &Row,
    choices: [u128; 2],
) -> Result<(Vec<Row>, Zeroizing<Vec<u128>>), Error> {
    let theirs = decode(sender, 0)?;
    // Drawn in order, so that a seed gives one transcript whatever the number of cores.
    let mut drawn = Vec::with_capacity(BASE_TRANSFERS);
    for _ in 0..BASE_TRANSFERS {
        // Who knows where a point comes from knows that it is not the chosen side's.
        let mut wide = Zeroizing::new([0; 64]);
        rng.fill_bytes(wide.as_mut());
        drawn.push((
            fresh_scalar(rng)?,
            RistrettoPoint::from_uniform_bytes(&wide),
        ));
    }
    let done = drawn
        .par_iter()
        .enumerate()
        .map(|(i, (scalar, other))| {
            let index = number(i)?;
            let bit = (choices[i / 128] >> (i % 128) & 1) as u8;
            let other_bytes = other.compress().to_bytes();
            let own = &**scalar * RISTRETTO_BASEPOINT_TABLE - with.mask(index, bit, &other_bytes);
            let own_bytes = own.compress().to_bytes();
            let mut pair = [own_bytes, other_bytes];
            let swap = Choice::from(bit);
            let (a, b) = pair.split_at_mut(1);
            for (a, b) in a[0].iter_mut().zip(b[0].iter_mut()) {
                u8::conditional_swap(a, b, swap);
            }
            let shared = Zeroizing::new(theirs * **scalar);
            let shared = Zeroizing::new(shared.compress().to_bytes());
            let key = base_key(
                with.context,
                index,
                bit,
                [sender, &pair[0], &pair[1], &shared],
            );
            Ok((pair, key))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut points = Vec::with_capacity(2 * BASE_TRANSFERS);
    let mut keys = Zeroizing::new(Vec::with_capacity(BASE_TRANSFERS));
    for (pair, key) in done {
        points.extend_from_slice(&pair);
        keys.push(key);
    }
    Ok((points, keys))
}

impl BaseTransfer<'_> {
    /// The oracle of `side` at the other side's point; its message begins unlike any item's.
    fn mask(&self, index: u16, side: u8, other: &Row) -> RistrettoPoint {
        self.hash
            .point(&[b"\x03base", &index.to_be_bytes(), &[side], other])
    }
}

fn number(i: usize) -> Result<u16, Error> {
    u16::try_from(i).map_err(|_| Error::Internal {
        what: "transfer number",
    })
}

fn fresh_scalar(rng: &mut impl RngCore) -> Result<Zeroizing<Scalar>, Error> {
    let mut wide = Zeroizing::new([0; 64]);
    rng.fill_bytes(wide.as_mut());
    let scalar = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
    // One in 2^252.
    if *scalar == Scalar::ZERO {
        return Err(Error::Internal { what: "zero key" });
    }
    Ok(scalar)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    const CHOICES: [u128; 2] = [0x0123_4567_89ab_cdef_0011_2233_4455_6677, u128::MAX << 3];

    fn run(
        context: [u8; 32],
        change: impl Fn(&mut Row, &mut Vec<Row>),
    ) -> Result<Vec<(bool, [u128; 2], u128)>, Error> {
        let hash = HashToGroup::for_context(&context).unwrap();
        let with = BaseTransfer {
            context: &context,
            hash: &hash,
        };
        let sender = BaseSender::new(&mut ChaCha20Rng::seed_from_u64(1)).unwrap();
        let mut point = sender.point;
        change(&mut point, &mut Vec::new());
        let (mut points, chosen) =
            choose(&with, &mut ChaCha20Rng::seed_from_u64(2), &point, CHOICES)?;
        change(&mut [0; 32], &mut points);
        let keys = sender.keys(&with, &points)?;
        Ok((0..BASE_TRANSFERS)
            .map(|i| (CHOICES[i / 128] >> (i % 128) & 1 == 1, keys[i], chosen[i]))
            .collect())
    }

    #[test]
    fn the_receiver_gets_the_keys_of_its_choices_and_no_other() {
        let mut all = std::collections::HashSet::new();
        for (bit, keys, chosen) in run([5; 32], |_, _| ()).unwrap() {
            assert_eq!(keys[usize::from(bit)], chosen);
            assert!(all.insert(keys[0]) && all.insert(keys[1]));
        }
        for (_, keys, _) in run([6; 32], |_, _| ()).unwrap() {
            assert!(
                all.insert(keys[0]) && all.insert(keys[1]),
                "another session, other keys"
            );
        }
    }

    #[test]
    fn bad_points_are_refused_on_both_sides() {
        let identity = run([5; 32], |p, _| *p = [0; 32]);
        assert!(matches!(
            identity,
            Err(Error::Point {
                problem: "the identity",
                ..
            })
        ));
        assert!(matches!(
            run([5; 32], |p, _| *p = [0xff; 32]),
            Err(Error::Point { .. })
        ));
        for bad in [[0; 32], [0xff; 32]] {
            let got = run([5; 32], |_, points| {
                if let Some(p) = points.get_mut(301) {
                    *p = bad;
                }
            });
            assert!(matches!(got, Err(Error::Point { index: 301, .. })));
        }
        let short = run([5; 32], |_, points| {
            points.pop();
        });
        assert!(matches!(
            short,
            Err(Error::Count {
                expected: 512,
                found: 511,
                ..
            })
        ));
    }

    #[test]
    fn a_sum_that_is_the_identity_is_refused() {
        let context = [5; 32];
        let hash = HashToGroup::for_context(&context).unwrap();
        let with = BaseTransfer {
            context: &context,
            hash: &hash,
        };
        let got = run(context, |_, points| {
            if let [_, _, r0, r1, ..] = points.as_mut_slice() {
                *r0 = (-with.mask(1, 0, r1)).compress().to_bytes();
            }
        });
        assert!(matches!(
            got,
            Err(Error::Point {
                index: 2,
                problem: "the identity once unmasked"
            })
        ));
    }
}
