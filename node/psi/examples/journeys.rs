//! Attribution over the whole sample journeys as a private sum, both sides in this process: what it takes, and that it equals the
//! plain reference. Needs the sample (`TALLY_DATA`); run as
//! `cargo run --release -p tally-psi --example journeys -- MODEL [EPSILON]`, with `first`, `last_touch` or `linear`, and an epsilon for
//! noise (delta 10^-6); without one there is none.

#[path = "../tests/sum_common/mod.rs"]
mod sum_common;

use std::time::Instant;

use sum_common::*;
use tally_measure::attribution::{SumModel, Windows, attribute};
use tally_psi::sum::{SumInitiator, SumNoise, SumResponder};
use tally_psi::*;

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn main() {
    let mut args = std::env::args().skip(1);
    let model: SumModel = args
        .next()
        .as_deref()
        .unwrap_or("last_touch")
        .parse()
        .expect("a model");
    let epsilon: Option<f64> = args.next().map(|e| e.parse().expect("an epsilon"));
    let windows = Windows::click_7_view_1();
    let Some((touches, conversions, labels)) = journeys(|_| true) else {
        return;
    };
    let reference =
        attribute(&touches, &conversions, labels.count(), &model, &windows).expect("a reference");
    let mut terms = attribution_terms(&labels, &model, &windows);
    if let Some(epsilon) = epsilon {
        terms.noise = noise(&terms, (epsilon * 1e6) as u32);
    }
    let started = Instant::now();
    let media = media_set(&touches, &terms, &model, &windows);
    let brand = brand_set(&conversions, &terms, &model, &windows);
    println!("encoded in {:.1} s", started.elapsed().as_secs_f64());
    let (cpu, started) = (cpu_s(), Instant::now());
    let mut i = SumInitiator::new(params(&terms, 1), media, seeds(1)).expect("a label side");
    let mut r = SumResponder::new(params(&terms, 1), brand, seeds(2)).expect("a value side");
    let (report, transcript) = machine::run_in_memory(&mut i, &mut r).expect("a run");
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_s() - cpu);
    let [label_rows, entry_rows] = report.statement.counts;
    let bytes: usize = transcript.frames.iter().map(|(_, f)| f.len()).sum();
    let rows = (label_rows + entry_rows) as f64;
    println!(
        "{} on {}: {label_rows} label rows in {} groups, {entry_rows} entry rows; {wall:.1} s, {cpu:.1} s CPU of both sides, {:.0} us a row; {:.0} MB sent, {:.0} bytes a row",
        model,
        backend(),
        terms.groups(),
        cpu / rows * 1e6,
        bytes as f64 / 1e6,
        bytes as f64 / rows,
    );
    let Outcome::Sums { values } = report.outcome else {
        panic!("no sums");
    };
    let unit = f64::from(terms.unit) * 100.0;
    let widest = values.iter().max().copied().unwrap_or(1).max(1) as f64;
    for (label, (sum, exact)) in values.iter().zip(&reference).enumerate() {
        let bar = "#".repeat((*sum as f64 / widest * 40.0).max(0.0) as usize);
        println!(
            "{:10} {:12.2} yuan, exact {:12.2}  {bar}",
            labels.name(label).unwrap_or_default(),
            *sum as f64 / unit,
            *exact as f64 / unit,
        );
    }
    let exact: Vec<i64> = reference
        .iter()
        .map(|v| i64::try_from(*v).expect("a sum"))
        .collect();
    match &terms.noise {
        SumNoise::NoneInTestNetwork => assert_eq!(values, exact, "not the reference"),
        SumNoise::Laplace { values: noise, .. } => {
            let bound = 2 * i64::try_from(noise[0].bound).expect("a bound");
            assert!(
                values
                    .iter()
                    .zip(&exact)
                    .all(|(v, e)| (v - e).abs() <= bound)
            );
        }
    }
    println!("equal to the plain reference, within the noise");
}

/// CPU seconds of this process, from its own statistics; 0 where there are none.
#[allow(clippy::cast_precision_loss)]
fn cpu_s() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return 0.0;
    };
    // User and system time are the 14th and 15th field, in hundredths; the name before them ends with a parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}
