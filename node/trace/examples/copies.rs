//! Measures the detector on the fresh seeds: writes the chart `docs/copies.svg` and prints the tables of `docs/copies.md`.
//!
//! `cargo run --release -p tally-trace --example copies -- docs/copies.svg`

use std::fmt::Write as _;
use std::process::ExitCode;

use tally_trace::score::DEFAULT_THRESHOLD_MNAT;
use tally_trace::sim::params::{CITY_STEPS, COPY_STEPS, FRESH_SEEDS, FROZEN, SCAN_RATES};
use tally_trace::sim::run::{CodeScores, campaign_scores, honest_score};
use tally_trace::sim::{Campaign, World};

/// Honest units of each seed.
const HONEST: u64 = 500_000;
/// Runs of each campaign and seed.
const RUNS: u64 = 250;
/// Copied codes among scanned codes, for the precision.
const ONE_IN: [f64; 2] = [1_000.0, 10_000.0];

/// Share of scores that reach a threshold.
fn share(scores: &[u32], threshold: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let of = |n: usize| n as f64;
    of(scores.iter().filter(|s| **s >= threshold).count()) / of(scores.len().max(1))
}

fn codes(world: &World, copies: u32, cities: usize, scan_rate: f64) -> Vec<CodeScores> {
    let campaign = Campaign {
        copies,
        sources: 1,
        cities,
        scan_rate,
    };
    FRESH_SEEDS
        .into_iter()
        .flat_map(|seed| {
            let campaign = &campaign;
            (0..RUNS).flat_map(move |run| campaign_scores(world, seed, run, campaign))
        })
        .collect()
}

/// Share noticed by the third pack of those with three, and at the end of all that were scanned.
fn noticed(codes: &[CodeScores]) -> (f64, f64, f64) {
    let third: Vec<u32> = codes.iter().filter_map(|c| c.third_pack).collect();
    let strict: Vec<u32> = codes.iter().filter_map(|c| c.third_scan).collect();
    let last: Vec<u32> = codes
        .iter()
        .filter(|c| c.packs > 0)
        .map(|c| c.last)
        .collect();
    let at = DEFAULT_THRESHOLD_MNAT;
    (share(&third, at), share(&strict, at), share(&last, at))
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("expected the file to write, for example docs/copies.svg");
        return ExitCode::FAILURE;
    };
    let world = World::new(FROZEN);
    let honest: Vec<u32> = std::thread::scope(|scope| {
        let world = &world;
        let parts = FRESH_SEEDS.map(|seed| {
            scope.spawn(move || {
                (0..HONEST)
                    .map(|unit| honest_score(world, seed, unit))
                    .collect::<Vec<_>>()
            })
        });
        parts
            .into_iter()
            .flat_map(|p| p.join().unwrap_or_default())
            .collect()
    });
    let called = honest
        .iter()
        .filter(|s| **s >= DEFAULT_THRESHOLD_MNAT)
        .count();
    println!("{called} of {} honest units called suspect\n", honest.len());

    println!("| cities | buyers who scan | third pack | third scan | all scans |");
    println!("| --- | --- | --- | --- | --- |");
    let percent = |x: f64| format!("{:.1}%", x * 100.0);
    let mut curves = vec![(Vec::new(), Vec::new()); SCAN_RATES.len()];
    for (x, cities) in CITY_STEPS.into_iter().enumerate() {
        for (rate, curve) in SCAN_RATES.into_iter().zip(&mut curves) {
            let (third, strict, last) = noticed(&codes(&world, 100, cities, rate));
            println!(
                "| {cities} | {} | {} | {} | {} |",
                percent(rate),
                percent(third),
                percent(strict),
                percent(last)
            );
            curve.0.push((index(x), third));
            curve.1.push((index(x), last));
        }
    }
    println!("\n| copies in 20 cities | buyers who scan | all scans |");
    println!("| --- | --- | --- |");
    for copies in COPY_STEPS {
        for rate in SCAN_RATES {
            let (_, _, last) = noticed(&codes(&world, copies, 20, rate));
            println!("| {copies} | {} | {} |", percent(rate), percent(last));
        }
    }

    let wide: Vec<u32> = [20, 30, 50]
        .into_iter()
        .flat_map(|cities| SCAN_RATES.map(|rate| codes(&world, 100, cities, rate)))
        .flatten()
        .filter_map(|c| c.third_pack)
        .collect();
    let steps: Vec<u32> = (0..=48).map(|i| i * 250).collect();
    let curve = |f: &dyn Fn(u32) -> f64| -> Vec<(f64, f64)> {
        steps
            .iter()
            .map(|t| (f64::from(*t) / 1000.0, f(*t)))
            .collect()
    };
    let precision = |one_in: f64, t: u32| {
        let (hit, wrong) = (
            share(&wide, t) / one_in,
            share(&honest, t) * (1.0 - 1.0 / one_in),
        );
        if hit + wrong > 0.0 {
            hit / (hit + wrong)
        } else {
            1.0
        }
    };
    let at = DEFAULT_THRESHOLD_MNAT;
    println!(
        "\nthird pack, 20 to 50 cities: {}",
        percent(share(&wide, at))
    );
    for one_in in ONE_IN {
        println!(
            "precision at one copied code in {one_in}: {}",
            percent(precision(one_in, at))
        );
    }

    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 420\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Copied codes noticed, precision and recall, on fresh seeds</title>\n\
         <rect width=\"1000\" height=\"420\" fill=\"#fff\"/>\n",
    );
    let threshold = f64::from(at) / 1000.0;
    let marks: Vec<(f64, String)> = (0..=6)
        .map(|i| (f64::from(i) * 2.0, (i * 2).to_string()))
        .collect();
    panel(
        &mut svg,
        60.0,
        "Threshold, natural log of the ratio (line: default)",
        "Precision and recall at the third pack, 20 to 50 cities",
        (0.0, 12.0),
        &marks,
        &[
            ("recall", "#1b4f9c", "", curve(&|t| share(&wide, t))),
            (
                "precision, 1 code in 1,000 copied",
                "#b3261e",
                "",
                curve(&|t| precision(ONE_IN[0], t)),
            ),
            (
                "precision, 1 in 10,000",
                "#b3261e",
                "6 4",
                curve(&|t| precision(ONE_IN[1], t)),
            ),
        ],
        Some(threshold),
    );
    let marks: Vec<(f64, String)> = CITY_STEPS
        .iter()
        .enumerate()
        .map(|(x, c)| (index(x), c.to_string()))
        .collect();
    let [low, middle, high] = [0, 1, 2].map(|i| curves.get(i).cloned().unwrap_or_default());
    panel(
        &mut svg,
        560.0,
        "Cities over which 100 copies are spread",
        "Recall: third pack (full) and all scans (dashed)",
        (0.0, index(CITY_STEPS.len() - 1)),
        &marks,
        &[
            ("5% of buyers scan", "#7a5200", "", low.0),
            ("10%", "#1b4f9c", "", middle.0),
            ("30%", "#0b6b3a", "", high.0),
            ("", "#7a5200", "6 4", low.1),
            ("", "#1b4f9c", "6 4", middle.1),
            ("", "#0b6b3a", "6 4", high.1),
        ],
        None,
    );
    svg.push_str("</svg>\n");
    if let Err(error) = std::fs::write(&path, svg) {
        eprintln!("{path}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn index(i: usize) -> f64 {
    f64::from(u32::try_from(i).unwrap_or_default())
}

type Line<'a> = (&'a str, &'a str, &'a str, Vec<(f64, f64)>);

#[expect(
    clippy::too_many_arguments,
    reason = "one for each thing that is drawn"
)]
fn panel(
    svg: &mut String,
    left: f64,
    x_name: &str,
    title: &str,
    range: (f64, f64),
    marks: &[(f64, String)],
    lines: &[Line<'_>],
    upright: Option<f64>,
) {
    let (top, width, height) = (50.0, 400.0, 280.0);
    let x = |v: f64| left + (v - range.0) / (range.1 - range.0) * width;
    let y = |v: f64| top + (1.0 - v) * height;
    let mut text = |x: f64, y: f64, anchor: &str, fill: &str, words: &str| {
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{words}</text>"
        );
    };
    text(left + width / 2.0, 25.0, "middle", "#111", title);
    text(
        left + width / 2.0,
        top + height + 45.0,
        "middle",
        "#111",
        x_name,
    );
    for (v, name) in marks {
        text(x(*v), top + height + 20.0, "middle", "#444", name);
    }
    for i in 0..=4 {
        let v = f64::from(i) / 4.0;
        text(
            left - 8.0,
            y(v) + 4.0,
            "end",
            "#444",
            &format!("{}%", i * 25),
        );
    }
    let mut row = top + height - 15.0;
    for (name, colour, _, _) in lines.iter().rev().filter(|l| !l.0.is_empty()) {
        text(left + width - 10.0, row, "end", colour, name);
        row -= 18.0;
    }
    for i in 0..=4 {
        let v = y(f64::from(i) / 4.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.1}\" y1=\"{v:.1}\" x2=\"{:.1}\" y2=\"{v:.1}\" stroke=\"#ddd\"/>",
            left + width
        );
    }
    if let Some(v) = upright {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{top}\" x2=\"{0:.1}\" y2=\"{1:.1}\" stroke=\"#111\" stroke-dasharray=\"2 3\"/>",
            x(v),
            top + height
        );
    }
    for (_, colour, dashes, points) in lines {
        let points: Vec<String> = points
            .iter()
            .map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        );
    }
}
