//! Links that a brand gives for its products beside the node's own pages: a file of the operator, one `[[link]]` each.

use std::collections::HashMap;

use serde::Deserialize;
use tally_contracts::records::Gtin;

/// Most links of one file.
const MAX_LINKS: usize = 10_000;
/// Longest URL, in bytes.
const MAX_URL: usize = 2000;
/// Longest title, in bytes.
const MAX_TITLE: usize = 200;

/// Why a file of links is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProductLinksError {
    /// No TOML, an unknown key, or one that is missing.
    #[error("{reason}")]
    Toml {
        /// What the parser says.
        reason: String,
    },
    /// A value that is none.
    #[error("link {number}: {key}: expected {expected}")]
    Value {
        /// Which link, from 1.
        number: usize,
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// Too many.
    #[error("{found} links, expected at most {MAX_LINKS}")]
    TooMany {
        /// How many.
        found: usize,
    },
}

/// One link of a product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductLink {
    gtin: String,
    /// The link type, by its name in GS1's vocabulary.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Where it leads.
    pub(super) url: String,
    /// What people see of it.
    pub(super) title: String,
    /// The language of what is there, a BCP 47 tag; empty if that is of no matter.
    #[serde(default)]
    pub(super) lang: String,
    /// Its media type.
    #[serde(default = "html")]
    pub(super) media: String,
}

fn html() -> String {
    "text/html".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    link: Vec<ProductLink>,
}

/// The links of all products, by GTIN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductLinks(HashMap<String, Vec<ProductLink>>);

impl ProductLinks {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ProductLinksError`].
    pub fn parse(text: &str) -> Result<Self, ProductLinksError> {
        let file: File = toml::from_str(text).map_err(|error| ProductLinksError::Toml {
            reason: error.message().to_owned(),
        })?;
        if file.link.len() > MAX_LINKS {
            let found = file.link.len();
            return Err(ProductLinksError::TooMany { found });
        }
        let mut all: HashMap<String, Vec<ProductLink>> = HashMap::new();
        for (i, link) in file.link.into_iter().enumerate() {
            link.check()
                .map_err(|(key, expected)| ProductLinksError::Value {
                    number: i + 1,
                    key,
                    expected,
                })?;
            all.entry(link.gtin.clone()).or_default().push(link);
        }
        Ok(Self(all))
    }

    /// Those of a product, in the order of the file.
    pub(super) fn of(&self, gtin: &str) -> &[ProductLink] {
        self.0.get(gtin).map_or(&[], Vec::as_slice)
    }
}

impl ProductLink {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.gtin.parse::<Gtin>().is_err() {
            return Err(("gtin", "14 digits with a check digit"));
        }
        let kind = self.kind.as_bytes();
        if !kind.first().is_some_and(u8::is_ascii_lowercase)
            || !kind.iter().all(u8::is_ascii_alphanumeric)
            || kind.len() > 64
        {
            return Err((
                "type",
                "a link type of GS1's vocabulary, without its prefix",
            ));
        }
        // Whoever verifies a pack must come to the node.
        if matches!(
            self.kind.as_str(),
            "defaultLink" | "verificationService" | "all" | "linkset"
        ) {
            return Err(("type", "another than those of the node itself"));
        }
        let after = ["https://", "http://"]
            .iter()
            .find_map(|scheme| self.url.strip_prefix(scheme));
        let is_plain = |b: u8| b.is_ascii_graphic() && !b"<>\"'\\^`{|}".contains(&b);
        if after.is_none_or(|host| host.is_empty() || host.starts_with('/'))
            || self.url.len() > MAX_URL
            || !self.url.bytes().all(is_plain)
            || self.url.contains('#')
        {
            let expected = "http(s)://..., at most 2,000 bytes, percent-coded, without a fragment";
            return Err(("url", expected));
        }
        if self.title.trim().is_empty()
            || self.title.len() > MAX_TITLE
            || self.title.chars().any(char::is_control)
        {
            return Err(("title", "1 to 200 bytes of plain text"));
        }
        let is_tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if self.lang.len() > 35 || !self.lang.bytes().all(is_tag) {
            return Err(("lang", "a tag of BCP 47, as in \"en\""));
        }
        if self.media.len() > 100
            || !self.media.contains('/')
            || !self.media.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(("media", "a media type"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[link]]\ngtin = \"09521234543213\"\ntype = \"promotion\"\n\
                        url = \"https://brand.example/tea\"\ntitle = \"Tea days\"\n";

    #[test]
    fn links_are_read_and_what_is_none_is_named() {
        let links = ProductLinks::parse(GOOD).expect("links");
        let [link] = links.of("09521234543213") else {
            panic!("{links:?}");
        };
        assert_eq!((&*link.kind, &*link.media), ("promotion", "text/html"));
        assert!(links.of("09506000134352").is_empty());
        assert_eq!(
            ProductLinks::parse("").expect("none"),
            ProductLinks::default()
        );
        for (from, to, key) in [
            ("09521234543213", "09521234543214", "gtin"),
            ("promotion", "Promotion", "type"),
            ("promotion", "gs1:promotion", "type"),
            ("promotion", "verificationService", "type"),
            ("https://brand", "javascript://brand", "url"),
            ("https://brand.example/tea", "https:///tea", "url"),
            ("example/tea", "example/a b", "url"),
            ("example/tea", "example/<tea>", "url"),
            ("example/tea", "example/tea#x", "url"),
            ("Tea days", " ", "title"),
            ("Tea days", "a\\nb", "title"),
        ] {
            let text = format!("{GOOD}{}", GOOD.replace(from, to));
            match ProductLinks::parse(&text) {
                Err(ProductLinksError::Value {
                    number: 2,
                    key: found,
                    ..
                }) => {
                    assert_eq!(found, key, "{to}");
                }
                other => panic!("{to}: {other:?}"),
            }
        }
        for bad in ["lang = \"e n\"", "media = \"pdf\""] {
            assert!(
                ProductLinks::parse(&format!("{GOOD}{bad}\n")).is_err(),
                "{bad}"
            );
        }
        for bad in ["hreflang = \"en\"", "= 1"] {
            let error = ProductLinks::parse(&format!("{GOOD}{bad}\n"));
            assert!(
                matches!(error, Err(ProductLinksError::Toml { .. })),
                "{bad}"
            );
        }
        let many = GOOD.repeat(MAX_LINKS + 1);
        assert!(matches!(
            ProductLinks::parse(&many),
            Err(ProductLinksError::TooMany { found }) if found == MAX_LINKS + 1
        ));
    }
}
