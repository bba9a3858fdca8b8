//! Times and places as people read them.

use tally_contracts::records::ExpiryDate;
use time::format_description::well_known::Rfc3339;
use time::macros::{format_description, offset};
use time::{Date, Month, OffsetDateTime, UtcOffset};

use super::lang::Lang;
use crate::scans::Place;

fn moment(ms: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// As `5 March 2026, 14:03 UTC`, or as `2026年3月5日 22:03（北京时间）`. The zone is named: nobody knows where the reader is.
pub(super) fn when(lang: Lang, ms: u64) -> String {
    let (zone, format): (UtcOffset, _) = match lang {
        Lang::En => (
            UtcOffset::UTC,
            format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC"),
        ),
        Lang::Zh => (
            offset!(+8),
            format_description!(
                "[year]年[month padding:none]月[day padding:none]日 [hour]:[minute]（北京时间）"
            ),
        ),
    };
    moment(ms)
        .to_offset(zone)
        .format(format)
        .unwrap_or_default()
}

/// The last day of an expiry date, as `31 December 2026`, or as `2026年12月31日`.
pub(super) fn day(lang: Lang, date: &ExpiryDate) -> String {
    let format = match lang {
        Lang::En => format_description!("[day padding:none] [month repr:long] [year]"),
        Lang::Zh => format_description!("[year]年[month padding:none]月[day padding:none]日"),
    };
    let (year, month, day) = date.last_day();
    let number = |n: u32| u8::try_from(n).unwrap_or_default();
    Month::try_from(number(month))
        .and_then(|m| {
            Date::from_calendar_date(i32::try_from(year).unwrap_or_default(), m, number(day))
        })
        .ok()
        .and_then(|d| d.format(format).ok())
        .unwrap_or_default()
}

/// As RFC 3339 has it, in UTC.
pub(super) fn rfc3339(ms: u64) -> String {
    moment(ms).format(&Rfc3339).unwrap_or_default()
}

/// Countries that goods of these networks are likely to be scanned in: two letters, English, Chinese. Others keep their letters.
const COUNTRIES: &[(&str, &str, &str)] = &[
    ("AE", "United Arab Emirates", "阿联酋"),
    ("AU", "Australia", "澳大利亚"),
    ("BR", "Brazil", "巴西"),
    ("CA", "Canada", "加拿大"),
    ("CH", "Switzerland", "瑞士"),
    ("CN", "China", "中国"),
    ("DE", "Germany", "德国"),
    ("ES", "Spain", "西班牙"),
    ("FR", "France", "法国"),
    ("GB", "United Kingdom", "英国"),
    ("HK", "Hong Kong, China", "中国香港"),
    ("ID", "Indonesia", "印度尼西亚"),
    ("IN", "India", "印度"),
    ("IT", "Italy", "意大利"),
    ("JP", "Japan", "日本"),
    ("KH", "Cambodia", "柬埔寨"),
    ("KR", "South Korea", "韩国"),
    ("LA", "Laos", "老挝"),
    ("MM", "Myanmar", "缅甸"),
    ("MO", "Macao, China", "中国澳门"),
    ("MX", "Mexico", "墨西哥"),
    ("MY", "Malaysia", "马来西亚"),
    ("NL", "Netherlands", "荷兰"),
    ("NZ", "New Zealand", "新西兰"),
    ("PH", "Philippines", "菲律宾"),
    ("RU", "Russia", "俄罗斯"),
    ("SG", "Singapore", "新加坡"),
    ("TH", "Thailand", "泰国"),
    ("TW", "Taiwan, China", "中国台湾"),
    ("US", "United States", "美国"),
    ("VN", "Vietnam", "越南"),
];

/// As `Sichuan, China`, or as `中国 Sichuan`: the region as it was said. Without a country, as `near 30.7° N, 104.1° E`.
pub(super) fn place(lang: Lang, place: &Place) -> String {
    if let Some((lat, lon)) = place.degrees() {
        let pick = |south_or_west, names: [(&str, &str); 2]| {
            let (en, zh) = names[usize::from(south_or_west)];
            lang.pick(en, zh).to_owned()
        };
        let ns = pick(lat < 0.0, [("N", "北纬"), ("S", "南纬")]);
        let ew = pick(lon < 0.0, [("E", "东经"), ("W", "西经")]);
        let (lat, lon) = (lat.abs(), lon.abs());
        return match lang {
            Lang::En => format!("near {lat:.1}° {ns}, {lon:.1}° {ew}"),
            Lang::Zh => format!("约{ns}{lat:.1}°，{ew}{lon:.1}°"),
        };
    }
    let country = COUNTRIES
        .iter()
        .find(|(code, _, _)| *code == place.country())
        .map_or(place.country(), |(_, en, zh)| lang.pick(en, zh));
    match (place.region(), lang) {
        ("", _) => country.to_owned(),
        (region, Lang::En) => format!("{region}, {country}"),
        (region, Lang::Zh) => format!("{country} {region}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places() {
        assert_eq!(rfc3339(1_772_719_380_123), "2026-03-05T14:03:00.123Z");
        assert_eq!(when(Lang::En, 1_772_719_380_123), "5 March 2026, 14:03 UTC");
        for (date, en, zh) in [
            ("261231", "31 December 2026", "2026年12月31日"),
            ("280200", "29 February 2028", "2028年2月29日"),
            ("750105", "5 January 2075", "2075年1月5日"),
        ] {
            let date = date.parse().expect("date");
            assert_eq!(day(Lang::En, &date), en);
            assert_eq!(day(Lang::Zh, &date), zh);
        }
        let at = |lang, country, region| place(lang, &Place::new(country, region).expect("place"));
        assert_eq!(at(Lang::En, "cn", ""), "China");
        assert_eq!(at(Lang::Zh, "de", "Bayern"), "德国 Bayern");
        assert_eq!(at(Lang::En, "is", "Reykjavik"), "Reykjavik, IS");
        assert!(COUNTRIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
