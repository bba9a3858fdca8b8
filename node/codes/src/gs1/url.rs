//! The link that is printed for a unit code.

use super::Gtin;
use super::charset::is_uri;
use super::rules::is_short_date;
use crate::Error;
use crate::qr::{version_for, version_for_segments};
use crate::unit::{SERIAL_LEN, Serial};

/// Longest address, in characters.
const MAX_BASE: usize = 200;
/// `/01/`, the GTIN, `/21/` and the serial.
const TAIL: usize = 4 + 14 + 4 + SERIAL_LEN;
/// What stands before the expiry date.
const EXPIRY: &str = "?17=";
const DATE: usize = 6;
/// The QR version from which an issuer is warned: up to version 3 a symbol of 29 modules holds the link.
const GOOD_VERSION: u8 = 3;

/// The largest QR version that a link with its expiry date may need: 33 modules.
const DATED_VERSION: u8 = 4;

/// What printed links begin with: scheme, host and port, in upper case, so that QR's alphanumeric mode holds them; and the expiry date
/// that they end with, if they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlBase {
    address: String,
    expiry: Option<[u8; DATE]>,
}

impl UrlBase {
    /// Takes `https://host[:port][/stem]` in either case; `http` too, for a test network. Host names have no case; a stem does, so it
    /// must be upper case already.
    ///
    /// # Errors
    /// [`Error::UrlBase`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |what| Err(Error::UrlBase { what });
        if text.len() > MAX_BASE || !text.bytes().all(is_uri) {
            return bad("expected at most 200 characters of a URI");
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let Some((scheme, rest)) = text.split_once("://") else {
            return bad("expected https://host");
        };
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return bad("expected the scheme https or http");
        }
        let (host, stem) = rest
            .split_once('/')
            .map_or((rest, None), |(h, s)| (h, Some(s)));
        let (name, port) = host
            .split_once(':')
            .map_or((host, None), |(n, p)| (n, Some(p)));
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
        {
            return bad("expected a host of letters, digits, points and hyphens");
        }
        if port.is_some_and(|p| p.parse::<u16>().is_err() || p.starts_with('+')) {
            return bad("expected a port of 0 to 65535");
        }
        let in_stem = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b".-/".contains(&b);
        if stem.is_some_and(|s| s.split('/').any(str::is_empty) || !s.bytes().all(in_stem)) {
            return bad("expected a path of upper-case letters, digits, points and hyphens");
        }
        Ok(Self {
            address: text.to_ascii_uppercase(),
            expiry: None,
        })
    }

    /// The same with links that end in `?17=YYMMDD`, the expiry date of GS1 AI (17). A question mark is not in QR's alphanumeric mode, so
    /// this takes 78 bits, 41 more than any version 3-M symbol has left.
    ///
    /// # Errors
    /// [`Error::UrlBase`] if it is no date.
    pub fn with_expiry(mut self, date: &str) -> Result<Self, Error> {
        let digits = <[u8; DATE]>::try_from(date.as_bytes()).ok();
        self.expiry = digits.filter(|d| is_short_date(d, true));
        if self.expiry.is_none() {
            return Err(Error::UrlBase {
                what: "expected an expiry date YYMMDD",
            });
        }
        Ok(self)
    }

    /// Whether links with an expiry date still fit a QR symbol of version 4-M: the address has at most 26 characters after `https://`.
    #[must_use]
    pub fn has_room_for_expiry(&self) -> bool {
        version_for_segments(self.address.len() + TAIL, EXPIRY.len(), DATE)
            .is_some_and(|version| version <= DATED_VERSION)
    }

    /// The address, upper case, without a slash at its end and without the expiry date.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// The link of a unit code: `HTTPS://HOST/01/<GTIN>/21/<serial>`, and `?17=YYMMDD` if there is an expiry date.
    #[must_use]
    pub fn url(&self, gtin: &Gtin, serial: Serial) -> String {
        let mut out = Vec::with_capacity(self.url_len());
        self.write_url(&mut out, gtin, &serial.to_chars());
        String::from_utf8(out).unwrap_or_default()
    }

    pub(crate) fn write_url(&self, out: &mut Vec<u8>, gtin: &Gtin, serial: &[u8; SERIAL_LEN]) {
        out.extend_from_slice(self.address.as_bytes());
        out.extend_from_slice(b"/01/");
        out.extend_from_slice(gtin.as_bytes());
        out.extend_from_slice(b"/21/");
        out.extend_from_slice(serial);
        if let Some(date) = &self.expiry {
            out.extend_from_slice(EXPIRY.as_bytes());
            out.extend_from_slice(date);
        }
    }

    /// Where the serial begins in every link.
    pub(crate) const fn serial_at(&self) -> usize {
        self.address.len() + TAIL - SERIAL_LEN
    }

    /// Characters of every link.
    #[must_use]
    pub const fn url_len(&self) -> usize {
        let tail = if self.expiry.is_some() {
            TAIL + EXPIRY.len() + DATE
        } else {
            TAIL
        };
        self.address.len() + tail
    }

    /// The QR version that holds every link at error correction level M in alphanumeric mode, but for an expiry date; `None` above
    /// version 10. A symbol can come out one version smaller where runs of digits save a few bits.
    #[must_use]
    pub fn qr_version(&self) -> Option<u8> {
        let chars = self.address.len() + TAIL;
        if self.expiry.is_some() {
            version_for_segments(chars, EXPIRY.len(), DATE)
        } else {
            version_for(chars)
        }
    }

    /// A sentence for the issuer: which QR symbol its links need, and why. Says so too if a shorter host would give a smaller one.
    #[must_use]
    pub fn qr_note(&self) -> String {
        let chars = self.url_len();
        let Some(version) = self.qr_version() else {
            return format!("links of {chars} characters need a QR symbol above version 10");
        };
        let modules = 17 + 4 * usize::from(version);
        let fits = format!(
            "links of {chars} characters give QR symbols of version {version}-M, {modules} modules a side"
        );
        if version <= GOOD_VERSION {
            return fits;
        }
        let scheme = self.address.find("://").map_or(0, |at| at + 3);
        let address = self.address.len() - scheme;
        if self.expiry.is_some() {
            return format!(
                "{fits}: ?17= and the expiry date do not fit a smaller one; links without them would"
            );
        }
        let most = (61 - TAIL).saturating_sub(scheme);
        format!(
            "{fits}: the address has {address} characters after the scheme, of which at most {most} fit version 3-M (29 modules)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gs1::{DigitalLink, LinkOptions};

    #[test]
    fn links_are_upper_case_and_read_back() {
        let gtin: Gtin = "09521234543213".parse().unwrap();
        let serial = Serial::from_bits(123_456_789_012_345_678_901_234_567_890);
        for base in [
            "https://id.t.cn",
            "HTTPS://ID.T.CN/",
            "http://127.0.0.1:8080",
            "https://a.example/SHOP/1",
        ] {
            let base = UrlBase::parse(base).unwrap();
            let url = base.url(&gtin, serial);
            assert_eq!(url, url.to_uppercase());
            assert_eq!(url.len(), base.url_len());
            for text in [
                url.clone(),
                url.replace("HTTPS", "https"),
                format!("{url}?linkType=all#x"),
            ] {
                let link = DigitalLink::parse(&text, LinkOptions::default()).unwrap();
                assert_eq!(
                    (link.gtin(), link.serial()),
                    (Some(gtin), Some(serial.to_string().as_str()))
                );
            }
        }
    }

    #[test]
    fn a_long_host_is_warned_of() {
        let gtin: Gtin = "09521234543213".parse().unwrap();
        for (host, version) in [
            ("id.brand.cn", 3),
            ("id.brands.cn", 4),
            (&"a".repeat(40), 4),
            (&"a".repeat(41), 5),
        ] {
            let base = UrlBase::parse(&format!("https://{host}")).unwrap();
            assert_eq!(base.qr_version(), Some(version));
            let note = base.qr_note();
            assert!(note.contains(&format!("version {version}-M")), "{note}");
            assert_eq!(note.contains("at most 11 fit version 3-M"), version > 3);
            #[cfg(feature = "symbols")]
            {
                let symbol =
                    crate::qr::Symbol::of(&base.url(&gtin, Serial::from_bits(u128::MAX))).unwrap();
                assert!(symbol.modules() <= 17 + 4 * usize::from(version));
                assert!(version > 3 || symbol.modules() == 29);
            }
        }
    }

    #[test]
    fn an_expiry_date_is_at_the_end_of_a_link() {
        let gtin: Gtin = "09521234543213".parse().unwrap();
        let serial = Serial::from_bits(77);
        for (host, version, room) in [
            ("i.cn", 4, true),
            (&"a".repeat(26), 4, true),
            (&"a".repeat(27), 5, false),
            ("a.b:8443/SHOP", 4, true),
        ] {
            let base = UrlBase::parse(&format!("https://{host}")).unwrap();
            assert_eq!(base.has_room_for_expiry(), room, "{host}");
            let dated = base.clone().with_expiry("271200").unwrap();
            let url = dated.url(&gtin, serial);
            assert_eq!(url, format!("{}?17=271200", base.url(&gtin, serial)));
            assert_eq!(url.len(), dated.url_len());
            assert_eq!(&url[dated.serial_at()..][..SERIAL_LEN], serial.to_string());
            assert_eq!(
                (dated.as_str(), dated.qr_version()),
                (base.as_str(), Some(version))
            );
            assert!(
                dated.qr_note().contains(&format!("version {version}-M")),
                "{}",
                dated.qr_note()
            );
            let link = DigitalLink::parse(&url, LinkOptions::default()).unwrap();
            assert_eq!(link.serial(), Some(serial.to_string().as_str()));
            #[cfg(feature = "symbols")]
            {
                // The largest serial is letters alone: then no run of digits saves anything.
                let url = dated.url(&gtin, Serial::from_bits(u128::MAX));
                let symbol = crate::qr::Symbol::of(&url).unwrap();
                assert!(symbol.modules() <= 17 + 4 * usize::from(version), "{host}");
            }
        }
        let base = UrlBase::parse("https://id.t.cn").unwrap();
        for bad in ["", "271301", "270230", "27120", "2712011", "2712aa"] {
            assert!(base.clone().with_expiry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn useless_addresses_are_refused() {
        for bad in [
            "",
            "host",
            "ftp://a",
            "https://",
            "https:///x",
            "https://a b",
            "https://a/lower",
            "https://[::1]",
            "https://a:99999",
            "https://a:",
            "https://a:+1",
            "https://a//B",
            "https://a?x=1",
            "https://u@a",
            "https://é",
            "https://a/%41",
        ] {
            assert!(UrlBase::parse(bad).is_err(), "{bad}");
        }
        assert!(UrlBase::parse(&format!("https://{}", "a".repeat(200))).is_err());
    }
}
