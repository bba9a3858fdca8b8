//! Where the address of a request is, as a proxy with a table of addresses says in a header.
//!
//! The header is believed from a trusted proxy alone, as the address is. What it holds is cut before anything else sees it, is never
//! the device's own position, and is in no log and no error.

use axum::http::{Extensions, HeaderMap};
use tally_trace::cell::Cell as Geohash;

use super::GatewayConfig;
use super::source::peer;
use crate::scans::{Cell, MAX_CELL, NO_COUNTRY, Place};

/// Longest value read, in bytes.
const MAX_VALUE: usize = 128;
/// Shortest geohash: two characters are taken as a country, and are too wide to be of use.
const MIN_GEOHASH: usize = 3;
/// A position known less well than this many kilometres is none; this is what the detector takes off for an address.
const MAX_RADIUS_KM: f64 = 50.0;

/// The place that a trusted proxy tells, cut to `cell_length` characters; `None` without one, or if it cannot be read.
pub(super) fn told_by_proxy(
    config: &GatewayConfig,
    cell_length: usize,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<Place> {
    let name = config.place_header.as_ref()?;
    if !config.trusted_proxies.contains(&peer(extensions)) {
        return None;
    }
    // A proxy that adds its header behind what the client sent has the last word.
    let value = headers.get_all(name).iter().next_back()?;
    parse(value.to_str().ok()?, cell_length)
}

/// Reads `[COUNTRY[-SUBDIVISION]] [POSITION]`, at least one of them. The position is a geohash, or latitude and longitude in degrees and,
/// if it is known, the radius in kilometres, with commas. A proxy that knows nothing of an address leaves its variables empty: commas alone
/// are no position.
fn parse(value: &str, cell_length: usize) -> Option<Place> {
    if value.len() > MAX_VALUE {
        return None;
    }
    // `-` is a country and a subdivision that the proxy does not know; glued to a latitude it would be a sign.
    let words = value.split_ascii_whitespace().filter(|word| *word != "-");
    let mut words = words.peekable();
    let country = words.next_if(|word| is_country(word));
    // `51.5, -0.1` is one position.
    let position: String = words.collect();
    let cell = cell(&position, cell_length)?;
    let place = match country {
        None => Place::new(NO_COUNTRY, ""),
        Some(code) => {
            let (country, part) = code.split_once('-').unwrap_or((code, ""));
            Place::new(country, part)
        }
    };
    let place = place.ok()?.with_cell(cell);
    (place.country() != NO_COUNTRY || place.cell().is_some()).then_some(place)
}

/// Whether it is two letters (ISO 3166-1), or these, a hyphen and a subdivision's code or nothing (ISO 3166-2).
fn is_country(word: &str) -> bool {
    let (country, part) = word.split_once('-').unwrap_or((word, ""));
    country.len() == 2
        && country.bytes().all(|b| b.is_ascii_alphabetic())
        && part.len() <= 3
        && part.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The cell of a position, cut; `Some(None)` if none is known, `None` if it is malformed.
fn cell(position: &str, cell_length: usize) -> Option<Option<Cell>> {
    if !position.contains(',') {
        if position.is_empty() {
            return Some(None);
        }
        let cell = Cell::new(position).ok()?;
        return (position.len() >= MIN_GEOHASH).then(|| cell.cut(cell_length));
    }
    if position.bytes().all(|b| b == b',') {
        return Some(None);
    }
    let numbers: Vec<f64> = position
        .trim_end_matches(',')
        .split(',')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    let (lat, lon, radius_km) = match *numbers.as_slice() {
        [lat, lon] => (lat, lon, 0.0),
        [lat, lon, radius_km] => (lat, lon, radius_km),
        _ => return None,
    };
    let length = u8::try_from(MAX_CELL).ok()?;
    let hash = Geohash::of(lat, lon, length).ok()?;
    // Tables have 0, 0 for what they do not know; nobody lives there.
    let is_known = (0.0..=MAX_RADIUS_KM).contains(&radius_km) && (lat != 0.0 || lon != 0.0);
    let cell = Cell::new(&hash.to_string()).ok()?;
    Some(is_known.then_some(cell).and_then(|c| c.cut(cell_length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        parse(value, 5).map(|place| {
            assert!(!place.is_device(), "{value}");
            let cell = place.cell();
            format!(
                "{} {} {}",
                place.country(),
                place.region(),
                cell.as_ref().map_or("", Cell::as_str)
            )
        })
    }

    #[test]
    fn what_proxies_tell_is_read_and_cut() {
        for (value, expected) in [
            ("39.904,116.407", "ZZ  wx4g0"),
            ("39.904, 116.407", "ZZ  wx4g0"),
            ("CN 39.904,116.407", "CN  wx4g0"),
            ("CN-BJ 39.904,116.407,20", "CN BJ wx4g0"),
            ("cn-bj wx4g0bm9", "CN bj wx4g0"),
            ("CN-51 wm6", "CN 51 wm6"),
            ("WX4G0BM9", "ZZ  wx4g0"),
            // Variables that were empty; a hyphen alone is no sign.
            ("- 39.904,116.407,20", "ZZ  wx4g0"),
            ("CN - 39.904,116.407", "CN  wx4g0"),
            ("CN- 39.904,116.407,", "CN  wx4g0"),
            ("CN- ,,", "CN  "),
            ("CN ,", "CN  "),
            ("CN", "CN  "),
            // Known too badly, or not at all.
            ("CN 35.0,105.0,1000", "CN  "),
            ("CN 0.0000,0.0000", "CN  "),
        ] {
            assert_eq!(read(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "",
            "-",
            ",",
            "- ,,",
            "ZZ",
            "0,0",
            "35,105,1000",
            "91,0.5",
            "NaN,1",
            "1,2,3,4",
            "39.904",
            "39.904,116.407 CN",
            "wxa",
            "CN WX4G0 X!",
            &"0".repeat(200),
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        let country = parse("CN 39.904,116.407", 0).map(|p| p.cell());
        assert_eq!(country, Some(None), "no cell is kept");
        assert_eq!(parse("39.904,116.407", 0), None);
    }
}
