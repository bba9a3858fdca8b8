//! What a match publishes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tally_contracts::ids::SessionId;
use tally_merkle::Hash;

/// Prefix of the hash that commits to an answer in a receipt.
const RESULT_COMMITMENT: &[u8] = b"tally/match-result/v1\n";

/// The answer to a match: the only thing of it that is stored or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// The published count, noise included; so it may miss the true one, and even be negative.
    Count {
        /// The count.
        value: i64,
    },
    /// The published count, noise included, is below the agreement's smallest result: the same answer for none and for few.
    FewerThan {
        /// The smallest result.
        min: u64,
    },
    /// The published sums, both noises included, by label: `other` first, then those of the agreement.
    Sums {
        /// One for each label.
        labels: Vec<LabelSum>,
        /// What values are counted in: a value of this is one minor unit of the currency.
        unit: u32,
    },
    /// The initiator of a list holds its rows that matched.
    Listed {
        /// How many.
        rows: u64,
    },
    /// The responder of a list: the peer has its result.
    Served,
}

/// One label's published sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSum {
    /// The label.
    pub label: String,
    /// Its sum in minor units times the unit; noise may make it negative.
    pub value: i64,
}

impl LabelSum {
    /// The sum in minor units of the currency, rounded to the nearest, halves away from zero.
    #[must_use]
    pub const fn minor_units(&self, unit: u32) -> i64 {
        let unit = if unit == 0 { 1 } else { unit as i64 };
        let half = unit / 2 * self.value.signum();
        self.value.saturating_add(half) / unit
    }
}

impl Answer {
    /// A published count against the agreement's threshold.
    pub(super) fn count(value: i64, min: u64) -> Self {
        match u64::try_from(value) {
            Ok(n) if n >= min => Self::Count { value },
            Err(_) if min == 0 => Self::Count { value },
            _ => Self::FewerThan { min },
        }
    }

    /// SHA-256(`tally/match-result/v1` LF || session || salt || bytes): what the receipt says of the answer. `None` for a side
    /// that does not know the answer.
    pub(super) fn commitment(&self, session: &SessionId, salt: &[u8; 32]) -> Option<Hash> {
        let (kind, numbers) = match self {
            Self::Count { value } => (1, value.to_be_bytes().to_vec()),
            Self::FewerThan { min } => (2, min.to_be_bytes().to_vec()),
            Self::Listed { rows } => (3, rows.to_be_bytes().to_vec()),
            // In the agreement's order, which names the labels.
            Self::Sums { labels, .. } => (
                4,
                labels.iter().flat_map(|l| l.value.to_be_bytes()).collect(),
            ),
            Self::Served => return None,
        };
        let hash = Sha256::new()
            .chain_update(RESULT_COMMITMENT)
            .chain_update(session.0)
            .chain_update(salt)
            .chain_update([kind])
            .chain_update(numbers)
            .finalize();
        Some(Hash(hash.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_exact_and_comes_after_noise() {
        for (value, min, expected) in [
            (49, 50, Answer::FewerThan { min: 50 }),
            (50, 50, Answer::Count { value: 50 }),
            (51, 50, Answer::Count { value: 51 }),
            (0, 50, Answer::FewerThan { min: 50 }),
            (-3, 50, Answer::FewerThan { min: 50 }),
            (-3, 0, Answer::Count { value: -3 }),
            (0, 0, Answer::Count { value: 0 }),
            (i64::MAX, u64::MAX, Answer::FewerThan { min: u64::MAX }),
        ] {
            assert_eq!(Answer::count(value, min), expected);
        }
    }

    #[test]
    fn a_commitment_hides_and_binds() {
        let (session, salt) = (SessionId([1; 32]), [2; 32]);
        let of = |a: &Answer, salt: &[u8; 32]| a.commitment(&session, salt);
        let five = Answer::Count { value: 5 };
        assert_ne!(of(&five, &salt), of(&Answer::Count { value: 6 }, &salt));
        assert_ne!(of(&five, &salt), of(&Answer::FewerThan { min: 5 }, &salt));
        assert_ne!(of(&five, &salt), of(&five, &[3; 32]));
        assert_eq!(of(&Answer::Served, &salt), None);
        let sums = |values: &[i64]| Answer::Sums {
            labels: values
                .iter()
                .map(|value| LabelSum {
                    label: String::new(),
                    value: *value,
                })
                .collect(),
            unit: 420,
        };
        assert_ne!(of(&sums(&[5]), &salt), of(&five, &salt));
        assert_ne!(of(&sums(&[5, 6]), &salt), of(&sums(&[6, 5]), &salt));
    }

    #[test]
    fn sums_are_rounded_to_the_nearest_minor_unit() {
        let minor = |value, unit| {
            LabelSum {
                label: String::new(),
                value,
            }
            .minor_units(unit)
        };
        assert_eq!(
            [minor(629, 420), minor(630, 420), minor(-630, 420)],
            [1, 2, -2]
        );
        assert_eq!([minor(7, 1), minor(-7, 1), minor(0, 420)], [7, -7, 0]);
    }
}
