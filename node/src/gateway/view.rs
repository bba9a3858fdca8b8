//! What a verdict is in plain words, in two languages. Never accuses: says what is known.

use tally_contracts::records::ExpiryDate;
use tally_trace::score::Reason;

use super::lang::Lang;
use super::moments::{day, place, when};
use super::phrases::reason;
use crate::scans::{ClaimCheck, First, Verdict};

/// The tone of a page: which shape, sign and colour it has. Shapes differ in outline, so that they are told apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// A disc with a tick.
    Good,
    /// A square with an i.
    Note,
    /// A triangle with an exclamation mark.
    Stop,
    /// A diamond with a question mark.
    Ask,
    /// A clock.
    Wait,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Stop => "stop",
            Self::Ask => "ask",
            Self::Wait => "wait",
        }
    }

    /// Whether what to do about it stands open on the page.
    pub(super) const fn needs_help(self) -> bool {
        matches!(self, Self::Stop | Self::Ask)
    }
}

/// A verdict in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) tone: Tone,
    pub(super) headline: String,
    pub(super) text: String,
}

/// What a page has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) verdict: Verdict,
    /// Counted scans, that of the page included unless it is only a look.
    pub(super) count: u64,
    pub(super) first: Option<&'a First>,
    /// The brand, or else the member.
    pub(super) owner: Option<&'a str>,
    /// Nobody has scanned now: what a scan would say is only announced.
    pub(super) look: bool,
    pub(super) claim: ClaimCheck,
    /// Why it is suspect; none with another verdict.
    pub(super) reasons: &'a [Reason],
    /// The last day on which the pack is good, if it is known here.
    pub(super) expires: Option<ExpiryDate>,
    /// The same visitor's scan just before this one, which a claim code was added to.
    pub(super) own: Option<Verdict>,
}

impl Said<'_> {
    /// Scans by others before this one.
    fn before(&self) -> u64 {
        self.count
            .saturating_sub(u64::from(!self.look))
            .saturating_sub(u64::from(self.own.is_some()))
    }

    fn is_first(&self) -> bool {
        self.verdict == Verdict::GenuineFirst || self.own == Some(Verdict::GenuineFirst)
    }

    /// The reasons in one sentence, without its stop.
    fn reasons(&self, lang: Lang) -> String {
        let words: Vec<String> = self.reasons.iter().map(|r| reason(lang, r)).collect();
        words.join(match lang {
            Lang::En => "; ",
            Lang::Zh => "；",
        })
    }

    /// The words in a language.
    pub(super) fn words(&self, lang: Lang) -> Words {
        let (tone, headline, text) = match lang {
            Lang::En => self.english(),
            Lang::Zh => self.chinese(),
        };
        Words {
            tone,
            headline: headline.to_owned(),
            text,
        }
    }

    fn english(&self) -> (Tone, &'static str, String) {
        let owner = self.owner.unwrap_or("its brand");
        let since = self.first.map_or(String::new(), |f| {
            let place = f
                .place
                .as_ref()
                .map_or(String::new(), |p| format!(" in {}", place(Lang::En, p)));
            format!(", first on {}{place}", when(Lang::En, f.time_ms))
        });
        let times = times(self.before());
        let family = format!(
            "If that was you, your family or the shop, all is well. If the pack was sealed until now and nobody of yours \
             checked it, ask the seller or {owner}."
        );
        match (self.verdict, self.claim) {
            (v, ClaimCheck::Right) if v.is_genuine() && self.is_first() => (
                Tone::Good,
                "Genuine: both codes belong together",
                "The code under the scratch layer is the one that was made for this pack, and nobody checked this pack before you."
                    .to_owned(),
            ),
            (v, ClaimCheck::Right) if v.is_genuine() => (
                Tone::Good,
                "Genuine: both codes belong together",
                format!(
                    "The code under the scratch layer is the one that was made for this pack. The pack was checked {times} \
                     before{since}. {family}"
                ),
            ),
            (v, ClaimCheck::Wrong) if v.is_genuine() => (
                Tone::Ask,
                "The scratch code belongs to another pack",
                format!(
                    "The code on the pack was issued by {owner}. The code you typed is not the one made for it. Compare every \
                     character and type it again; if it stays so, ask the seller or {owner}."
                ),
            ),
            // Nobody stops here for a tick: it is the check that tells the next one that there was one.
            (Verdict::GenuineFirst, _) if self.look => (
                Tone::Note,
                "Issued by the brand, not checked yet",
                format!("{owner} issued this code, and nobody has checked it yet. Check it now to be the first."),
            ),
            (Verdict::GenuineFirst, _) => (
                Tone::Good,
                "Genuine, and you are the first to check it",
                format!("{owner} issued this code, and it was never checked before."),
            ),
            (Verdict::GenuineRepeat, _) if self.look => (
                Tone::Note,
                "Issued by the brand, checked before",
                format!("{owner} issued this code. It was checked {times} before{since}."),
            ),
            (Verdict::GenuineRepeat, _) => (
                Tone::Note,
                "Genuine code, checked before",
                format!("{owner} issued this code. It was checked {times} before{since}. {family}"),
            ),
            (Verdict::Suspect, claim) => (
                Tone::Ask,
                "Issued by the brand, with an unusual history",
                format!(
                    "{owner} issued this code. But: {}. So the code alone cannot tell whether this pack is the one that it was made \
                     for. {}If in doubt, keep the pack and the receipt and ask the seller or {owner}.",
                    self.reasons(Lang::En),
                    match claim {
                        ClaimCheck::Right => "The code under the scratch layer is the one that was made for it. ",
                        ClaimCheck::Wrong => "The code you typed is not the one made for it. ",
                        ClaimCheck::Absent => "",
                    }
                ),
            ),
            (Verdict::NotReleased, _) => (
                Tone::Stop,
                "Not released for sale yet",
                format!("{owner} issued this code, but has not released its batch for sale. Ask the seller or {owner}."),
            ),
            (Verdict::Recalled, _) => (
                Tone::Stop,
                "Recalled: please do not use it",
                format!("{owner} has recalled the batch of this product. The seller or {owner} will help you."),
            ),
            (Verdict::Revoked, _) => (
                Tone::Stop,
                "Withdrawn: this label should not be on a product",
                format!(
                    "{owner} issued this code and withdrew it, as it does with labels that are spoilt in printing or lost. Ask the \
                     seller or {owner} before you use the product."
                ),
            ),
            (Verdict::Expired, _) => (
                Tone::Stop,
                "Past its last day",
                format!(
                    "{owner} issued this code. {} Ask the seller or {owner} before you use the product.",
                    match &self.expires {
                        Some(date) => format!("By its registration the pack was good until {}.", day(Lang::En, date)),
                        None => "By its registration the pack is not good any more.".to_owned(),
                    }
                ),
            ),
            (Verdict::Unknown, _) => (
                Tone::Ask,
                "This code is not known",
                "No member of this network issued this code. It may have been misread: scan it again, or type it as it is printed. \
                 If it stays so, ask the seller."
                    .to_owned(),
            ),
            (Verdict::CannotVerifyNow, _) if self.look => (
                Tone::Wait,
                "Cannot be checked right now",
                format!("{owner} does not answer at the moment. That says nothing about your product. Please try again in a few minutes."),
            ),
            (Verdict::CannotVerifyNow, _) => (
                Tone::Wait,
                "Cannot be checked right now",
                format!(
                    "{owner} does not answer at the moment. That says nothing about your product. Your check is kept and {owner} \
                     will be asked again: open this page later to see the answer."
                ),
            ),
        }
    }

    fn chinese(&self) -> (Tone, &'static str, String) {
        let owner = self.owner.unwrap_or("品牌方");
        let since = self.first.map_or(String::new(), |f| {
            let place = f
                .place
                .as_ref()
                .map_or(String::new(), |p| format!("，地点{}", place(Lang::Zh, p)));
            format!("，首次查验时间为{}{place}", when(Lang::Zh, f.time_ms))
        });
        let n = self.before();
        let family = format!(
            "如果是您本人、家人或店家查验过，请放心使用。如果包装此前一直密封，且没有人查验过，请咨询销售商或{owner}。"
        );
        match (self.verdict, self.claim) {
            (v, ClaimCheck::Right) if v.is_genuine() && self.is_first() => (
                Tone::Good,
                "正品：内外两码相符",
                "涂层下的验证码与本包装相符，您是第一位查验本包装的人。".to_owned(),
            ),
            (v, ClaimCheck::Right) if v.is_genuine() => (
                Tone::Good,
                "正品：内外两码相符",
                format!("涂层下的验证码与本包装相符。此前已被查验{n}次{since}。{family}"),
            ),
            (v, ClaimCheck::Wrong) if v.is_genuine() => (
                Tone::Ask,
                "验证码与本包装不符",
                format!(
                    "包装上的码由{owner}签发，但您输入的验证码不属于本包装。请逐字核对后重新输入；如仍不符，请咨询销售商或{owner}。"
                ),
            ),
            (Verdict::GenuineFirst, _) if self.look => (
                Tone::Note,
                "由品牌方签发，尚未被查验",
                format!("此码由{owner}签发，还没有人查验过。现在查验，您就是第一位。"),
            ),
            (Verdict::GenuineFirst, _) => (
                Tone::Good,
                "正品，您是第一位查验者",
                format!("此码由{owner}签发，此前从未被查验。"),
            ),
            (Verdict::GenuineRepeat, _) if self.look => (
                Tone::Note,
                "由品牌方签发，曾被查验",
                format!("此码由{owner}签发，此前已被查验{n}次{since}。"),
            ),
            (Verdict::GenuineRepeat, _) => (
                Tone::Note,
                "正品码，曾被查验",
                format!("此码由{owner}签发，此前已被查验{n}次{since}。{family}"),
            ),
            (Verdict::Suspect, claim) => (
                Tone::Ask,
                "由品牌方签发，但查验记录不同寻常",
                format!(
                    "此码由{owner}签发。但{}。因此仅凭此码无法判断它是否就是为本包装制作的。{}如有疑问，请保留包装和购物凭证，并咨询销售商或{owner}。",
                    self.reasons(Lang::Zh),
                    match claim {
                        ClaimCheck::Right => "涂层下的验证码与此码相符。",
                        ClaimCheck::Wrong => "您输入的验证码与此码不符。",
                        ClaimCheck::Absent => "",
                    }
                ),
            ),
            (Verdict::NotReleased, _) => (
                Tone::Stop,
                "尚未上市销售",
                format!("此码由{owner}签发，但所属批次尚未上市销售。请咨询销售商或{owner}。"),
            ),
            (Verdict::Recalled, _) => (
                Tone::Stop,
                "已召回，请勿使用",
                format!("{owner}已召回本产品所属批次。请联系销售商或{owner}处理。"),
            ),
            (Verdict::Revoked, _) => (
                Tone::Stop,
                "此码已作废，不应出现在商品上",
                format!(
                    "此码由{owner}签发，后已作废；印刷损坏或遗失的标签会这样处理。使用前请先咨询销售商或{owner}。"
                ),
            ),
            (Verdict::Expired, _) => (
                Tone::Stop,
                "已过有效期",
                format!(
                    "此码由{owner}签发。{}使用前请先咨询销售商或{owner}。",
                    match &self.expires {
                        Some(date) => format!("{owner}登记的有效期至{}，现已过期。", day(Lang::Zh, date)),
                        None => format!("按{owner}的登记，本包装已过有效期。"),
                    }
                ),
            ),
            (Verdict::Unknown, _) => (
                Tone::Ask,
                "查无此码",
                "本网络没有成员签发过此码。可能是读码有误：请重新扫描，或按印刷内容输入。如仍查不到，请咨询销售商。".to_owned(),
            ),
            (Verdict::CannotVerifyNow, _) if self.look => (
                Tone::Wait,
                "暂时无法查验",
                format!("暂时联系不上{owner}，这不代表您的产品有问题。请过几分钟再试。"),
            ),
            (Verdict::CannotVerifyNow, _) => (
                Tone::Wait,
                "暂时无法查验",
                format!(
                    "暂时联系不上{owner}，这不代表您的产品有问题。您的查验已保存，我们会再次询问{owner}；请稍后再打开本页查看结果。"
                ),
            ),
        }
    }
}

fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

#[cfg(test)]
mod tests {
    use tally_trace::score::ReasonKind;

    use super::*;
    use crate::scans::Place;

    const SEVERAL: [Reason; 12] = {
        let mut all = [Reason {
            kind: ReasonKind::Visits,
            count: 3,
        }; 12];
        let mut i = 0;
        while i < 12 {
            all[i].kind = ReasonKind::ALL[i];
            i += 1;
        }
        all
    };

    fn first() -> First {
        First {
            time_ms: 1_772_719_380_000,
            place: Place::new("CN", "Sichuan").ok(),
        }
    }

    fn said<'a>(verdict: Verdict, count: u64, first: &'a First) -> Said<'a> {
        Said {
            verdict,
            count,
            first: Some(first),
            owner: Some("Highland"),
            look: false,
            claim: ClaimCheck::Absent,
            reasons: &SEVERAL,
            expires: "261231".parse().ok(),
            own: None,
        }
    }

    #[test]
    fn words_say_what_is_known() {
        let first = first();
        let repeat = said(Verdict::GenuineRepeat, 3, &first);
        let text = repeat.words(Lang::En).text;
        assert!(
            text.contains(
                "checked twice before, first on 5 March 2026, 14:03 UTC in Sichuan, China"
            ),
            "{text}"
        );
        let text = repeat.words(Lang::Zh).text;
        assert!(
            text.contains(
                "查验2次，首次查验时间为2026年3月5日 22:03（北京时间），地点中国 Sichuan"
            ),
            "{text}"
        );
        let look = Said {
            look: true,
            ..repeat
        };
        assert!(look.words(Lang::En).text.contains("checked 3 times before"));
        // A claim code added to the visitor's own first check.
        let own = Said {
            count: 2,
            claim: ClaimCheck::Right,
            own: Some(Verdict::GenuineFirst),
            ..repeat
        };
        assert!(
            own.words(Lang::En)
                .text
                .contains("nobody checked this pack before you")
        );
        let own = Said {
            own: Some(Verdict::GenuineRepeat),
            ..Said { count: 3, ..own }
        };
        assert!(
            own.words(Lang::En)
                .text
                .contains("checked once before, first")
        );
    }

    #[test]
    fn nobody_is_accused() {
        let first = first();
        for verdict in Verdict::ALL {
            for claim in ClaimCheck::ALL {
                for (look, owner) in [(false, Some("Highland")), (true, None)] {
                    let said = Said {
                        look,
                        owner,
                        claim: *claim,
                        ..said(*verdict, 2, &first)
                    };
                    let mut headlines = Vec::new();
                    for lang in Lang::ALL {
                        let words = said.words(lang);
                        let all = format!("{} {}", words.headline, words.text).to_lowercase();
                        for word in [
                            "fake",
                            "counterfeit",
                            "fraud",
                            "criminal",
                            "copied",
                            "假",
                            "伪",
                            "仿冒",
                            "欺诈",
                            "盗",
                        ] {
                            assert!(!all.contains(word), "{verdict:?}: {word}");
                        }
                        assert!(!words.text.contains("  "), "{}", words.text);
                        headlines.push((words.tone, words.headline));
                    }
                    // Both languages say the same, in the same shape.
                    assert_eq!(headlines[0].0, headlines[1].0);
                    assert_ne!(headlines[0].1, headlines[1].1);
                }
            }
        }
    }
}
