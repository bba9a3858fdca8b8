//! Codes as people type or paste them: a link, `(01)..(21)..`, or a GTIN and then a serial.

use tally_codes::Serial;
use tally_codes::unit::SERIAL_LEN;

use super::{Problem, parse_link_url};
use crate::scans::ScannedCode;

/// Longest text read, in bytes; a link may be long.
const MAX_TYPED: usize = 2048;

fn without_gaps(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '‐' | '‑' | '–' | '—'))
        .collect()
}

/// The serial as it stands in a code. Hyphens and spaces group a unit code; a check character behind it is checked and left out.
/// Serials of other makers may hold hyphens and are taken as they are.
fn serial(text: &str) -> Result<String, Problem> {
    let plain = without_gaps(text);
    if let Ok(serial) = plain.parse::<Serial>() {
        return Ok(serial.to_string());
    }
    if plain.chars().count() == SERIAL_LEN + 1 {
        return Serial::parse_typed(&plain)
            .map(|serial| serial.to_string())
            .map_err(|error| unreadable(error.to_string()));
    }
    Ok(text.split_whitespace().collect())
}

fn unreadable(detail: impl Into<String>) -> Problem {
    Problem::new(
        axum::http::StatusCode::BAD_REQUEST,
        "code",
        "The code cannot be read",
        detail,
    )
}

/// Reads what was typed.
///
/// # Errors
/// A problem of the kind `code` or `gtin`.
pub(super) fn parse_typed(text: &str) -> Result<ScannedCode, Problem> {
    let text = text.trim();
    if text.len() > MAX_TYPED {
        return Err(unreadable("expected at most 2,048 characters"));
    }
    if text.contains("://") {
        return Ok(parse_link_url(text)?);
    }
    let (gtin, rest) = if let Some(rest) = text.strip_prefix("(01)") {
        let (gtin, rest) = rest
            .split_once("(21)")
            .ok_or_else(|| unreadable("expected (01), the GTIN, (21) and the serial"))?;
        (without_gaps(gtin), rest)
    } else {
        let digits = |c: &char| c.is_ascii_digit();
        let mut at = 0;
        let mut gtin = String::new();
        for (i, c) in text.char_indices() {
            if gtin.len() == 14 {
                break;
            }
            at = i + c.len_utf8();
            if digits(&c) {
                gtin.push(c);
            } else if !c.is_whitespace() && c != '-' {
                return Err(unreadable(
                    "expected a GTIN of 14 digits and then the serial",
                ));
            }
        }
        (gtin, text.get(at..).unwrap_or_default())
    };
    if rest.trim().is_empty() {
        return Err(unreadable(
            "expected a GTIN of 14 digits and then the serial",
        ));
    }
    Ok(ScannedCode::new(&gtin, &serial(rest)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_type_a_code_is_read() {
        let serial = Serial::from_bits(0x1_2345_6789_abcd_ef01_2345);
        let (plain, typed) = (serial.to_string(), serial.to_typed());
        let other = "09521234543213";
        for text in [
            format!("https://id.example.cn/01/{other}/21/{plain}?17=270101"),
            format!("HTTPS://ID.EXAMPLE.CN/01/{other}/21/{plain}"),
            format!("(01){other}(21){plain}"),
            format!("(01) {other} (21) {typed}"),
            format!("{other} {plain}"),
            format!(" {other}{plain}\n"),
            format!("0952 1234 5432 13 {typed}"),
            format!("{other} {}", typed.to_lowercase()),
        ] {
            let code = parse_typed(&text).unwrap_or_else(|p| panic!("{text}: {}", p.detail));
            assert_eq!(
                (code.gtin().as_str(), code.serial()),
                (other, plain.as_str()),
                "{text}"
            );
        }
        assert_eq!(
            parse_typed(&format!("(01){other}(21)A-1/b"))
                .map(|c| c.serial().to_owned())
                .ok(),
            Some("A-1/b".into())
        );
    }

    #[test]
    fn typing_errors_are_told() {
        let typed = Serial::from_bits(77).to_typed();
        let wrong = typed.replacen('0', "2", 1);
        for text in [
            String::new(),
            "hello".into(),
            "09521234543213".into(),
            "09521234543214 ABC".into(),
            "9521234543213 ABC".into(),
            format!("09521234543213 {wrong}"),
            "(01)09521234543213".into(),
            "https://example.com/".into(),
            "x".repeat(3000),
            "é9521234543213".into(),
        ] {
            assert!(parse_typed(&text).is_err(), "{text}");
        }
    }
}
