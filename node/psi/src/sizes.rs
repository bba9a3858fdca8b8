//! Public sizes: what a secret number of people, keys or conversions is padded to before anybody else hears of it.

use crate::Error;

/// The public size that a secret one is padded to: at least 8, and three significant bits, so at most a quarter more.
#[must_use]
pub const fn public_size(n: u64) -> u64 {
    if n <= 8 {
        return 8;
    }
    let step = 1 << (n.ilog2() - 2);
    match n.checked_next_multiple_of(step) {
        Some(padded) => padded,
        None => u64::MAX,
    }
}

/// Refuses a size that is not a public one: a peer that forgot to pad.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) const fn verify_public(n: u64) -> Result<(), Error> {
    if public_size(n) == n {
        Ok(())
    } else {
        Err(Error::Invalid {
            what: "size that should be padded",
            found: n,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_bits_and_grow_by_a_quarter_at_most() {
        let mut last = 0;
        for n in (0..5_000).chain([1 << 20, (1 << 20) + 1, u64::MAX >> 1]) {
            let padded = public_size(n);
            assert!(padded >= n && padded >= last);
            assert_eq!(public_size(padded), padded);
            assert!(n <= 8 || padded <= n + n / 4, "{n} {padded}");
            assert!(padded.trailing_zeros() + 3 >= 64 - padded.leading_zeros());
            assert!(verify_public(padded).is_ok());
            last = padded;
        }
        assert_eq!(public_size(u64::MAX), u64::MAX);
        assert_eq!(
            [public_size(8), public_size(9), public_size(1_000)],
            [8, 10, 1_024]
        );
        assert!(verify_public(9).is_err());
    }
}
