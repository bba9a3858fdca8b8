//! The two languages of the pages, and which one a visitor gets.

use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::{HeaderMap, Uri};

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lang {
    /// English.
    #[default]
    En,
    /// Chinese, simplified.
    Zh,
}

/// The language of a page, and whether the visitor chose it by the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Choice {
    pub(super) lang: Lang,
    pub(super) chosen: bool,
}

impl Lang {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// The key of the switch: `?lang=zh`.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// The BCP 47 tag of the text.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-Hans",
        }
    }

    /// What it calls itself.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Zh => "中文",
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::En => Self::Zh,
            Self::Zh => Self::En,
        }
    }

    /// The one of `text` or of `zh`.
    pub(super) const fn pick<T: Copy>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| is_same(tag, lang.key()))
    }

    /// The one that the header likes best; `None` if it names neither.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        ranked(headers).into_iter().find_map(Self::of_tag)
    }
}

/// Whether two tags are of one language, whatever its writing and country.
pub(super) fn is_same(tag: &str, other: &str) -> bool {
    let primary = |tag: &str| {
        tag.split('-')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    primary(tag) == primary(other)
}

/// The tags of the header, the one liked best first; of those liked alike, in its order. Those not wanted are left out.
pub(super) fn ranked(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(ACCEPT_LANGUAGE);
    let mut ranges: Vec<(&str, f32)> = lines
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|range| range.split_once(';').unwrap_or((range, "")))
        .map(|(tag, parameters)| (tag.trim(), quality(parameters)))
        .filter(|(_, q)| *q > 0.0)
        .collect();
    ranges.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranges.into_iter().map(|(tag, _)| tag).collect()
}

/// The language that the query asks for, as it stands there.
pub(super) fn chosen_tag(uri: &Uri) -> Option<&str> {
    uri.query()?
        .split('&')
        .find_map(|pair| pair.strip_prefix("lang="))
}

/// The weight in `q=0.8`; 1 if there is none, 0 if it is none.
pub(super) fn quality(parameters: &str) -> f32 {
    parameters
        .split(';')
        .find_map(|p| p.trim().strip_prefix("q="))
        .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0))
}

impl Choice {
    /// By the switch, or else by `Accept-Language`, or else English.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let chosen = uri
            .query()
            .into_iter()
            .flat_map(|q| q.split('&'))
            .filter_map(|pair| pair.strip_prefix("lang="))
            .find_map(Lang::of_tag);
        Self {
            lang: chosen
                .or_else(|| Lang::accepted(headers))
                .unwrap_or_default(),
            chosen: chosen.is_some(),
        }
    }

    /// What a link or form of a page adds to its path, so that a choice stays.
    pub(super) const fn query(self) -> &'static str {
        match (self.chosen, self.lang) {
            (false, _) => "",
            (true, Lang::En) => "?lang=en",
            (true, Lang::Zh) => "?lang=zh",
        }
    }
}

/// The query without `lang`, and with that of `lang` if it is given: empty, or `?` and more.
pub(super) fn query_with(uri: &Uri, lang: Option<Lang>) -> String {
    let kept = uri
        .query()
        .into_iter()
        .flat_map(|q| q.split('&'))
        .filter(|pair| !pair.is_empty() && !pair.starts_with("lang="))
        .map(str::to_owned);
    let all: Vec<String> = kept
        .chain(lang.map(|lang| format!("lang={}", lang.key())))
        .collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("?{}", all.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_language_is_found() {
        for (header, expected) in [
            ("zh-CN,zh;q=0.9,en;q=0.8", Some(Lang::Zh)),
            ("en-GB, zh;q=0.5", Some(Lang::En)),
            ("fr, zh-TW;q=0.3, en;q=0.2", Some(Lang::Zh)),
            ("ZH", Some(Lang::Zh)),
            ("fr, *", None),
            ("en;q=0", None),
            ("en;q=x", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, header.parse().expect("header"));
            assert_eq!(Lang::accepted(&headers), expected, "{header}");
        }
    }

    #[test]
    fn the_switch_wins_and_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, "en".parse().expect("header"));
        let choice = |uri: &str| Choice::of(&uri.parse().expect("uri"), &headers);
        assert_eq!(choice("/?17=270101&lang=zh").query(), "?lang=zh");
        assert_eq!(choice("/?lang=fr"), Choice::default());
        assert_eq!(choice("/").query(), "");
        let uri = "/x?17=270101&lang=zh&y".parse().expect("uri");
        assert_eq!(query_with(&uri, Some(Lang::En)), "?17=270101&y&lang=en");
        assert_eq!(query_with(&"/?lang=zh".parse().expect("uri"), None), "");
    }
}
