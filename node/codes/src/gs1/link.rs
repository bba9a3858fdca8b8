//! Digital Link URIs, read and written in their uncompressed form.

use super::ai::{entry, sequences, validate};
use super::charset::{escape, is_set_82, is_uri, unescape};
use super::{Gtin, ai};
use crate::Error;

/// Longest URI read, in bytes.
const MAX_URI: usize = 2048;

/// What is accepted beyond the standard; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// GTIN-8, -12 and -13 without the zeros that make them 14 digits long. Never written.
    pub short_gtin: bool,
    /// Names in place of numbers in the path, `gtin` for 01 say, as the first versions of the standard had them. Never written.
    pub names: bool,
    /// Attributes of identifiers that are not in the table, of two to four digits and set 82.
    pub unknown_attributes: bool,
}

/// An application identifier and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The identifier.
    pub ai: String,
    /// The value, percent coding undone, valid for the identifier.
    pub value: String,
}

/// A valid link: a primary key, its qualifiers in their order, and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitalLink {
    elements: Vec<Element>,
    /// How many of them stand in the path, from the first.
    in_path: usize,
}

const fn link<T>(what: &'static str) -> Result<T, Error> {
    Err(Error::Link { what })
}

fn element<T>(ai: &str, what: &'static str) -> Result<T, Error> {
    Err(Error::Element {
        ai: ai.chars().take(32).collect(),
        what,
    })
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl DigitalLink {
    /// Reads a URI. The right-most primary key in the path counts, so that what stands before it may hold digits; the fragment is
    /// ignored, and so are query keys that are not numbers.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Element`].
    pub fn parse(uri: &str, options: LinkOptions) -> Result<Self, Error> {
        if uri.len() > MAX_URI {
            return link("URI is over 2,048 bytes");
        }
        if !uri.bytes().all(is_uri) {
            return link("a character may not stand in a URI");
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return link("no scheme");
        };
        if !matches!(scheme, "http" | "https" | "HTTP" | "HTTPS") {
            return link("scheme is not http or https");
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some((host, path)) = rest.split_once('/') else {
            return link("no path");
        };
        if host.is_empty()
            || !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
        {
            return link("not a host");
        }
        let elements = path_elements(path, options)?;
        let mut link = Self {
            in_path: elements.len(),
            elements,
        };
        link.check_path()?;
        for pair in query.split('&') {
            let Some((key, value)) = pair.split_once('=') else {
                continue;
            };
            let key = unescape(key, true);
            let Ok(key) = std::str::from_utf8(&key) else {
                continue;
            };
            if is_numeric(key) {
                link.elements.push(read(key, value, true, options)?);
            }
        }
        link.check_attributes(options)?;
        Ok(link)
    }

    /// Makes a link of elements in any order: the first primary key leads, then its qualifiers, and what remains become
    /// attributes. An element that is there twice with one value is taken once.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Element`].
    pub fn from_elements(elements: &[(&str, &str)], options: LinkOptions) -> Result<Self, Error> {
        let mut rest: Vec<Element> = Vec::new();
        for (ai, value) in elements {
            check(ai, value, options).or_else(|what| element(ai, what))?;
            let new = Element {
                ai: (*ai).to_owned(),
                value: (*value).to_owned(),
            };
            if !rest.contains(&new) {
                rest.push(new);
            }
        }
        let Some(at) = rest.iter().position(|e| sequences(&e.ai).is_some()) else {
            return link("no primary key");
        };
        let mut path = vec![rest.remove(at)];
        let all = path
            .first()
            .and_then(|key| sequences(&key.ai))
            .unwrap_or_default();
        let sequence = all
            .iter()
            .find(|s| rest.iter().any(|e| s.contains(&e.ai.as_str())));
        for qualifier in sequence.into_iter().flat_map(|s| s.iter()) {
            if let Some(at) = rest.iter().position(|e| e.ai == *qualifier) {
                path.push(rest.remove(at));
            }
        }
        let in_path = path.len();
        // As in an element string: elements of known length first.
        rest.sort_by_key(|e| !ai::has_known_length(&e.ai));
        path.append(&mut rest);
        let link = Self {
            elements: path,
            in_path,
        };
        link.check_path()?;
        link.check_attributes(options)?;
        Ok(link)
    }

    /// Writes the link after `stem`, which is `https://host[:port][/stem]`.
    #[must_use]
    pub fn to_uri(&self, stem: &str) -> String {
        let mut out = stem.trim_end_matches('/').to_owned();
        for (i, e) in self.elements.iter().enumerate() {
            let query = i >= self.in_path;
            let (before, between) = match (query, i == self.in_path) {
                (false, _) => ('/', '/'),
                (true, true) => ('?', '='),
                (true, false) => ('&', '='),
            };
            out.push(before);
            out.push_str(&e.ai);
            out.push(between);
            escape(&e.value, query, &mut out);
        }
        out
    }

    /// The primary key and its qualifiers, as they stand in the path; never empty.
    #[must_use]
    pub fn path(&self) -> &[Element] {
        self.elements.get(..self.in_path).unwrap_or_default()
    }

    /// The attributes, as they stand in the query.
    #[must_use]
    pub fn attributes(&self) -> &[Element] {
        self.elements.get(self.in_path..).unwrap_or_default()
    }

    /// The value of an identifier, wherever it stands.
    #[must_use]
    pub fn value(&self, ai: &str) -> Option<&str> {
        self.elements
            .iter()
            .find_map(|e| (e.ai == ai).then_some(e.value.as_str()))
    }

    /// The GTIN, if that is the primary key.
    #[must_use]
    pub fn gtin(&self) -> Option<Gtin> {
        self.elements
            .first()
            .filter(|e| e.ai == "01")
            .and_then(|e| e.value.parse().ok())
    }

    /// The serial (AI 21) in the path.
    #[must_use]
    pub fn serial(&self) -> Option<&str> {
        self.path()
            .iter()
            .find_map(|e| (e.ai == "21").then_some(e.value.as_str()))
    }

    /// The lot (AI 10).
    #[must_use]
    pub fn lot(&self) -> Option<&str> {
        self.value("10")
    }

    /// The qualifiers must be some of one sequence, in its order.
    fn check_path(&self) -> Result<(), Error> {
        let Some((key, qualifiers)) = self.path().split_first() else {
            return link("no primary key");
        };
        let Some(all) = sequences(&key.ai) else {
            return element(&key.ai, "not a primary key");
        };
        if let Some(q) = qualifiers
            .iter()
            .find(|q| !all.iter().any(|s| s.contains(&q.ai.as_str())))
        {
            return element(&q.ai, "not a qualifier of this primary key");
        }
        let in_order = |sequence: &[&str]| {
            let mut left = sequence.iter();
            qualifiers.iter().all(|q| left.any(|ai| *ai == q.ai))
        };
        if qualifiers.is_empty() || all.iter().any(|s| in_order(s)) {
            Ok(())
        } else {
            link("qualifiers are repeated, out of order or do not go together")
        }
    }

    /// No identifier twice; none in the query that belongs in this path.
    fn check_attributes(&self, options: LinkOptions) -> Result<(), Error> {
        let (path, attributes) = (self.path(), self.attributes());
        let all = path
            .first()
            .and_then(|key| sequences(&key.ai))
            .unwrap_or_default();
        for (i, e) in attributes.iter().enumerate() {
            if path
                .iter()
                .chain(attributes.iter().take(i))
                .any(|other| other.ai == e.ai)
            {
                return element(&e.ai, "stands there twice");
            }
            let allowed =
                ai::entry(&e.ai).map_or(options.unknown_attributes, |entry| entry.attribute);
            if !allowed {
                return element(&e.ai, "may not stand in the query");
            }
            let belongs = |s: &&[&str]| {
                s.contains(&e.ai.as_str())
                    && path.iter().skip(1).all(|q| s.contains(&q.ai.as_str()))
            };
            if all.iter().any(belongs) {
                return element(
                    &e.ai,
                    "is a qualifier of the primary key and belongs in the path",
                );
            }
        }
        Ok(())
    }
}

/// The pairs of the path from its right-most primary key on.
fn path_elements(path: &str, options: LinkOptions) -> Result<Vec<Element>, Error> {
    let segments: Vec<&str> = path.split('/').collect();
    if segments.last().is_some_and(|s| s.is_empty()) {
        return link("path ends in a slash");
    }
    let mut pairs = Vec::new();
    for pair in segments.rchunks_exact(2) {
        let [key, value] = *pair else { continue };
        let key = if options.names { number_of(key) } else { key };
        pairs.push((key, value));
        if sequences(key).is_some() {
            return pairs
                .into_iter()
                .rev()
                .map(|(key, value)| read(key, value, false, options))
                .collect();
        }
    }
    link("no primary key in the path")
}

/// The number that a name stands for; other text is given back.
fn number_of(name: &str) -> &str {
    match name {
        "sscc" => "00",
        "gtin" => "01",
        "gdti" => "253",
        "gcn" => "255",
        "ginc" => "401",
        "gsin" => "402",
        "gln" => "414",
        "payTo" => "415",
        "partyGln" => "417",
        "grai" => "8003",
        "giai" => "8004",
        "itip" => "8006",
        "cpid" => "8010",
        "gmn" => "8013",
        "gsrnp" => "8017",
        "gsrn" => "8018",
        "cpv" => "22",
        "lot" => "10",
        "ser" => "21",
        "glnx" => "254",
        "cpsn" => "8011",
        "srin" => "8019",
        "refno" => "8020",
        other => other,
    }
}

/// Checks a value by the table; one of an unknown identifier by what all have in common, if that is allowed.
fn check(ai: &str, value: &str, options: LinkOptions) -> Result<(), &'static str> {
    if options.unknown_attributes && entry(ai).is_none() && ai::may_be_new(ai) {
        return if (1..=90).contains(&value.len()) && value.bytes().all(is_set_82) {
            Ok(())
        } else {
            Err("expected 1 to 90 characters of set 82")
        };
    }
    validate(ai, value)
}

fn read(ai: &str, value: &str, query: bool, options: LinkOptions) -> Result<Element, Error> {
    let Ok(mut value) = String::from_utf8(unescape(value, query).into_owned()) else {
        return element(ai, "value is not of GS1's characters");
    };
    if options.short_gtin && ai == "01" && matches!(value.len(), 8 | 12 | 13) {
        value = format!("{value:0>14}");
    }
    match check(ai, &value, options) {
        Ok(()) => Ok(Element {
            ai: ai.to_owned(),
            value,
        }),
        Err(what) => element(ai, what),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The vectors made by others, if they are there.
    pub(in crate::gs1) fn vectors() -> Option<Value> {
        let root = std::env::var_os("TALLY_VECTORS").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
            Into::into,
        );
        let path = root.join("gs1/digital-link.json");
        match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
            Err(_) => {
                assert_ne!(
                    std::env::var("CI_STRICT").as_deref(),
                    Ok("1"),
                    "nothing may be skipped: no vectors of Digital Links"
                );
                println!("skipped: no gs1/digital-link.json under TALLY_VECTORS");
                None
            }
        }
    }

    /// The element string of a link, `^` for FNC1: it ends each element whose length is not known from its first two digits.
    fn element_string(link: &DigitalLink) -> String {
        let mut out = String::from("^");
        let mut open = false;
        for e in &link.elements {
            if open {
                out.push('^');
            }
            out.push_str(&e.ai);
            out.push_str(&e.value);
            open = !ai::has_known_length(&e.ai);
        }
        out
    }

    /// Counts acceptances and refusals apart.
    #[derive(Default)]
    pub(in crate::gs1) struct Score {
        accepted: usize,
        refused: usize,
    }

    impl Score {
        pub(in crate::gs1) fn add(&mut self, found: bool, expected: bool, case: &str) {
            assert_eq!(found, expected, "{case}");
            if found {
                self.accepted += 1;
            } else {
                self.refused += 1;
            }
        }

        /// A set that only accepts or only refuses would prove little.
        pub(in crate::gs1) fn check(&self, what: &str) {
            println!(
                "{what}: {} accepted, {} refused",
                self.accepted, self.refused
            );
            assert!(self.accepted > 0 && self.refused > 0, "{what}");
        }
    }

    /// `(01)..(21)..` taken apart; `\\(` stands for a bracket in a value.
    pub(in crate::gs1) fn bracketed(text: &str) -> Vec<(String, String)> {
        let text = text.replace("\\(", "\0");
        text.split('(')
            .skip(1)
            .map(|e| e.split_once(')').unwrap())
            .map(|(ai, value)| (ai.to_owned(), value.replace('\0', "(")))
            .collect()
    }

    /// The options that a vector's settings of the reference implementation mean.
    fn options(v: &Value) -> LinkOptions {
        let state = |name: &str, default| v["state"][name].as_bool().unwrap_or(default);
        LinkOptions {
            short_gtin: state("PermitZeroSuppressedGTINinDLuris", false),
            names: state("convenienceAlphas", false),
            unknown_attributes: state("PermitUnknownAIs", false)
                && !state("gs1_encoder_vUNKNOWN_AI_NOT_DL_ATTR", true),
        }
    }

    #[test]
    fn uris_are_read_as_the_vectors_say() {
        let Some(vectors) = vectors() else { return };
        let mut score = Score::default();
        for v in vectors["test_dl_parseDLuri"].as_array().unwrap() {
            let uri = v["uri"].as_str().unwrap();
            let options = options(v);
            let read = DigitalLink::parse(uri, options);
            score.add(
                read.is_ok(),
                v["ok"].as_bool().unwrap(),
                &format!("{uri} {read:?}"),
            );
            let Ok(link) = read else { continue };
            assert_eq!(element_string(&link), v["ai"].as_str().unwrap(), "{uri}");
            // What an option let in is not let in without it, and what was short or named is written in full.
            assert!(
                options == LinkOptions::default()
                    || DigitalLink::parse(uri, LinkOptions::default()).is_err(),
                "{uri}"
            );
            let written = link.to_uri("https://example.com/x/");
            let plain = LinkOptions {
                unknown_attributes: options.unknown_attributes,
                ..LinkOptions::default()
            };
            assert_eq!(DigitalLink::parse(&written, plain), Ok(link), "{written}");
        }
        score.check("link parsing");
    }

    #[test]
    fn uris_are_written_as_the_vectors_say() {
        let Some(vectors) = vectors() else { return };
        let mut score = Score::default();
        for v in vectors["test_dl_generateDLuri"].as_array().unwrap() {
            let elements = bracketed(v["ai"].as_str().unwrap());
            let elements: Vec<(&str, &str)> = elements
                .iter()
                .map(|(ai, value)| (ai.as_str(), value.as_str()))
                .collect();
            let stem = v["stem"]
                .as_str()
                .filter(|s| *s != "NULL")
                .unwrap_or("https://id.gs1.org");
            let made = DigitalLink::from_elements(&elements, options(v)).map(|l| l.to_uri(stem));
            score.add(
                made.is_ok(),
                v["ok"].as_bool().unwrap(),
                &format!("{elements:?} {made:?}"),
            );
            if let Ok(uri) = made {
                assert_eq!(uri, v["uri"].as_str().unwrap());
            }
        }
        score.check("link writing");
    }

    #[test]
    fn rules_of_the_standard() {
        let ok = |uri: &str| DigitalLink::parse(uri, LinkOptions::default()).is_ok();
        let g = "https://a/01/09521234543213";
        for good in [
            "",
            "/22/A/10/B/21/C",
            "/10/B",
            "/10/B/21/C",
            "/235/T?10=B",
            "?17=261200",
            "?10x=1",
            "/21/a+b",
            "#/x",
            "?x",
            "/21/01",
        ] {
            assert!(ok(&format!("{g}{good}")), "{good}");
        }
        for bad in [
            "/",
            "/21/C/10/B",
            "/21/C/21/C",
            "/235/T/21/C",
            "/21/",
            "?21=C",
            "/10/B?21=C",
            "/235/T?235=T",
            "?8019=1",
            "?22=A",
            "?8200=x",
            "?235=T",
            "?17=261301",
            "?89=1",
            "?17=261200&17=261200",
            "/21/a%20b",
            "/21/a%C3%A9",
            "/21/A?01=09521234543213",
            "/foo/bar",
            "/21/123456789012345678901",
            "/21",
            "/x",
        ] {
            assert!(!ok(&format!("{g}{bad}")), "{bad}");
        }
        for (uri, options) in [
            (
                "https://a/gtin/09521234543213/lot/B/ser/C",
                LinkOptions {
                    names: true,
                    ..LinkOptions::default()
                },
            ),
            (
                "https://a/01/9521234543213",
                LinkOptions {
                    short_gtin: true,
                    ..LinkOptions::default()
                },
            ),
            (
                "https://a/01/09521234543213?89=A",
                LinkOptions {
                    unknown_attributes: true,
                    ..LinkOptions::default()
                },
            ),
        ] {
            assert!(
                !ok(uri) && DigitalLink::parse(uri, options).is_ok(),
                "{uri}"
            );
        }
        let unknown = LinkOptions {
            unknown_attributes: true,
            ..LinkOptions::default()
        };
        // 17 has two digits, 31 four: no identifier of another length begins so.
        for bad in [
            "?172=A", "?31=A", "?89=", "?89=%20", "/89/A", "?1=A", "?12345=A", "?21=A",
        ] {
            assert!(
                DigitalLink::parse(&format!("{g}{bad}"), unknown).is_err(),
                "{bad}"
            );
        }
        for bad in [
            "ftp://a/01/09521234543213",
            "Https://a/01/09521234543213",
            "https:///01/09521234543213",
            "https://a/01/09521234543214",
            "https://a/1/09521234543213",
            "https://u@a/01/09521234543213",
            "https://a/01/9521234543213",
        ] {
            assert!(!ok(bad), "{bad}");
        }
        let stem = DigitalLink::parse(
            "https://a/00/01/1234/01/09521234543213/21/X",
            LinkOptions::default(),
        )
        .unwrap();
        assert_eq!(
            (stem.path().len(), stem.serial(), stem.lot()),
            (2, Some("X"), None)
        );
        assert!(!ok(&format!("{g}?99={}", "x".repeat(MAX_URI))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(https://a/)?(01/09521234543213|414/9520123456788|[0-9]{1,4}/[ -~]{0,9})(/[0-9]{2,4}/[!-~]{1,9}){0,3}([?&][0-9a-z]{1,4}=[!-~]{0,9}){0,3}") {
            if let Ok(link) = DigitalLink::parse(&text, LinkOptions::default()) {
                prop_assert_eq!(DigitalLink::parse(&link.to_uri("https://b"), LinkOptions::default()), Ok(link));
            }
        }

        #[test]
        fn garbage_is_refused(text in "\\PC{0,80}") {
            let _ = DigitalLink::parse(&text, LinkOptions { short_gtin: true, names: true, unknown_attributes: true });
        }

        #[test]
        fn every_serial_of_set_82_survives(serial in "[!\"%&'()*+,./0-9:;<=>?A-Z_a-z-]{1,20}") {
            let link = DigitalLink::from_elements(&[("21", &serial), ("01", "09521234543213")], LinkOptions::default()).unwrap();
            let read = DigitalLink::parse(&link.to_uri("https://b/c"), LinkOptions::default()).unwrap();
            prop_assert_eq!(read.serial(), Some(serial.as_str()));
        }
    }
}
