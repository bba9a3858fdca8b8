//! The table of application identifiers (GS1 General Specifications 25, section 3; GS1 Digital Link 1.4, section 4).

use super::ai::{Entry, Part, Set};
use super::rules::Rule;

const fn part(set: Set, min: usize, max: usize) -> Part {
    Part {
        set,
        min,
        max,
        optional: false,
        rule: Rule::None,
    }
}
/// Exactly so many digits.
const fn n(len: usize) -> Part {
    part(Set::N, len, len)
}
/// Up to so many digits.
const fn nv(max: usize) -> Part {
    part(Set::N, 1, max)
}
/// Up to so many characters.
const fn x(max: usize) -> Part {
    part(Set::X, 1, max)
}
/// Exactly so many characters.
const fn xf(len: usize) -> Part {
    part(Set::X, len, len)
}
const fn check(len: usize) -> Part {
    n(len).rule(Rule::CheckDigit)
}
const fn date0() -> Part {
    n(6).rule(Rule::Date(true))
}
const fn date() -> Part {
    n(6).rule(Rule::Date(false))
}
const fn key(max: usize) -> Part {
    x(max).rule(Rule::Prefix)
}
const fn coded(max: usize) -> Part {
    x(max).rule(Rule::Percent)
}

const fn country() -> Part {
    n(3).rule(Rule::CountryNumber)
}
const fn currency() -> Part {
    n(3).rule(Rule::CurrencyNumber)
}

const fn ai(first: &'static str, parts: &'static [Part]) -> Entry {
    Entry {
        first,
        last: first,
        parts,
        attribute: true,
    }
}
const fn ais(first: &'static str, last: &'static str, parts: &'static [Part]) -> Entry {
    Entry {
        first,
        last,
        parts,
        attribute: true,
    }
}
const fn not_in_query(first: &'static str, parts: &'static [Part]) -> Entry {
    Entry {
        first,
        last: first,
        parts,
        attribute: false,
    }
}

/// Primary keys of links and the qualifiers that may follow each, in this order.
pub(super) const PATHS: &[(&str, &[&[&str]])] = &[
    ("00", &[]),
    ("01", &[&["22", "10", "21"], &["235"]]),
    ("253", &[]),
    ("255", &[]),
    ("401", &[]),
    ("402", &[]),
    ("414", &[&["254"], &["7040"]]),
    ("415", &[&["8020"]]),
    ("417", &[&["7040"]]),
    ("8003", &[]),
    ("8004", &[&["7040"]]),
    ("8006", &[&["22", "10", "21"]]),
    ("8010", &[&["8011"]]),
    ("8013", &[]),
    ("8017", &[&["8019"]]),
    ("8018", &[&["8019"]]),
];

/// All of them.
pub(super) static TABLE: &[Entry] = &[
    ai("00", &[check(18)]),
    ai("01", &[check(14)]),
    ai("02", &[check(14)]),
    not_in_query("03", &[check(14)]),
    ai("10", &[x(20)]),
    ais("11", "13", &[date0()]),
    ais("15", "17", &[date0()]),
    ai("20", &[n(2)]),
    not_in_query("21", &[x(20)]),
    not_in_query("22", &[x(20)]),
    not_in_query("235", &[x(28)]),
    ais("240", "241", &[x(30)]),
    ai("242", &[nv(6)]),
    ai("243", &[x(20)]),
    ais("250", "251", &[x(30)]),
    ai("253", &[check(13), x(17).optional()]),
    not_in_query("254", &[x(20)]),
    ai("255", &[check(13), nv(12).optional()]),
    ai("30", &[nv(8)]),
    ais("3100", "3105", &[n(6)]),
    ais("3110", "3115", &[n(6)]),
    ais("3120", "3125", &[n(6)]),
    ais("3130", "3135", &[n(6)]),
    ais("3140", "3145", &[n(6)]),
    ais("3150", "3155", &[n(6)]),
    ais("3160", "3165", &[n(6)]),
    ais("3200", "3205", &[n(6)]),
    ais("3210", "3215", &[n(6)]),
    ais("3220", "3225", &[n(6)]),
    ais("3230", "3235", &[n(6)]),
    ais("3240", "3245", &[n(6)]),
    ais("3250", "3255", &[n(6)]),
    ais("3260", "3265", &[n(6)]),
    ais("3270", "3275", &[n(6)]),
    ais("3280", "3285", &[n(6)]),
    ais("3290", "3295", &[n(6)]),
    ais("3300", "3305", &[n(6)]),
    ais("3310", "3315", &[n(6)]),
    ais("3320", "3325", &[n(6)]),
    ais("3330", "3335", &[n(6)]),
    ais("3340", "3345", &[n(6)]),
    ais("3350", "3355", &[n(6)]),
    ais("3360", "3365", &[n(6)]),
    ais("3370", "3375", &[n(6)]),
    ais("3400", "3405", &[n(6)]),
    ais("3410", "3415", &[n(6)]),
    ais("3420", "3425", &[n(6)]),
    ais("3430", "3435", &[n(6)]),
    ais("3440", "3445", &[n(6)]),
    ais("3450", "3455", &[n(6)]),
    ais("3460", "3465", &[n(6)]),
    ais("3470", "3475", &[n(6)]),
    ais("3480", "3485", &[n(6)]),
    ais("3490", "3495", &[n(6)]),
    ais("3500", "3505", &[n(6)]),
    ais("3510", "3515", &[n(6)]),
    ais("3520", "3525", &[n(6)]),
    ais("3530", "3535", &[n(6)]),
    ais("3540", "3545", &[n(6)]),
    ais("3550", "3555", &[n(6)]),
    ais("3560", "3565", &[n(6)]),
    ais("3570", "3575", &[n(6)]),
    ais("3600", "3605", &[n(6)]),
    ais("3610", "3615", &[n(6)]),
    ais("3620", "3625", &[n(6)]),
    ais("3630", "3635", &[n(6)]),
    ais("3640", "3645", &[n(6)]),
    ais("3650", "3655", &[n(6)]),
    ais("3660", "3665", &[n(6)]),
    ais("3670", "3675", &[n(6)]),
    ais("3680", "3685", &[n(6)]),
    ais("3690", "3695", &[n(6)]),
    ai("37", &[nv(8)]),
    ais("3900", "3909", &[nv(15)]),
    ais("3910", "3919", &[currency(), nv(15)]),
    ais("3920", "3929", &[nv(15)]),
    ais("3930", "3939", &[currency(), nv(15)]),
    ais("3940", "3943", &[n(4)]),
    ais("3950", "3955", &[n(6)]),
    ai("400", &[x(30)]),
    ai("401", &[key(30)]),
    ai("402", &[check(17)]),
    ai("403", &[x(30)]),
    ais("410", "417", &[check(13)]),
    ai("420", &[x(20)]),
    ai("421", &[country(), x(9)]),
    ai("422", &[country()]),
    ai(
        "423",
        &[
            country(),
            country().optional(),
            country().optional(),
            country().optional(),
            country().optional(),
        ],
    ),
    ai("424", &[country()]),
    ai(
        "425",
        &[
            country(),
            country().optional(),
            country().optional(),
            country().optional(),
            country().optional(),
        ],
    ),
    ai("426", &[country()]),
    ai("427", &[x(3)]),
    ais("4300", "4301", &[coded(35)]),
    ais("4302", "4306", &[coded(70)]),
    ai("4307", &[xf(2).rule(Rule::Country)]),
    ai("4308", &[x(30)]),
    ai(
        "4309",
        &[
            n(10).rule(Rule::AtMost(1_800_000_000)),
            n(10).rule(Rule::AtMost(3_600_000_000)),
        ],
    ),
    ais("4310", "4311", &[coded(35)]),
    ais("4312", "4316", &[coded(70)]),
    ai("4317", &[xf(2).rule(Rule::Country)]),
    ai("4318", &[x(20)]),
    ai("4319", &[x(30)]),
    ai("4320", &[coded(35)]),
    ais("4321", "4323", &[n(1).rule(Rule::ZeroOrOne)]),
    ais("4324", "4325", &[date0(), n(4).rule(Rule::Minutes)]),
    ai("4326", &[date()]),
    ais(
        "4330",
        "4333",
        &[n(6), xf(1).optional().rule(Rule::OneOf(b"-"))],
    ),
    ai("7001", &[n(13)]),
    ai("7002", &[x(30)]),
    ai("7003", &[date(), n(4).rule(Rule::Minutes)]),
    ai("7004", &[nv(4)]),
    ai("7005", &[x(12)]),
    ai("7006", &[date()]),
    ai("7007", &[date(), date().optional()]),
    ai("7008", &[x(3)]),
    ai("7009", &[x(10)]),
    ai("7010", &[x(2)]),
    ai("7011", &[date(), n(4).rule(Rule::Minutes).optional()]),
    ais("7020", "7022", &[x(20)]),
    ai("7023", &[key(30)]),
    ais(
        "7030",
        "7039",
        &[n(3).rule(Rule::CountryNumberOrAny), x(27)],
    ),
    not_in_query("7040", &[n(1), xf(2), xf(1).rule(Rule::Importer)]),
    not_in_query("7041", &[x(4).rule(Rule::Package)]),
    ais("710", "717", &[x(20)]),
    ais("7230", "7239", &[xf(2), x(28)]),
    ai("7240", &[x(20)]),
    ai("7241", &[n(2).rule(Rule::Media)]),
    ai("7242", &[x(25)]),
    ai("7250", &[n(8).rule(Rule::LongDate)]),
    ai(
        "7251",
        &[n(8).rule(Rule::LongDate), n(4).rule(Rule::Minutes)],
    ),
    ai("7252", &[n(1).rule(Rule::OneOf(b"0129"))]),
    ais("7253", "7254", &[coded(40)]),
    ai("7255", &[x(10)]),
    ai("7256", &[coded(90)]),
    ai("7257", &[coded(70)]),
    ai("7258", &[xf(3).rule(Rule::Position)]),
    ai("7259", &[coded(40)]),
    ai(
        "8001",
        &[
            n(4).rule(Rule::NotZero),
            n(5).rule(Rule::NotZero),
            n(3).rule(Rule::NotZero),
            n(1).rule(Rule::OneOf(b"019")),
            n(1),
        ],
    ),
    ai("8002", &[x(20)]),
    ai(
        "8003",
        &[n(1).rule(Rule::Zero), check(13), x(16).optional()],
    ),
    ai("8004", &[key(30)]),
    ai("8005", &[n(6)]),
    ai("8006", &[check(14), n(4).rule(Rule::Pieces)]),
    ai("8007", &[x(34).rule(Rule::Iban)]),
    ai("8008", &[date(), part(Set::N, 2, 6).rule(Rule::Time)]),
    ai("8009", &[x(50)]),
    ai("8010", &[part(Set::Y, 1, 30).rule(Rule::Prefix)]),
    not_in_query("8011", &[nv(12).rule(Rule::NoZeroPrefix)]),
    ai("8012", &[x(20)]),
    ai("8013", &[x(25).rule(Rule::Model(false))]),
    not_in_query("8014", &[x(25).rule(Rule::Model(true))]),
    ais("8017", "8018", &[check(18)]),
    not_in_query("8019", &[nv(10)]),
    not_in_query("8020", &[x(25)]),
    ai("8026", &[check(14), n(4).rule(Rule::Pieces)]),
    ai("8030", &[part(Set::Z, 1, 90).rule(Rule::Padding)]),
    ai("8110", &[x(70).rule(Rule::Coupon)]),
    ai("8111", &[n(4)]),
    ai("8112", &[x(70).rule(Rule::Offer)]),
    not_in_query("8200", &[x(70)]),
    ai("90", &[x(30)]),
    ais("91", "99", &[x(90)]),
];
