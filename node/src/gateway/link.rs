//! From a GS1 Digital Link URI to the unit code that was scanned.

use axum::http::Uri;
use tally_codes::gs1::{DigitalLink, LinkOptions};

use crate::scans::{ScanError, ScannedCode};

/// Why a URI is not the Digital Link of a unit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Not a Digital Link.
    #[error(transparent)]
    Link(#[from] tally_codes::Error),
    /// A link of something else.
    #[error("expected /01/ and a GTIN of 14 digits in the path")]
    NoGtin,
    /// No serial: the link names a product, not a unit.
    #[error("expected /21/ and a serial in the path")]
    NoSerial,
    /// GTIN or serial are not of their form.
    #[error(transparent)]
    Code(#[from] ScanError),
}

/// Reads a whole URI. Query keys that are not numbers, and the fragment, are ignored.
///
/// # Errors
/// [`LinkError`].
pub fn parse_link_url(uri: &str) -> Result<ScannedCode, LinkError> {
    let link = DigitalLink::parse(uri, LinkOptions::default())?;
    let gtin = link.gtin().ok_or(LinkError::NoGtin)?;
    let serial = link.serial().ok_or(LinkError::NoSerial)?;
    Ok(ScannedCode::new(gtin.as_str(), serial)?)
}

/// Reads the link of a code, or `GTIN/SERIAL`, as programs and operators give it.
///
/// # Errors
/// [`LinkError`].
pub fn read_code(text: &str) -> Result<ScannedCode, LinkError> {
    if text.contains("://") {
        return parse_link_url(text);
    }
    let (gtin, serial) = text.split_once('/').ok_or(LinkError::NoSerial)?;
    Ok(ScannedCode::new(gtin, serial)?)
}

/// Reads the path and the query of a URI, still percent-encoded, with the leading `/`. What [`parse_link_url`] refuses is refused
/// here too, so that no page is shown for a link that a scanner cannot read.
///
/// # Errors
/// [`LinkError`].
pub fn parse_link_path(path_and_query: &str) -> Result<ScannedCode, LinkError> {
    parse_link_url(&format!("https://localhost{path_and_query}"))
}

/// The path and the query of a request.
pub(super) fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |both| both.as_str())
}

/// Reads the path and the query of a URI as a link of a product or a unit.
pub(super) fn parse_product_path(path_and_query: &str) -> Result<DigitalLink, LinkError> {
    let uri = format!("https://localhost{path_and_query}");
    let link = DigitalLink::parse(&uri, LinkOptions::default())?;
    if link.gtin().is_none() {
        return Err(LinkError::NoGtin);
    }
    Ok(link)
}

/// Percent-codes all but unreserved characters: a serial may hold `%` and `/`.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The path of a code's page behind `base`.
pub(super) fn code_path(base: &str, code: &ScannedCode) -> String {
    format!("{base}/01/{}/21/{}", code.gtin(), escape(code.serial()))
}

/// The path of the proof of a code behind `base`.
pub(super) fn code_proof_path(base: &str, code: &ScannedCode) -> String {
    let (gtin, serial) = (code.gtin(), escape(code.serial()));
    format!("{base}/v1/codes/{gtin}/{serial}/tlog-proof")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_units_are_read() {
        for (uri, serial) in [
            ("https://id.example.cn/01/09521234543213/21/ABC", "ABC"),
            (
                "HTTPS://ID.EXAMPLE.CN/01/09521234543213/21/ABC?17=270101&x=y#x",
                "ABC",
            ),
            (
                "http://h:8080/stem/01/09521234543213/22/2A/10/L%2F1/21/a+b%2fc",
                "a+b/c",
            ),
        ] {
            let code = parse_link_url(uri).unwrap_or_else(|e| panic!("{uri}: {e}"));
            assert_eq!(code.gtin().as_str(), "09521234543213");
            assert_eq!(code.serial(), serial);
        }
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in [
            "ftp://h/01/09521234543213/21/A",
            "https://h/",
            "https://h/00/106141411234567897",
            "https://h/01/09521234543213",
            "https://h/01/09521234543213/21/A/",
            "https://h/01/09521234543213/21/A/10/B",
            "https://h/01/09521234543214/21/A",
            "https://h/01/9521234543213/21/A",
            "https://h/01/09521234543213/21/%20",
        ] {
            assert!(parse_link_url(uri).is_err(), "{uri}");
        }
    }
}
