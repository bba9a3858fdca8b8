//! Sorting numbers whose highest bits are uniform, as those of hashes are: one pass into buckets that fit the processor's cache,
//! then each bucket on its own, on all cores.

use rayon::prelude::*;

/// Below this, plain sorting is faster.
const SMALL: usize = 1 << 12;
/// About as many numbers as a bucket holds, as a power of two.
const BUCKET_BITS: u32 = 9;
/// Most buckets, as a power of two: more would miss the cache on every write.
const MAX_BITS: u32 = 12;

/// The numbers, ascending. Correct for any numbers; fast for those of hashes.
pub(crate) fn sort_uniform(mut numbers: Vec<u128>) -> Vec<u128> {
    if numbers.len() < SMALL {
        numbers.sort_unstable();
        return numbers;
    }
    let bits = (numbers.len().ilog2() - BUCKET_BITS).min(MAX_BITS);
    let bucket = |n: u128| usize::try_from(n >> (128 - bits)).unwrap_or(0);
    let mut next = vec![0_usize; (1 << bits) + 1];
    for n in &numbers {
        next[bucket(*n) + 1] += 1;
    }
    for i in 1..next.len() {
        next[i] += next[i - 1];
    }
    let mut out = vec![0; numbers.len()];
    let mut buckets = Vec::with_capacity(1 << bits);
    let mut rest = out.as_mut_slice();
    for pair in next.windows(2) {
        let (one, after) = rest.split_at_mut(pair[1] - pair[0]);
        buckets.push(one);
        rest = after;
    }
    let mut filled = vec![0_u32; 1 << bits];
    for n in numbers {
        let b = bucket(n);
        buckets[b][filled[b] as usize] = n;
        filled[b] += 1;
    }
    buckets.into_par_iter().for_each(<[u128]>::sort_unstable);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn it_sorts(seed: u64, n in 0_usize..20_000, shift in 0_u32..120) {
            let mut x = u128::from(seed) | 1;
            let numbers: Vec<u128> = (0..n)
                .map(|_| {
                    x = x.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x1234_5678_9abc_def1_1122_3344_5566_7788);
                    // Not uniform at all, for large shifts.
                    x >> shift
                })
                .collect();
            let mut expected = numbers.clone();
            expected.sort_unstable();
            prop_assert_eq!(sort_uniform(numbers), expected);
        }
    }
}
