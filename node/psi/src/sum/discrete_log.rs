//! Small discrete logarithms, many at once: baby steps and giant steps with one table for all of a query. The number of steps
//! depends on public bounds alone, so that the time tells nothing of a sum.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use rayon::prelude::*;

use crate::Error;

/// Most baby steps: 12 bytes each, twice as many places.
const MAX_BABIES: u64 = 1 << 21;
/// Least, below which the table is not what costs.
const MIN_BABIES: u64 = 1 << 10;
/// Steps that one task takes before it computes where it stands anew.
const STRIDE: u64 = 1 << 10;

/// The first steps by the encodings of their points: open addressing, half empty.
struct Babies {
    fingerprints: Vec<u64>,
    steps: Vec<u32>,
    mask: usize,
}

/// Marks an empty place.
const EMPTY: u32 = u32::MAX;

impl Babies {
    /// i G for all i below `count`, a power of two.
    fn new(count: u64) -> Result<Self, Error> {
        let bug = |_| Error::Internal { what: "table size" };
        let places = usize::try_from(count * 2).map_err(bug)?;
        let half = Scalar::ONE.div_by_2();
        let step = RistrettoPoint::mul_base(&half);
        let chunks: Vec<Vec<u64>> = strides(count)
            .into_par_iter()
            .map(|(from, to)| {
                let start = RistrettoPoint::mul_base(&(Scalar::from(from) * half));
                walk(start, &step, to - from)
            })
            .collect();
        let mut table = Self {
            fingerprints: vec![0; places],
            steps: vec![EMPTY; places],
            mask: places - 1,
        };
        for (fingerprint, step) in chunks.iter().flatten().zip(0_u32..) {
            let mut at = table.first_place(*fingerprint);
            loop {
                match (table.steps.get_mut(at), table.fingerprints.get_mut(at)) {
                    (Some(s), Some(f)) if *s == EMPTY => {
                        (*s, *f) = (step, *fingerprint);
                        break;
                    }
                    (Some(_), Some(_)) => at = (at + 1) & table.mask,
                    _ => {
                        return Err(Error::Internal {
                            what: "table place",
                        });
                    }
                }
            }
        }
        Ok(table)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn first_place(&self, fingerprint: u64) -> usize {
        // Bits of an encoding's middle are as good as uniform.
        (fingerprint >> 20) as usize & self.mask
    }

    /// Steps with this fingerprint: nearly always none or one.
    fn find(&self, fingerprint: u64) -> impl Iterator<Item = u32> {
        let mut at = self.first_place(fingerprint);
        std::iter::from_fn(move || {
            loop {
                let step = *self.steps.get(at)?;
                if step == EMPTY {
                    return None;
                }
                let found = *self.fingerprints.get(at)?;
                at = (at + 1) & self.mask;
                if found == fingerprint {
                    return Some(step);
                }
            }
        })
    }
}

/// Fingerprints of twice `start`, twice (`start` + `step`), and so on.
fn walk(start: RistrettoPoint, step: &RistrettoPoint, count: u64) -> Vec<u64> {
    let mut at = start;
    let halves: Vec<RistrettoPoint> = (0..count)
        .map(|_| {
            let here = at;
            at += step;
            here
        })
        .collect();
    RistrettoPoint::double_and_compress_batch(&halves)
        .iter()
        .map(|c| {
            // Bytes 8 to 15; an encoding's lowest bit is always 0 and its highest too.
            let middle = c.0.get(8..16).and_then(|b| b.first_chunk::<8>());
            middle.map_or(0, |b| u64::from_le_bytes(*b))
        })
        .collect()
}

fn strides(count: u64) -> Vec<(u64, u64)> {
    (0..count.div_ceil(STRIDE))
        .map(|i| (i * STRIDE, count.min((i + 1) * STRIDE)))
        .collect()
}

/// For each target the v with 2 `half` = v G and 0 <= v <= `max` of it, or `None`. Takes about sqrt(targets * max) steps, always
/// all of them, on all cores; at most 50 MB.
pub(crate) fn solve(halves: &[RistrettoPoint], max: &[u64]) -> Result<Vec<Option<u64>>, Error> {
    let widest = max.iter().max().copied().unwrap_or(0);
    let targets = halves.len().max(1) as u64;
    let ideal = (u128::from(widest) * u128::from(targets)).isqrt();
    let babies = u64::try_from(ideal)
        .unwrap_or(MAX_BABIES)
        .clamp(MIN_BABIES, MAX_BABIES)
        .next_power_of_two();
    let table = Babies::new(babies)?;
    let half = Scalar::ONE.div_by_2();
    // One giant step back, halved.
    let giant = -RistrettoPoint::mul_base(&(Scalar::from(babies) * half));
    let tasks: Vec<(usize, u64, u64)> = max
        .iter()
        .enumerate()
        .take(halves.len())
        .flat_map(|(target, max)| {
            strides(max / babies + 1)
                .into_iter()
                .map(move |(from, to)| (target, from, to))
        })
        .collect();
    let found: Vec<(usize, u64)> = tasks
        .into_par_iter()
        .flat_map_iter(|(target, from, to)| {
            let start = halves
                .get(target)
                .map_or_else(RistrettoPoint::identity, |h| {
                    *h + Scalar::from(from) * giant
                });
            let hits: Vec<(usize, u64)> = walk(start, &giant, to - from)
                .into_iter()
                .zip(from..)
                .flat_map(|(fingerprint, step)| {
                    table
                        .find(fingerprint)
                        .map(move |baby| (target, step * babies + u64::from(baby)))
                })
                .collect();
            hits
        })
        .collect();
    let mut out = vec![None; halves.len()];
    for (target, value) in found {
        let (Some(point), Some(max), Some(out)) =
            (halves.get(target), max.get(target), out.get_mut(target))
        else {
            continue;
        };
        // A fingerprint may lie.
        if value <= *max && RistrettoPoint::mul_base(&(Scalar::from(value) * half)) == *point {
            *out = Some(value);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_of(v: u64) -> RistrettoPoint {
        RistrettoPoint::mul_base(&(Scalar::from(v) * Scalar::ONE.div_by_2()))
    }

    #[test]
    fn every_value_up_to_the_bound_is_found_and_none_above() {
        // Edges of baby steps, giant steps, strides; zero, whose point is the identity.
        let max = 5_000_000;
        let values = [
            0,
            1,
            2,
            1023,
            1024,
            1025,
            4095,
            4096,
            8191,
            8192,
            8193,
            1 << 20,
            4_194_303,
            4_194_304,
            max - 1,
            max,
        ];
        let halves: Vec<_> = values.iter().map(|v| half_of(*v)).collect();
        let found = solve(&halves, &vec![max; halves.len()]).unwrap();
        assert_eq!(found, values.map(Some));
        let above: Vec<_> = [max + 1, max + 2, 1 << 30]
            .into_iter()
            .map(half_of)
            .collect();
        assert_eq!(solve(&above, &[max; 3]).unwrap(), [None; 3]);
        let negative = [-half_of(1)];
        assert_eq!(solve(&negative, &[max]).unwrap(), [None]);
        assert_eq!(solve(&[], &[]).unwrap(), []);
        assert_eq!(solve(&[half_of(0)], &[0]).unwrap(), [Some(0)]);
        // Each target has a bound of its own.
        let two = [half_of(3000), half_of(3000)];
        assert_eq!(solve(&two, &[2999, 1 << 25]).unwrap(), [None, Some(3000)]);
    }

    #[test]
    fn a_value_of_forty_bits_is_found() {
        let v = (1 << 40) - 3;
        assert_eq!(solve(&[half_of(v)], &[(1 << 40) - 1]).unwrap(), [Some(v)]);
    }
}
