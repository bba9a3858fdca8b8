//! Claim codes: covert, under a scratch layer or in the cap. One belongs to one unit code and to no other, so that a cap from
//! another pack is worth nothing.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tally_merkle::Hash;
use tally_merkle::sha256::Message;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Error;
use crate::crockford;
use crate::gs1::Gtin;

/// Characters of a claim code without the check character: 60 bits.
pub const CLAIM_LEN: usize = 12;

const CLAIM_DOMAIN: &[u8; 15] = b"tally/claim/v1\n";
const WHAT: &str = "claim code";

/// A claim code. Secret: no `Debug`, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClaimCode(u64);

impl ClaimCode {
    /// The high 60 bits of a pseudorandom number.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "68 bits are shifted out first"
    )]
    pub(crate) const fn from_random(bits: u128) -> Self {
        Self((bits >> 68) as u64)
    }

    /// The 60 bits of the claim code of [`Self::from_random`], from the high half of the number.
    pub(crate) const fn bits_of(high: u64) -> u64 {
        high >> 4
    }

    /// Reads what was typed or scanned: 12 characters and the check character, hyphens and spaces anywhere, by Crockford's reading
    /// rules. An error is a typing error: it is told to the person at once and is not a guess.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Character`], [`Error::Mistyped`]; none tells what was typed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value = crockford::decode_typed(WHAT, text, CLAIM_LEN)?;
        u64::try_from(value)
            .map(Self)
            .map_err(|_| Error::Internal { what: "60 bits" })
    }

    /// The 12 characters without the check character: what the commitment is over.
    pub(crate) fn to_chars(&self) -> Zeroizing<[u8; CLAIM_LEN]> {
        Zeroizing::new(crockford::encode(u128::from(self.0)))
    }

    /// The code as it is printed: `ABCD-EFGH-JKMN` and the check character.
    #[must_use]
    pub fn to_printed(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CLAIM_LEN + 1));
        text.push_str(std::str::from_utf8(&*self.to_chars()).unwrap_or_default());
        text.push(crockford::check_character(self.0.into()));
        crockford::grouped(&text, 4)
    }

    /// Whether both are the same, in constant time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What the commitment is the SHA-256 of: `tally/claim/v1` LF || salt || GTIN || serial || claim code. It is what the unit's leaf says of the
/// claim code. The salt stands in no proof of the unit code: without it 60 bits would fall to one sweep over all leaves that
/// were shown. Secret.
#[derive(Clone)]
pub(crate) struct CommitmentMessage(Message<2>);

impl CommitmentMessage {
    pub(crate) fn new(gtin: &Gtin) -> Self {
        let mut message = Message::new(CLAIM_DOMAIN, 77);
        message.put::<31, 14>(gtin.as_bytes());
        Self(message)
    }

    /// For one unit, in place of the one before.
    #[inline]
    pub(crate) fn set(&mut self, salt: &[u8; 16], serial: &[u8; 20], claim: &[u8; CLAIM_LEN]) {
        self.0.put::<15, 16>(salt);
        self.0.put::<45, 20>(serial);
        self.0.put::<65, CLAIM_LEN>(claim);
    }

    /// Wiped by writing over it.
    pub(crate) fn wipe(&mut self) {
        self.set(&[0; 16], &[0; 20], &[0; CLAIM_LEN]);
    }

    #[inline]
    pub(crate) fn hash_pair(a: &Self, b: &Self) -> [Hash; 2] {
        Message::hash_pair(&a.0, &b.0)
    }
}

/// The commitment to a claim code.
pub(crate) fn commitment(
    salt: &[u8; 16],
    gtin: &Gtin,
    serial: &[u8; 20],
    claim: &ClaimCode,
) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(CLAIM_DOMAIN)
            .chain_update(salt)
            .chain_update(gtin.as_bytes())
            .chain_update(serial)
            .chain_update(claim.to_chars())
            .finalize()
            .into(),
    )
}

/// What became of a claim code that came with a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimOutcome {
    /// None came, or the unit is not known.
    Absent,
    /// It is that of this unit.
    Right,
    /// It is not: a guess, or a cap from another pack.
    Wrong,
    /// Wrong length, character or check character; not counted as a guess.
    Mistyped,
}

impl ClaimOutcome {
    /// Its word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Mistyped => "mistyped",
        }
    }

    /// Compares what was typed with what is right.
    #[must_use]
    pub fn of(typed: Option<&str>, right: &ClaimCode) -> Self {
        match typed.map(ClaimCode::parse) {
            None => Self::Absent,
            Some(Err(_)) => Self::Mistyped,
            Some(Ok(claim)) if claim.is_same(right) => Self::Right,
            Some(Ok(_)) => Self::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_is_read_back() {
        for bits in [0, u128::MAX, 0x1234_5678_9abc_def0 << 64] {
            let claim = ClaimCode::from_random(bits);
            let printed = claim.to_printed();
            assert_eq!(printed.len(), 15);
            for text in [
                printed.to_string(),
                printed.to_lowercase(),
                printed.replace('-', " "),
            ] {
                assert!(ClaimCode::parse(&text).is_ok_and(|c| c.is_same(&claim)));
                assert_eq!(ClaimOutcome::of(Some(&text), &claim), ClaimOutcome::Right);
            }
        }
    }

    #[test]
    fn a_typing_error_is_no_guess() {
        let right = ClaimCode::from_random(77 << 68);
        let other = ClaimCode::from_random(78 << 68);
        assert_eq!(ClaimOutcome::of(None, &right), ClaimOutcome::Absent);
        assert_eq!(
            ClaimOutcome::of(Some(&other.to_printed()), &right),
            ClaimOutcome::Wrong
        );
        let cut: String = right.to_printed().chars().take(14).collect();
        assert_eq!(ClaimOutcome::of(Some(&cut), &right), ClaimOutcome::Mistyped);
        assert_eq!(
            ClaimOutcome::of(Some(&format!("{cut}0")), &right),
            ClaimOutcome::Mistyped
        );
        assert_eq!(ClaimOutcome::of(Some(""), &right), ClaimOutcome::Mistyped);
    }
}
