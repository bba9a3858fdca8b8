//! Writes the sample data of the quickstart: `generate_sample DIR [SEED]`. The same seed gives the same bytes.
//!
//! Everything in it is made up. Phone numbers are 555-0100 to 555-0199 under North American area codes, which are set aside
//! for fiction and belong to nobody.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

const SEED: u64 = 20_261_123;
const BRAND_PEOPLE: usize = 3_000;
const MEDIA_PEOPLE: usize = 4_000;
const COMMON: usize = 1_200;
const AREA_CODES: [u16; 100] = [
    201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225,
    228, 229, 231, 234, 239, 240, 248, 251, 252, 253, 254, 256, 260, 262, 267, 269, 270, 276, 281,
    301, 302, 303, 304, 305, 307, 308, 309, 310, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321,
    323, 325, 330, 331, 334, 336, 337, 339, 347, 351, 352, 360, 361, 386, 401, 402, 404, 405, 406,
    407, 408, 409, 410, 412, 413, 414, 415, 417, 419, 423, 424, 425, 430, 432, 434, 435, 440, 443,
    469, 470, 475, 478, 479,
];
const CHANNELS: [&str; 6] = ["search", "social", "video", "display", "audio", "email"];
/// 1 March 2026, 00:00 UTC.
const START: u64 = 1_772_323_200;
const DAY: u64 = 86_400;

/// One way in which people write a number.
fn written(number: (u16, u16), rng: &mut ChaCha20Rng) -> String {
    let (area, line) = number;
    match rng.gen_range(0..10) {
        0 => format!("+1 {area} 555 {line:04}"),
        1 => format!("+1-{area}-555-{line:04}"),
        2 => format!("+1 ({area}) 555-{line:04}"),
        _ => format!("+1{area}555{line:04}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: generate_sample DIR [SEED]")?;
    let seed = args.next().map_or(Ok(SEED), |s| s.parse())?;
    println!("seed {seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut numbers: Vec<(u16, u16)> = AREA_CODES
        .iter()
        .flat_map(|area| (100..200).map(move |line| (*area, line)))
        .collect();
    numbers.shuffle(&mut rng);
    let brand_people = numbers.get(..BRAND_PEOPLE).ok_or("too few numbers")?;
    let first_of_media = BRAND_PEOPLE - COMMON;
    let media_people = numbers
        .get(first_of_media..first_of_media + MEDIA_PEOPLE)
        .ok_or("too few numbers")?;

    let mut conversions = Vec::new();
    let mut touches = Vec::new();
    let common: BTreeSet<_> = media_people.iter().take(COMMON).collect();
    for person in brand_people {
        for _ in 0..if rng.gen_bool(0.12) { 2 } else { 1 } {
            let at = START + rng.gen_range(10 * DAY..40 * DAY);
            let value = rng.gen_range(5..400) * 100 + 90;
            conversions.push((at, *person, value));
            // Most of the common people were touched in the days before they bought.
            if common.contains(person) && rng.gen_bool(0.7) {
                for _ in 0..rng.gen_range(1..4) {
                    touches.push((at - rng.gen_range(60..9 * DAY), *person));
                }
            }
        }
    }
    for person in media_people {
        for _ in 0..rng.gen_range(1..4) {
            touches.push((START + rng.gen_range(0..40 * DAY), *person));
        }
    }
    conversions.sort_unstable();
    touches.sort_unstable();

    let mut brand = vec!["phone,converted_at,value_cents,order_id".to_owned()];
    for (i, (at, person, value)) in conversions.iter().enumerate() {
        let phone = written(*person, &mut rng);
        brand.push(format!("{phone},{at},{value},order-{:06}", i + 1));
    }
    let mut media = vec!["phone,touched_at,channel,kind".to_owned()];
    for (at, person) in &touches {
        let phone = written(*person, &mut rng);
        let channel = CHANNELS.choose(&mut rng).ok_or("no channel")?;
        let kind = if rng.gen_bool(0.25) { "click" } else { "view" };
        media.push(format!("{phone},{at},{channel},{kind}"));
    }
    spoil(&mut brand, "unknown,1773100800,4990,order-900001");
    spoil(&mut media, "unknown,1773100800,search,view");

    let dir = Path::new(&dir);
    for (name, rows) in [
        ("brand_conversions.csv", &brand),
        ("media_touches.csv", &media),
    ] {
        fs::write(dir.join(name), rows.join("\n") + "\n")?;
        println!("{name}: {} rows", rows.len() - 1);
    }
    println!("{BRAND_PEOPLE} and {MEDIA_PEOPLE} people, {COMMON} in common");
    Ok(())
}

/// Puts rows in that an import has to report: none of them changes who is in the file.
fn spoil(rows: &mut Vec<String>, nobody: &str) {
    let rest = nobody
        .strip_prefix("unknown")
        .unwrap_or_default()
        .to_owned();
    let repeated = rows.get(40).cloned().unwrap_or_default();
    let known = repeated.split(',').next().unwrap_or_default().to_owned();
    let bad = [
        (60, nobody.to_owned()),
        (200, format!("+1 212 555{rest}")),
        (350, rest.clone()),
        (500, repeated.clone()),
        (501, repeated),
        (700, known.clone()),
        (900, format!("\"{known}\" ?{rest}")),
        (1_100, format!("+1 212 555 0100 0100{rest}")),
        (1_300, format!("{}{rest}", "9".repeat(1_100))),
        (1_500, format!("{known}{rest},one column too many")),
    ];
    for (at, row) in bad {
        rows.insert(at, row);
    }
    rows.push(format!("\"{known}{rest}"));
}
