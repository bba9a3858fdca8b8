//! Coupons of North America: fields of digits, each behind its length or of a fixed one.
//!
//! AI (8110): Application Guideline Using GS1 DataBar Expanded; AI (8112): Positive Offer File, data specification.

use super::rules::is_short_date;

/// Reads digits from the left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// One digit out of `allowed`.
    fn digit(&mut self, allowed: &[u8]) -> Option<usize> {
        let [digit] = *self.take(1)? else { return None };
        allowed.contains(&digit).then(|| usize::from(digit - b'0'))
    }

    /// A length out of `allowed` and a field of `plus` digits more.
    fn sized(&mut self, allowed: &[u8], plus: usize) -> Option<&'a [u8]> {
        let len = self.digit(allowed)?;
        self.take(len + plus)
    }

    /// Whether the optional field of this number follows; takes the number.
    fn has(&mut self, number: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == number => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// What must be bought: value, its code, the family of products.
    fn purchase(&mut self) -> Option<()> {
        self.sized(b"12345", 0)?;
        self.digit(b"012349")?;
        self.take(3)?;
        Some(())
    }

    /// The company whose products a further purchase is of; 9 is for "the same".
    fn company(&mut self) -> Option<()> {
        match self.digit(b"01234569")? {
            9 => Some(()),
            len => self.take(len + 6).map(|_| ()),
        }
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

const DIGITS: &[u8] = b"0123456789";
const PREFIX: &[u8] = b"0123456";

fn coupon(text: &[u8]) -> Option<()> {
    let mut fields = Fields(text);
    fields.sized(PREFIX, 6)?;
    // The offer.
    fields.take(6)?;
    // What is saved.
    fields.sized(b"12345", 0)?;
    fields.purchase()?;
    if fields.has(b'1') {
        fields.digit(b"0123")?;
        fields.purchase()?;
        fields.company()?;
    }
    if fields.has(b'2') {
        fields.purchase()?;
        fields.company()?;
    }
    let mut expires = None;
    if fields.has(b'3') {
        expires = Some(fields.take(6).filter(|d| is_short_date(d, false))?);
    }
    if fields.has(b'4') {
        let starts = fields.take(6).filter(|d| is_short_date(d, false))?;
        if expires.is_some_and(|expires| expires < starts) {
            return None;
        }
    }
    if fields.has(b'5') {
        fields.sized(DIGITS, 6)?;
    }
    if fields.has(b'6') {
        fields.sized(b"1234567", 6)?;
    }
    if fields.has(b'9') {
        // How the value is meant, what it applies to, store coupon, whether it may be multiplied.
        fields.digit(b"01256")?;
        fields.digit(b"012")?;
        fields.digit(DIGITS)?;
        fields.digit(b"01")?;
    }
    fields.end()
}

fn offer(text: &[u8]) -> Option<()> {
    let mut fields = Fields(text);
    fields.digit(b"01")?;
    // Who pays, the offer, the serial.
    fields.sized(PREFIX, 6)?;
    fields.take(6)?;
    fields.sized(DIGITS, 6)?;
    fields.end()
}

/// Whether the text is a coupon code of AI (8110).
pub(super) fn is_coupon(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && coupon(text).is_some()
}

/// Whether the text is a coupon code of AI (8112).
pub(super) fn is_offer(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && offer(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coupons() {
        // Company 614141, offer 890123, 0.50 saved, one to be bought, family 000.
        let least = "0614141890123250110000";
        let with = |more: &str| is_coupon(format!("{least}{more}").as_bytes());
        for good in [
            "",
            "101100009",
            "111100000614141",
            "21100009",
            "3261231",
            "32612314260101",
            "4260101",
            "50123456",
            "59123456789012345",
            "616141419",
            "90001",
            "32612315012345690001",
        ] {
            assert!(with(good), "{good}");
        }
        for bad in [
            "1",
            "14",
            "110",
            "2",
            "3",
            "3261301",
            "32601014260102",
            "4",
            "5",
            "512",
            "6",
            "60123456",
            "68",
            "9",
            "93",
            "903",
            "9000",
            "90002",
            "900010",
            "7",
            "x",
        ] {
            assert!(!with(bad), "{bad}");
        }
        for n in 0..least.len() {
            assert!(!is_coupon(&least.as_bytes()[..n]), "cut to {n}");
        }
        assert!(!is_coupon("7614141890123250110000".as_bytes()));
    }

    #[test]
    fn offers() {
        let whole = "001234561234560123456";
        assert!(is_offer(whole.as_bytes()));
        for n in 0..whole.len() {
            assert!(!is_offer(&whole.as_bytes()[..n]));
        }
        for bad in [
            "201234561234560123456",
            "071234561234560123456",
            "0012345612345601234567",
            "00123456123456012345a",
        ] {
            assert!(!is_offer(bad.as_bytes()), "{bad}");
        }
    }
}
