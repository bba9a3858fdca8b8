//! The day of GS1 AI (17): the last one on which a unit is good.

use std::fmt;
use std::str::FromStr;

use super::ParseTradeError;
use crate::codec::{CodecError, Reader, Writer};

const DAY_MS: u64 = 86_400_000;
/// A day ends last twelve hours after it does at Greenwich.
const LAST_ZONE_MS: u64 = DAY_MS / 2;
/// Years below this one of two digits are of the 21st century.
const FIRST_OF_LAST_CENTURY: u32 = 76;

/// A GS1 date, YYMMDD; day 00 means the end of the month. Years 00 to 75 are 2000 to 2075, and 76 to 99 are 1976 to 1999: a fixed
/// window, so that a record means the same whenever it is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpiryDate([u8; 6]);

impl ExpiryDate {
    /// The digits as text, as they stand after AI (17).
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Reads `YYYY-MM-DD`, or `YYYY-MM` for the end of a month; years 2000 to 2075.
    ///
    /// # Errors
    /// [`ParseTradeError::CalendarDate`].
    pub fn from_calendar(text: &str) -> Result<Self, ParseTradeError> {
        let bad = || ParseTradeError::CalendarDate {
            found: text.chars().take(16).collect(),
        };
        let short = match text.as_bytes() {
            [b'2', b'0', y @ .., b'-', m1, m2] if y.len() == 2 => {
                [y, &[*m1, *m2], b"00".as_slice()].concat()
            }
            [b'2', b'0', y @ .., b'-', m1, m2, b'-', d1, d2]
                if y.len() == 2 && [*d1, *d2] != *b"00" =>
            {
                [y, &[*m1, *m2, *d1, *d2]].concat()
            }
            _ => return Err(bad()),
        };
        let date: Self = std::str::from_utf8(&short)
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(bad)?;
        let (year, ..) = date.last_day();
        (year >= 2000).then_some(date).ok_or_else(bad)
    }

    /// As `2026-12-31`, or `2026-12` if it names no day.
    #[must_use]
    pub fn to_calendar(&self) -> String {
        let (year, month, day) = self.last_day();
        if self.has_day() {
            format!("{year}-{month:02}-{day:02}")
        } else {
            format!("{year}-{month:02}")
        }
    }

    /// Whether it names a day, and not the end of a month.
    #[must_use]
    pub const fn has_day(&self) -> bool {
        let [.., d1, d2] = self.0;
        d1 != b'0' || d2 != b'0'
    }

    /// The last day: year, month from 1, day from 1.
    #[must_use]
    pub fn last_day(&self) -> (u32, u32, u32) {
        let (year, month, day) = numbers(&self.0);
        let century = if year < FIRST_OF_LAST_CENTURY {
            2000
        } else {
            1900
        };
        let day = if day == 0 {
            days_of_month(year, month)
        } else {
            day
        };
        (century + year, month, day)
    }

    /// The time, POSIX milliseconds, from which the last day is over wherever on Earth a reader is: noon at Greenwich on the day after.
    #[must_use]
    pub fn over_from_ms(&self) -> u64 {
        let (year, month, day) = self.last_day();
        // Every fourth year of the window is a leap year; 1972 began one, 730 days after 1970.
        let years = u64::from(year.saturating_sub(1972));
        let before_year = 730 + years * 365 + years.div_ceil(4);
        let before_month: u32 = (1..month).map(|m| days_of_month(year % 100, m)).sum();
        let days = before_year + u64::from(before_month + day);
        days * DAY_MS + LAST_ZONE_MS
    }

    /// Whether the last day is over everywhere at `now_ms`, POSIX milliseconds.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.over_from_ms()
    }
}

/// Year of two digits, month, day.
fn numbers(digits: &[u8; 6]) -> (u32, u32, u32) {
    let [y1, y2, m1, m2, d1, d2] = digits.map(|d| u32::from(d.wrapping_sub(b'0')));
    (10 * y1 + y2, 10 * m1 + m2, 10 * d1 + d2)
}

/// Days of a month of the window, where every fourth year is a leap year; 0 for no month.
const fn days_of_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

impl FromStr for ExpiryDate {
    type Err = ParseTradeError;

    /// Reads `YYMMDD`.
    fn from_str(text: &str) -> Result<Self, ParseTradeError> {
        let bad = || ParseTradeError::Date {
            found: text.chars().take(16).collect(),
        };
        let digits: [u8; 6] = text.as_bytes().try_into().map_err(|_| bad())?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(bad());
        }
        let (year, month, day) = numbers(&digits);
        let days = days_of_month(year, month);
        if days > 0 && day <= days {
            Ok(Self(digits))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for ExpiryDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ExpiryDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExpiryDate({self})")
    }
}

/// One byte 0, or 1 and the six digits.
pub(crate) fn write_expiry(w: &mut Writer, date: Option<&ExpiryDate>) {
    w.bool(date.is_some());
    if let Some(date) = date {
        w.raw(&date.0);
    }
}

/// Reverses [`write_expiry`].
pub(crate) fn read_expiry(r: &mut Reader<'_>) -> Result<Option<ExpiryDate>, CodecError> {
    const WHAT: &str = "expiry date";
    if !r.bool(WHAT)? {
        return Ok(None);
    }
    std::str::from_utf8(r.raw(WHAT, 6)?)
        .ok()
        .and_then(|t| t.parse().ok())
        .map(Some)
        .ok_or(CodecError::Text { what: WHAT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> ExpiryDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_over_when_it_is_over_everywhere() {
        // Noon UTC on the day after, by `date --date 2026-07-01T12:00Z +%s` and the like.
        for (text, last, over_s) in [
            ("260630", (2026, 6, 30), 1_782_907_200),
            ("260600", (2026, 6, 30), 1_782_907_200),
            ("280200", (2028, 2, 29), 1_835_524_800),
            ("280229", (2028, 2, 29), 1_835_524_800),
            ("270200", (2027, 2, 28), 1_803_902_400),
            ("000101", (2000, 1, 1), 946_814_400),
            ("760101", (1976, 1, 1), 189_432_000),
            ("991231", (1999, 12, 31), 946_728_000),
            ("751231", (2075, 12, 31), 3_345_105_600),
        ] {
            let date = date(text);
            assert_eq!(date.last_day(), last, "{text}");
            assert_eq!(date.over_from_ms(), over_s * 1000, "{text}");
            assert!(date.is_over(over_s * 1000) && !date.is_over(over_s * 1000 - 1));
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut last = date("760101").over_from_ms();
        for year in (76..100).chain(0..76) {
            for month in 1..=12 {
                for day in 1..=31 {
                    let text = format!("{year:02}{month:02}{day:02}");
                    let Ok(date) = text.parse::<ExpiryDate>() else {
                        continue;
                    };
                    if text != "760101" {
                        assert_eq!(date.over_from_ms(), last + DAY_MS, "{text}");
                    }
                    last = date.over_from_ms();
                }
            }
        }
        assert_eq!(last, date("751231").over_from_ms());
    }

    #[test]
    fn dates_of_a_calendar_have_one_form() {
        for (text, short) in [
            ("2026-12-31", "261231"),
            ("2028-02-29", "280229"),
            ("2028-02", "280200"),
            ("2075-01-01", "750101"),
        ] {
            let date = ExpiryDate::from_calendar(text).unwrap();
            assert_eq!((date.as_str(), date.to_calendar().as_str()), (short, text));
            assert_eq!(date.has_day(), text.len() == 10);
        }
        for bad in [
            "",
            "261231",
            "2027-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "2026-01-32",
            "1999-12-31",
            "2076-01-01",
            "2026/12/31",
            "2026-12-31 ",
            "20é-01-01",
            "２０２６-01-01",
        ] {
            assert!(ExpiryDate::from_calendar(bad).is_err(), "{bad:?}");
        }
    }
}
