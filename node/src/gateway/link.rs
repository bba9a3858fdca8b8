//! Reads GS1 Digital Link URIs of unit codes: `[stem]/01/<GTIN>[/22/..][/10/..]/21/<serial>` (GS1 Digital Link: URI Syntax 1.4, 4.3 to 4.9).

use std::borrow::Cow;

use crate::scans::{ScanError, ScannedCode};

/// Longest URI that is read, in bytes.
const MAX_URI: usize = 2048;

/// Why a URI is not the Digital Link of a unit code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Not `http` or `https`, no path, or too long.
    #[error("expected an http or https URI of at most 2,048 bytes")]
    Uri,
    /// No primary key 01 with a value.
    #[error("expected /01/ and a GTIN of 14 digits in the path")]
    NoGtin,
    /// Keys after the GTIN that are unknown, repeated, out of order or without a value.
    #[error("expected the qualifiers 22, 10 and 21 in this order, each once and with a value")]
    Qualifiers,
    /// No serial: the URI names a product, not a unit.
    #[error("expected /21/ and a serial in the path")]
    NoSerial,
    /// `%` without two hex digits, or bytes that are not text.
    #[error("expected percent-encoded text")]
    Encoding,
    /// GTIN or serial are not of their form.
    #[error(transparent)]
    Code(#[from] ScanError),
}

/// Reads a whole URI; query and fragment are ignored.
///
/// # Errors
/// [`LinkError`].
pub fn parse_link_url(uri: &str) -> Result<ScannedCode, LinkError> {
    if uri.len() > MAX_URI {
        return Err(LinkError::Uri);
    }
    let (scheme, rest) = uri.split_once("://").ok_or(LinkError::Uri)?;
    if !["http", "HTTP", "https", "HTTPS"].contains(&scheme) {
        return Err(LinkError::Uri);
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = rest.get(..end).unwrap_or_default();
    let path = rest
        .find('/')
        .filter(|host_bytes| *host_bytes > 0)
        .and_then(|at| rest.get(at..))
        .ok_or(LinkError::Uri)?;
    parse_link_path(path)
}

/// Reads the path of a URI, still percent-encoded, with its leading `/`.
///
/// # Errors
/// [`LinkError`].
pub fn parse_link_path(path: &str) -> Result<ScannedCode, LinkError> {
    if path.len() > MAX_URI {
        return Err(LinkError::Uri);
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    // The right-most primary key that is followed by key and value pairs wins: a stem may hold digits too.
    let mut fault = LinkError::NoGtin;
    for (at, _) in segments
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, s)| **s == "01")
    {
        match segments.get(at + 1..).map(parse_values) {
            Some(Ok((gtin, serial))) => return Ok(ScannedCode::new(&gtin, &serial)?),
            Some(Err(e)) if matches!(fault, LinkError::NoGtin) => fault = e,
            _ => {}
        }
    }
    Err(fault)
}

/// The GTIN and the serial of what follows `/01/`.
fn parse_values<'a>(values: &[&'a str]) -> Result<(Cow<'a, str>, Cow<'a, str>), LinkError> {
    let (gtin, qualifiers) = values.split_first().ok_or(LinkError::NoGtin)?;
    if gtin.is_empty() {
        return Err(LinkError::NoGtin);
    }
    let mut allowed = ["22", "10", "21"].iter();
    let mut serial = None;
    let (pairs, odd) = qualifiers.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(LinkError::Qualifiers);
    }
    for [key, value] in pairs {
        if value.is_empty() || !allowed.any(|k| k == key) {
            return Err(LinkError::Qualifiers);
        }
        if *key == "21" {
            serial = Some(*value);
        } else {
            decode(value)?;
        }
    }
    let serial = serial.ok_or(LinkError::NoSerial)?;
    Ok((decode(gtin)?, decode(serial)?))
}

/// Percent-decoding; `+` is itself in a path.
fn decode(text: &str) -> Result<Cow<'_, str>, LinkError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b == b'%' {
            let (hex, tail) = rest.split_first_chunk::<2>().ok_or(LinkError::Encoding)?;
            let mut byte = [0];
            hex::decode_to_slice(hex, &mut byte).map_err(|_| LinkError::Encoding)?;
            out.extend_from_slice(&byte);
            rest = tail;
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| LinkError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_units_are_read() {
        for (uri, serial) in [
            ("https://id.example.cn/01/09521234543213/21/ABC", "ABC"),
            (
                "HTTPS://ID.EXAMPLE.CN/01/09521234543213/21/ABC?17=270101#x",
                "ABC",
            ),
            (
                "http://h:8080/01/a/01/09521234543213/22/2A/10/L%2F1/21/a+b%2fc",
                "a+b/c",
            ),
            ("https://h/stem/09/01/09521234543213/10/7/21/1", "1"),
        ] {
            let code = parse_link_url(uri).unwrap_or_else(|e| panic!("{uri}: {e}"));
            assert_eq!(code.gtin().as_str(), "09521234543213");
            assert_eq!(code.serial(), serial);
        }
    }

    #[test]
    fn other_uris_are_refused_with_a_reason() {
        for (uri, reason) in [
            ("ftp://h/01/09521234543213/21/A", "http"),
            ("https:///01/09521234543213/21/A", "http"),
            ("https://h", "http"),
            ("https://h/", "/01/"),
            ("https://h/00/106141411234567897", "/01/"),
            ("https://h/01/09521234543213", "/21/"),
            ("https://h/01/09521234543213/21/A/", "qualifiers"),
            ("https://h/01/09521234543213/21/A/10/B", "qualifiers"),
            ("https://h/01/09521234543213/21/A/21/A", "qualifiers"),
            ("https://h/01/09521234543213/99/A", "qualifiers"),
            ("https://h/01/09521234543213/21/", "qualifiers"),
            ("https://h/01/09521234543214/21/A", "check digit"),
            ("https://h/01/9521234543213/21/A", "14 digits"),
            ("https://h/01/09521234543213/21/%zz", "percent"),
            ("https://h/01/09521234543213/21/%ff", "percent"),
            ("https://h/01/09521234543213/21/%20", "set 82"),
        ] {
            let error = parse_link_url(uri).expect_err(uri).to_string();
            assert!(error.contains(reason), "{uri}: {error}");
        }
    }
}
