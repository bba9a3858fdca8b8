//! The form of every identifier's value, from the table of the General Specifications, section 3, written down a second time: lengths,
//! kinds of characters, and whether it may stand in the query of a link.

use tally_codes::gs1::ai::validate;
use tally_codes::gs1::{DigitalLink, LinkOptions};

/// Identifiers, the parts of a value, a value that is good, and others that are not for their content. `?` in front: not in a query.
///
/// A part is N, X, Y or Z and its length, `..` for up to it, in brackets if it may be left out with all that follow.
const FORMS: &[(&str, &str, &str, &[&str])] = &[
    ("00", "N18", "106141411234567897", &["106141411234567890"]),
    ("01", "N14", "09521234543213", &["09521234543214"]),
    ("02", "N14", "09521234543213", &["09521234543210"]),
    ("?03", "N14", "09521234543213", &["09521234543210"]),
    ("10", "X..20", "L/7", &[]),
    (
        "11 12 13 15 16 17",
        "N6",
        "260200",
        &["261300", "260230", "260001"],
    ),
    ("20", "N2", "00", &[]),
    ("?21 ?22", "X..20", "A%_", &[]),
    ("?235", "X..28", "T", &[]),
    ("240 241 250 251", "X..30", "A", &[]),
    ("242", "N..6", "1", &[]),
    ("243", "X..20", "A", &[]),
    ("253", "N13 [X..17]", "9521234567899", &["9521234567890"]),
    ("?254", "X..20", "A", &[]),
    ("255", "N13 [N..12]", "9521234567899", &["9521234567890"]),
    ("30 37", "N..8", "0", &[]),
    (
        "3100 3105 3115 3125 3142 3160 3205 3290 3305 3375 3400 3495 3550 3575 3600 3655 3690",
        "N6",
        "000000",
        &[],
    ),
    ("3900 3909 3920 3929", "N..15", "0", &[]),
    (
        "3910 3919 3930 3939",
        "N3 N..15",
        "156100",
        &["000100", "157100"],
    ),
    ("3940 3943", "N4", "0000", &[]),
    ("3950 3955", "N6", "000001", &[]),
    ("400 403", "X..30", "A", &[]),
    ("401", "X..30", "9521A", &["952A", "A9521"]),
    ("402", "N17", "95212345678901235", &["95212345678901230"]),
    (
        "410 411 412 413 414 415 416 417",
        "N13",
        "9521234567899",
        &["9521234567898"],
    ),
    ("420", "X..20", "610000", &[]),
    ("421", "N3 X..9", "156610000", &["999610000"]),
    ("422 424 426", "N3", "156", &["999", "000"]),
    (
        "423 425",
        "N3 [N3] [N3] [N3] [N3]",
        "156276",
        &["156999", "1562"],
    ),
    ("427", "X..3", "SC", &[]),
    (
        "4300 4301 4310 4311 4320",
        "X..35",
        "A%20B",
        &["A%2", "%G0"],
    ),
    ("4302 4306 4312 4316", "X..70", "A%20B", &["A%2", "%0g"]),
    ("4307 4317", "X2", "CN", &["cn", "XX"]),
    ("4308 4319", "X..30", "+8628", &[]),
    (
        "4309",
        "N10 N10",
        "02790858483015297971",
        &["18000000010000000000", "00000000003600000001"],
    ),
    ("4318", "X..20", "A", &[]),
    ("4321 4322 4323", "N1", "1", &["2"]),
    (
        "4324 4325",
        "N6 N4",
        "2602002359",
        &["2602002400", "2602002360"],
    ),
    ("4326 7006", "N6", "260228", &["260200"]),
    ("4330 4331 4332 4333", "N6 [X1]", "000100-", &["000100+"]),
    ("7001", "N13", "1234567890123", &[]),
    ("7002", "X..30", "A", &[]),
    ("7003", "N6 N4", "2602280000", &["2602002359", "2602282400"]),
    ("7004", "N..4", "1", &[]),
    ("7005", "X..12", "A", &[]),
    ("7007", "N6 [N6]", "260227260228", &["260227260200"]),
    ("7008", "X..3", "A", &[]),
    ("7009", "X..10", "A", &[]),
    ("7010", "X..2", "A", &[]),
    ("7011", "N6 [N4]", "2602282359", &["2602282400", "260200"]),
    (
        "7020 7021 7022 7240 710 711 712 713 714 715 716 8002 8012",
        "X..20",
        "A",
        &[],
    ),
    ("7023 8004", "X..30", "9521A", &["952"]),
    ("7030 7035 7039", "N3 X..27", "999A", &["000A"]),
    ("?7040", "N1 X2 X1", "1ABc", &["1AB="]),
    ("?7041", "X..4", "PE", &["XXXX"]),
    ("7230 7239", "X2 X..28", "ABC", &[]),
    ("7241", "N2", "10", &["11", "00", "79"]),
    ("7242", "X..25", "A", &[]),
    (
        "7250",
        "N8",
        "20240229",
        &["20230229", "20240200", "20241301"],
    ),
    ("7251", "N8 N4", "202402292359", &["202402292400"]),
    ("7252", "N1", "9", &["3"]),
    ("7253 7254 7259", "X..40", "%E6%9D%8E", &["%E6%9"]),
    ("7255", "X..10", "Jr.", &[]),
    ("7256", "X..90", "A", &["%zz"]),
    ("7257", "X..70", "A", &["%"]),
    ("7258", "X3", "1/2", &["2/1", "0/1", "1-2", "a/b"]),
    (
        "8001",
        "N4 N5 N3 N1 N1",
        "00010000100199",
        &["00000000100199", "00010000100029", "00010000100122"],
    ),
    (
        "8003",
        "N1 N13 [X..16]",
        "09521234567899A",
        &["19521234567899", "09521234567898"],
    ),
    ("8005", "N6", "000100", &[]),
    (
        "8006 8026",
        "N14 N4",
        "095212345432130102",
        &[
            "095212345432130201",
            "095212345432130001",
            "095212345432130100",
        ],
    ),
    (
        "8007",
        "X..34",
        "GB98MIDL07009312345678",
        &["GB98MIDL07009312345677", "XX98MIDL07009312345678"],
    ),
    (
        "8008",
        "N6 N2 [N2] [N2]",
        "260228235959",
        &["26022824", "2602282360", "260228235960"],
    ),
    ("8009", "X..50", "A", &[]),
    ("8010", "Y..30", "9521A-/#", &["952", "A9521"]),
    ("?8011", "N..12", "10", &["01"]),
    (
        "8013",
        "X..25",
        "1987654Ad4X4bL5ttr2310c2K",
        &["1987654Ad4X4bL5ttr2310cK2"],
    ),
    (
        "?8014",
        "X..25",
        "1987654Ad4X4bL5ttr2310c2K",
        &["1987654Ad4X4bL5ttr2310cK2"],
    ),
    (
        "8017 8018",
        "N18",
        "106141411234567897",
        &["106141411234567898"],
    ),
    ("?8019", "N..10", "01", &[]),
    ("?8020", "X..25", "A", &[]),
    ("8030", "Z..90", "Ab-_", &["A===", "=A"]),
    (
        "8110",
        "X..70",
        "0614141890123250110000",
        &["9614141890123250110000"],
    ),
    ("8111", "N4", "0001", &[]),
    (
        "8112",
        "X..70",
        "006141418901230123456",
        &["206141418901230123456"],
    ),
    ("?8200", "X..70", "https://a", &[]),
    ("90", "X..30", "A", &[]),
    ("91 95 99", "X..90", "A", &[]),
];

/// One part of a value.
struct Part {
    set: char,
    min: usize,
    max: usize,
}

/// The parts that must be there, and the ones that may.
fn parts(form: &str) -> (Vec<Part>, Vec<Part>) {
    let (mut needed, mut optional) = (Vec::new(), Vec::new());
    for word in form.split(' ') {
        let inner = word.trim_matches(['[', ']']);
        let (set, length) = inner.split_at(1);
        let max: usize = length.trim_start_matches('.').parse().expect("a length");
        let part = Part {
            set: set.chars().next().expect("a kind"),
            min: if length.starts_with('.') { 1 } else { max },
            max,
        };
        if word.starts_with('[') {
            optional.push(part);
        } else {
            needed.push(part);
        }
    }
    (needed, optional)
}

#[test]
fn values_have_the_form_of_their_identifier() {
    let (mut good, mut bad) = (0, 0);
    for (ais, form, value, wrong) in FORMS {
        let (needed, optional) = parts(form);
        let least: usize = needed.iter().map(|p| p.min).sum();
        let most: usize = needed.iter().chain(&optional).map(|p| p.max).sum();
        for ai in ais.split(' ').map(|ai| ai.trim_start_matches('?')) {
            assert_eq!(validate(ai, value), Ok(()), "({ai}){value}");
            good += 1;
            let mut refused = |value: &str, why: &str| {
                assert!(validate(ai, value).is_err(), "({ai}){value}: {why}");
                bad += 1;
            };
            for value in *wrong {
                refused(value, "its content");
            }
            refused("", "empty");
            refused(&"1".repeat(most + 1), "too long");
            if least > 1 {
                refused(&value[..least - 1], "too short");
            }
            // In the first part: a letter for a digit, and what is in no set.
            let rest = &value[1..];
            match needed[0].set {
                'N' => refused(&format!("A{rest}"), "a letter among digits"),
                'Y' => refused(
                    &format!("{}a", &value[..value.len() - 1]),
                    "lower case in set 39",
                ),
                'Z' => refused(&format!("+{rest}"), "not of set 64"),
                _ => {}
            }
            for outside in [" ", "\u{7f}", "^", "~", "é"] {
                refused(&format!("{outside}{rest}"), "of no set");
            }
        }
    }
    println!("{good} accepted, {bad} refused");
    assert!(good > 150 && bad > 1_000);
}

/// Plain values of the longest length are good, where content is free.
#[test]
fn free_text_may_be_as_long_as_it_says() {
    let mut seen = 0;
    for (ais, form, _, wrong) in FORMS.iter().filter(|f| f.3.is_empty()) {
        let (needed, optional) = parts(form);
        assert!(wrong.is_empty() && optional.is_empty());
        let longest: String = needed.iter().map(|p| "7".repeat(p.max)).collect();
        for ai in ais.split(' ').map(|ai| ai.trim_start_matches('?')) {
            assert_eq!(validate(ai, &longest), Ok(()), "({ai}){longest}");
            seen += 1;
        }
    }
    assert!(seen > 50);
}

#[test]
fn attributes_are_those_that_the_standard_lets_into_a_query() {
    // A key that has none of them as a qualifier.
    let key = "https://id.example/402/95212345678901235";
    for (ais, _, value, _) in FORMS {
        let value: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
        for ai in ais.split(' ') {
            let (number, allowed) = (ai.trim_start_matches('?'), !ai.starts_with('?'));
            if number == "402" {
                continue;
            }
            let link =
                DigitalLink::parse(&format!("{key}?{number}={value}"), LinkOptions::default());
            assert_eq!(link.is_ok(), allowed, "{number}: {link:?}");
        }
    }
}

#[test]
fn numbers_that_are_none_are_refused_in_path_and_query() {
    for ai in [
        "0", "1", "04", "05", "14", "18", "19", "23", "24", "39", "41", "89", "100", "3106",
        "3176", "3390", "3700", "3944", "3956", "409", "418", "428", "4327", "4334", "7012",
        "7024", "718", "7229", "7243", "7260", "8000", "8015", "8016", "8021", "8031", "8113",
        "8201", "9", "900",
    ] {
        assert!(validate(ai, "1").is_err(), "{ai}");
        for uri in [
            format!("https://id.example/402/95212345678901235?{ai}=1"),
            format!("https://id.example/402/95212345678901235/{ai}/1"),
        ] {
            assert!(
                DigitalLink::parse(&uri, LinkOptions::default()).is_err(),
                "{uri}"
            );
        }
    }
}

#[test]
fn hosts_ports_and_stems() {
    let read = |head: &str| {
        let uri = format!("{head}/01/09521234543213");
        DigitalLink::parse(&uri, LinkOptions::default()).is_ok()
    };
    for good in [
        "https://a",
        "HTTP://A.EXAMPLE",
        "https://a.example:8443",
        "https://192.0.2.7",
        "https://[2001:db8::7]:443",
        "https://xn--fiqs8s.example",
        "https://a/01/09521234543214",
        "https://a/414/9521234567899",
        "https://a/x;y=1/b(c)/d,e",
        "https://a/%E4%B8%AD",
    ] {
        assert!(read(good), "{good}");
    }
    for bad in [
        "a.example",
        "https:/a",
        "hTTPS://a",
        "httpss://a",
        "ftp://a",
        "data://a",
        "https://",
        "https://user@a",
        "https://user:word@a",
        "https://a b",
        "https://中.example",
        "https://a/<x>",
        "https://a/\"x\"",
        "https://a\\b",
        "https://a?x",
        "https://a#x",
    ] {
        assert!(!read(bad), "{bad}");
    }
}

#[test]
fn a_compressed_link_is_none() {
    for uri in [
        "https://id.example/AQnYUc1gmg",
        "https://id.example/x/ARHKVAdpQg/17/261231",
    ] {
        assert!(
            DigitalLink::parse(uri, LinkOptions::default()).is_err(),
            "{uri}"
        );
    }
}

#[test]
fn what_separates_a_query_is_an_ampersand() {
    let read = |query: &str| {
        let uri = format!("https://id.example/01/09521234543213?{query}");
        DigitalLink::parse(&uri, LinkOptions::default())
    };
    let value = |query: &str, ai: &str| {
        read(query)
            .ok()
            .and_then(|link| link.value(ai).map(str::to_owned))
    };
    assert_eq!(value("17=261231&99=A", "99").as_deref(), Some("A"));
    // A semicolon is of set 82 and stands in a value; after a date it makes it none.
    assert_eq!(value("99=A;B", "99").as_deref(), Some("A;B"));
    assert!(read("17=261231;99=A").is_err());
    // The first sign of equality ends the key; more are of the value.
    assert_eq!(value("99=A=B", "99").as_deref(), Some("A=B"));
    assert!(read("=17&&x&17=261231&").is_ok());
    assert!(read("17=").is_err() && read("17=261231&17=261231").is_err());
    // A key of letters, or of none, is not GS1's.
    for query in ["17x=1", "x17=1", "=1", "s4t=1", "17%20=1", "%31%37x=1"] {
        assert_eq!(read(query).map(|l| l.attributes().len()), Ok(0), "{query}");
    }
}
