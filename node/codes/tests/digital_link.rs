//! What the standards say of links, beyond the vectors: GS1 Digital Link 1.4 (URI syntax), GS1 General Specifications 25 (values).

use proptest::prelude::*;
use tally_codes::gs1::{DigitalLink, LinkOptions};

const GTIN: &str = "09521234543213";
/// General Specifications, figure 7.11-1.
const SET_82: &str =
    "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

fn read(uri: &str) -> Option<DigitalLink> {
    DigitalLink::parse(uri, LinkOptions::default()).ok()
}

fn ok(rest: &str) -> bool {
    read(&format!("https://id.example{rest}")).is_some()
}

/// Section 7.9, written by itself: weights 3 and 1 from the right, up to a multiple of ten.
fn with_check_digit(body: &str) -> String {
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 3 } else { 1 })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

/// As it is, or percent-coded with digits of either case.
fn coded(value: &str, how: &[u8]) -> String {
    let mut out = String::new();
    for (i, b) in value.bytes().enumerate() {
        let plain = b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        match how.get(i).copied().unwrap_or_default() % 3 {
            0 if plain => out.push(char::from(b)),
            1 => out.push_str(&format!("%{b:02x}")),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Identifiers with a check digit: how many digits it ends, and what stands before and after it in the value.
const CHECKED: &[(&str, usize, &str, &str)] = &[
    ("00", 18, "", ""),
    ("01", 14, "", ""),
    ("253", 13, "", ""),
    ("253", 13, "", "DOC/1"),
    ("255", 13, "", "42"),
    ("402", 17, "", ""),
    ("414", 13, "", ""),
    ("415", 13, "", ""),
    ("417", 13, "", ""),
    ("8003", 13, "0", "A-1"),
    ("8006", 14, "", "0102"),
    ("8017", 18, "", ""),
    ("8018", 18, "", ""),
];

proptest! {
    #[test]
    fn percent_coding_changes_nothing(
        serial in prop::collection::vec(0_usize..82, 1..20),
        how in prop::collection::vec(any::<u8>(), 20),
    ) {
        let serial: String = serial.into_iter().map(|i| char::from(SET_82.as_bytes()[i])).collect();
        let link = read(&format!("https://h/01/{GTIN}/21/{}", coded(&serial, &how)));
        let link = link.expect("a link");
        prop_assert_eq!(link.serial(), Some(serial.as_str()));
        let attribute = read(&format!("https://h/01/{GTIN}?91={}", coded(&serial, &how)));
        let attribute = attribute.expect("a link");
        prop_assert_eq!(attribute.value("91"), Some(serial.as_str()));
        // Digits may be coded too, those of the key itself as well.
        let gtin = read(&format!("https://h/01/{}", coded(GTIN, &how))).expect("a link");
        prop_assert_eq!(gtin.value("01"), Some(GTIN));
    }

    #[test]
    fn every_check_digit_is_looked_at(
        which in 0..CHECKED.len(),
        digits in prop::collection::vec(0_u8..10, 17),
        at in 0_usize..18,
        add in 1_u8..10,
    ) {
        let (ai, len, before, after) = CHECKED[which];
        let body: String = digits.iter().take(len - 1).map(|d| char::from(b'0' + d)).collect();
        let value = with_check_digit(&body);
        let uri = |value: &str| format!("/{ai}/{before}{value}{}", coded(after, &[]));
        prop_assert!(ok(&uri(&value)), "{}", uri(&value));
        // One digit that is read wrongly is always noticed.
        let mut wrong = value.into_bytes();
        let at = at % len;
        wrong[at] = b'0' + (wrong[at] - b'0' + add) % 10;
        let wrong = String::from_utf8(wrong).expect("digits");
        prop_assert!(!ok(&uri(&wrong)), "{}", uri(&wrong));
    }

    #[test]
    fn of_the_qualifiers_only_the_order_of_the_standard_is_read(
        picked in prop::sample::subsequence(vec!["22", "10", "21", "235"], 0..=4).prop_shuffle(),
    ) {
        let path: String = picked.iter().map(|ai| format!("/{ai}/A")).collect();
        let order = |ai: &&str| ["22", "10", "21"].iter().position(|o| o == ai);
        let places: Option<Vec<usize>> = picked.iter().map(order).collect();
        let right = picked == ["235"]
            || places.is_some_and(|p| p.windows(2).all(|two| two[0] < two[1]));
        prop_assert_eq!(ok(&format!("/01/{GTIN}{path}")), right, "{:?}", picked);
    }

    #[test]
    fn attributes_stand_in_any_order_and_once(
        picked in prop::sample::subsequence(
            vec!["11=250131", "17=251300", "17=261200", "3103=000189", "99=x", "linkType=all", "k"], 0..=7,
        ).prop_shuffle(),
        fragment in "[a-z0-9/?#=]{0,9}",
    ) {
        let uri = format!("/01/{GTIN}/21/S?{}#{fragment}", picked.join("&"));
        // A month of 13, and 17 given twice.
        let wrong = picked.contains(&"17=251300");
        prop_assert_eq!(ok(&uri), !wrong, "{}", uri);
        let twice = format!("/01/{GTIN}?17=261200&{}&17=261200", picked.join("&"));
        prop_assert!(!ok(&twice), "{}", twice);
    }

    #[test]
    fn what_stands_before_the_key_is_of_no_matter(stem in prop::collection::vec("[A-Za-z0-9._~-]{1,6}", 0..5)) {
        let stem: String = stem.iter().map(|s| format!("/{s}")).collect();
        for scheme in ["http", "https", "HTTP", "HTTPS"] {
            let link = read(&format!("{scheme}://h.example:8443{stem}/01/{GTIN}/10/L"));
            prop_assert_eq!(link.expect("a link").path().len(), 2, "{}", stem);
        }
    }

    #[test]
    fn dates_are_days_of_the_calendar(year in 0_u32..100, month in 0_u32..15, day in 0_u32..34) {
        let days = match month {
            // 1976 to 2075: every fourth year is a leap year.
            2 => if year % 4 == 0 { 29 } else { 28 },
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        let date = format!("{year:02}{month:02}{day:02}");
        let real = days > 0 && day <= days;
        for ai in ["11", "12", "13", "15", "16", "17"] {
            prop_assert_eq!(ok(&format!("/01/{GTIN}?{ai}={date}")), real, "{} {}", ai, date);
        }
        // A date of release, of freezing, of harvest: of these the day is known.
        for ai in ["4326", "7006", "7007"] {
            prop_assert_eq!(ok(&format!("/01/{GTIN}?{ai}={date}")), real && day > 0, "{} {}", ai, date);
        }
    }

    #[test]
    fn short_gtins_are_read_where_that_is_asked_for(body in "[1-9][0-9]{6}([0-9]{4}|[0-9]{5})?") {
        let short = with_check_digit(&body);
        let asked = LinkOptions { short_gtin: true, ..LinkOptions::default() };
        let uri = format!("https://h/01/{short}/21/S");
        let link = DigitalLink::parse(&uri, asked).expect("a link");
        let padded = format!("{short:0>14}");
        prop_assert_eq!(link.value("01"), Some(padded.as_str()));
        prop_assert!(read(&uri).is_none());
        // Written in full, whatever was read.
        let full = format!("/01/{short:0>14}/");
        prop_assert!(link.to_uri("https://h").contains(&full), "{}", full);
        // A zero too few or too many is not a key of another length.
        for wrong in [format!("0{short}"), format!("00{short}")] {
            if !matches!(wrong.len(), 8 | 12 | 13 | 14) {
                let uri = format!("https://h/01/{wrong}");
                prop_assert!(DigitalLink::parse(&uri, asked).is_err(), "{}", wrong);
            }
        }
    }
}

#[test]
fn a_serial_has_characters_of_set_82_and_no_other() {
    for b in 0..=u8::MAX {
        let uri = format!("/01/{GTIN}/21/A%{b:02X}");
        assert_eq!(ok(&uri), SET_82.as_bytes().contains(&b), "{uri}");
    }
    assert!(ok(&format!("/01/{GTIN}/21/{}", "x".repeat(20))));
    assert!(!ok(&format!("/01/{GTIN}/21/{}", "x".repeat(21))));
}

#[test]
fn a_plus_is_a_space_in_the_query_alone() {
    let link = read(&format!("https://h/01/{GTIN}/21/a+b")).expect("a link");
    assert_eq!(link.serial(), Some("a+b"));
    // No value of GS1 has a space.
    assert!(!ok(&format!("/01/{GTIN}?91=a+b")));
    let link = read(&format!("https://h/01/{GTIN}?91=a%2Bb")).expect("a link");
    assert_eq!(link.value("91"), Some("a+b"));
    assert!(link.to_uri("https://h").ends_with("?91=a%2Bb"));
}

#[test]
fn each_primary_key_takes_its_own_qualifiers() {
    let gln = "9520123456788";
    let itip = format!("{GTIN}0102");
    for (good, bad) in [
        (format!("/414/{gln}/254/1"), format!("/414/{gln}/21/1")),
        (
            format!("/414/{gln}/7040/1ABC"),
            format!("/414/{gln}/254/1/7040/1ABC"),
        ),
        (format!("/417/{gln}/7040/1ABC"), format!("/417/{gln}/254/1")),
        (format!("/415/{gln}/8020/R"), format!("/415/{gln}/254/1")),
        (
            format!("/8006/{itip}/22/A/10/B/21/C"),
            format!("/8006/{itip}/235/T"),
        ),
        (
            "/8004/95201234/7040/1ABC".to_owned(),
            "/8004/95201234/21/1".to_owned(),
        ),
        (
            "/8010/95201234/8011/1".to_owned(),
            "/8010/95201234/8011/01".to_owned(),
        ),
        (
            format!("/8018/{}/8019/1", with_check_digit("95201234567890123")),
            format!("/8018/{}/21/1", with_check_digit("95201234567890123")),
        ),
        (
            format!("/00/{}", with_check_digit("10614141123456789")),
            format!("/00/{}/10/L", with_check_digit("10614141123456789")),
        ),
    ] {
        assert!(ok(&good), "{good}");
        assert!(!ok(&bad), "{bad}");
    }
    // A qualifier is no attribute, unless it belongs to the other way of naming a trade item.
    assert!(!ok(&format!("/01/{GTIN}?10=L")));
    assert!(!ok(&format!("/01/{GTIN}/10/L?21=S")));
    assert!(ok(&format!("/01/{GTIN}/235/T?10=L")));
    // Names of the first versions are not read unless asked for.
    assert!(!ok(&format!("/gtin/{GTIN}/ser/S")));
}

#[test]
fn what_is_no_link_is_refused() {
    for bad in [
        "/",
        "/01",
        "/01/",
        "/01//",
        &format!("/01/{GTIN}/"),
        &format!("/01/{GTIN}//"),
        &format!("/01/{GTIN}/21"),
        &format!("/01/{GTIN}/21/"),
        &format!("/01/{GTIN}/21/%00"),
        &format!("/01/{GTIN}?17"),
        &format!("/01/{GTIN}?17="),
        &format!("/01/{GTIN}?0=1"),
        &format!("/01/{GTIN}?1234567=1"),
        &format!("/01/ {GTIN}"),
        &format!("/01/{GTIN}/21/ä"),
        &format!("/01/{GTIN}\n"),
        "/01/\u{661}9521234543213",
    ] {
        let is_ignored = *bad == *format!("/01/{GTIN}?17");
        assert_eq!(ok(bad), is_ignored, "{bad:?}");
    }
    // A sign that begins no percent-coding stands for itself.
    for (coded, serial) in [
        ("%", "%"),
        ("%4", "%4"),
        ("A%G4B", "A%G4B"),
        ("%2525", "%25"),
    ] {
        let link = read(&format!("https://h/01/{GTIN}/21/{coded}")).expect("a link");
        assert_eq!(link.serial(), Some(serial), "{coded}");
    }
    for bad in [
        "",
        "https:",
        "https:/h/01/",
        "//h/01/",
        "mailto:a@b",
        &format!("https://h?01={GTIN}"),
        &format!("https://h/#/01/{GTIN}"),
    ] {
        assert!(read(bad).is_none(), "{bad:?}");
    }
}
