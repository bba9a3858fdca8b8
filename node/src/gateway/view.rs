//! What a verdict is in plain words, and times as people read them. Never accuses: says what is known.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::scans::{First, Verdict};

/// The tone of a page: which colour and sign it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Note,
    Stop,
    Wait,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Stop => "stop",
            Self::Wait => "wait",
        }
    }

    /// A sign beside the words, for those who do not see colours.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Note => "i",
            Self::Stop => "!",
            Self::Wait => "…",
        }
    }
}

/// A verdict in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) tone: Tone,
    pub(super) headline: String,
    pub(super) text: String,
}

/// The words for a verdict. With `look`, nobody has scanned now: what a scan would say is only announced.
pub(super) fn words(
    verdict: Verdict,
    count: u64,
    first: Option<&First>,
    owner: Option<&str>,
    look: bool,
) -> Words {
    let owner = owner.unwrap_or("its brand");
    let when = first.map_or(String::new(), |f| {
        let place = f
            .place
            .as_ref()
            .map_or(String::new(), |p| format!(" in {p}"));
        format!("on {}{place}", date(f.time_ms))
    });
    let (tone, headline, text) = match (verdict, look) {
        (Verdict::GenuineFirst, true) => (
            Tone::Good,
            "This code was issued by its brand".to_owned(),
            format!("{owner} issued this code, and nobody has checked it yet. Check it now to be the first."),
        ),
        (Verdict::GenuineFirst, false) => (
            Tone::Good,
            "Genuine, and you are the first to check it".to_owned(),
            format!("{owner} issued this code, and it was never checked before."),
        ),
        (Verdict::GenuineRepeat, true) => (
            Tone::Note,
            "This code was issued by its brand".to_owned(),
            format!("{owner} issued this code. It was checked {} before, first {when}.", times(count)),
        ),
        (Verdict::GenuineRepeat, false) => (
            Tone::Note,
            "Genuine code, checked before".to_owned(),
            format!(
                "{owner} issued this code. It was checked {} before, first {when}. If that was you, your family or the shop, \
                 all is well. If you have just opened a sealed pack and nobody checked it, ask the seller or {owner}.",
                times(count.saturating_sub(1))
            ),
        ),
        (Verdict::NotReleased, _) => (
            Tone::Stop,
            "Not released for sale yet".to_owned(),
            format!("{owner} issued this code, but has not released its batch for sale. Ask the seller or {owner}."),
        ),
        (Verdict::Recalled, _) => (
            Tone::Stop,
            "This batch is recalled".to_owned(),
            format!("{owner} has recalled the batch of this product. Please do not use it; the seller or {owner} will help you."),
        ),
        (Verdict::Unknown, _) => (
            Tone::Stop,
            "This code is not known".to_owned(),
            "No member of this network issued this code. It may have been misread: scan it again, or type it as it is printed. \
             If the result is the same, ask the seller."
                .to_owned(),
        ),
        (Verdict::CannotVerifyNow, true) => (
            Tone::Wait,
            "This code cannot be checked right now".to_owned(),
            format!("{owner} does not answer at the moment. Please try again in a few minutes."),
        ),
        (Verdict::CannotVerifyNow, false) => (
            Tone::Wait,
            "This code cannot be checked right now".to_owned(),
            format!(
                "{owner} does not answer at the moment. Your check is kept, and {owner} will be asked again; open this page again \
                 later to see the answer."
            ),
        ),
    };
    Words {
        tone,
        headline,
        text,
    }
}

fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

fn moment(ms: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// As `5 March 2026, 14:03 UTC`.
pub(super) fn date(ms: u64) -> String {
    moment(ms)
        .format(format_description!(
            "[day padding:none] [month repr:long] [year], [hour]:[minute] UTC"
        ))
        .unwrap_or_default()
}

/// As RFC 3339 has it, in UTC.
pub(super) fn rfc3339(ms: u64) -> String {
    moment(ms).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scans::Place;

    #[test]
    fn words_say_what_is_known() {
        let first = First {
            time_ms: 1_772_719_380_000,
            place: Place::new("CN", "Sichuan").ok(),
        };
        let said = words(
            Verdict::GenuineRepeat,
            3,
            Some(&first),
            Some("Highland"),
            false,
        );
        assert!(
            said.text
                .contains("checked twice before, first on 5 March 2026, 14:03 UTC in Sichuan, CN")
        );
        let seen = words(
            Verdict::GenuineRepeat,
            3,
            Some(&first),
            Some("Highland"),
            true,
        );
        assert!(seen.text.contains("checked 3 times before"));
        for verdict in Verdict::ALL {
            for look in [false, true] {
                let said = words(*verdict, 2, Some(&first), None, look);
                let all = format!("{} {}", said.headline, said.text).to_lowercase();
                for word in [
                    "fake",
                    "counterfeit",
                    "fraud",
                    "criminal",
                    "you have copied",
                ] {
                    assert!(!all.contains(word), "{verdict:?}: {word}");
                }
            }
        }
        assert_eq!(rfc3339(1_772_719_380_123), "2026-03-05T14:03:00.123Z");
    }
}
