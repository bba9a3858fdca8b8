//! Codes made in a second with both trees, with and without the printer's rows, and codes checked in a second.
//!
//! `cargo bench -p tally-codes -- [UNITS]`, a million by default.

use std::hint::black_box;
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tally_codes::batch::{
    BatchBuild, BatchRows, BatchSpec, Deriver, RowBuffers, RowFormat, RowForms,
};
use tally_codes::ff1::{GROUP, Permutation};
use tally_codes::gs1::UrlBase;
use tally_codes::keys::{BatchKeys, IssuerId, IssuerKeys, SecretKey};
use tally_codes::verdict::{BatchChecker, BatchStatus, check};

fn rate(what: &str, n: u64, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let s = start.elapsed().as_secs_f64();
    println!("{what}: {n} in {s:.3} s, {:.0} a second", n as f64 / s);
}

fn main() -> Result<(), tally_codes::Error> {
    let count = std::env::args()
        .filter_map(|a| a.parse().ok())
        .next()
        .unwrap_or(1_000_000);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut rng);
    let keys = BatchKeys::generate(&mut rng);
    let spec = BatchSpec::new("09521234543213".parse()?, 0, count)?;
    let deriver = Deriver::new(&issuer, issuer.current(), &keys, spec)?;
    let base = UrlBase::parse("https://id.brand.cn")?;
    println!("{} threads", rayon::current_num_threads());

    let permutation = Permutation::new(&SecretKey::from_bytes([1; 32]), b"09521234543213");
    rate("FF1 alone, one thread", count, || {
        for i in (0..u128::from(count)).step_by(GROUP) {
            let mut numbers = std::array::from_fn(|j| i + j as u128);
            permutation.encrypt_group(&mut numbers);
            black_box(&numbers);
        }
    });
    let rows = RowForms::outer(RowFormat::Csv, base).with_claims(true);
    for (what, forms) in [
        ("both trees", &RowForms::none()),
        ("both trees and rows", &rows),
    ] {
        rate(what, count, || {
            let mut build = BatchBuild::new(&deriver, forms);
            let mut part = RowBuffers::default();
            while build.next_rows(&mut part) {
                black_box(part.outer.len());
            }
            black_box(build.finish().map(|t| t.unit.root()).ok());
        });
    }
    rate("claim codes alone", count, || {
        let mut rows = BatchRows::new(&deriver, &RowForms::claims(RowFormat::Csv), u64::MAX);
        let mut part = RowBuffers::default();
        while rows.next_rows(&mut part) {
            black_box(part.claims.len());
        }
    });
    let mut build = BatchBuild::new(&deriver, &RowForms::none());
    while build.next_rows(&mut RowBuffers::default()) {}
    let trees = build.finish()?;
    rate("unit openings, one thread", 1000, || {
        for i in 0..1000 {
            black_box(
                deriver
                    .unit_opening(i * (count / 1000), |l, at| trees.unit.node(l, at))
                    .is_ok(),
            );
        }
    });
    let checker = BatchChecker::new(&issuer, issuer.current(), &keys, spec);
    let serial = deriver.unit(count / 2)?.serial;
    rate("checks, one thread", 100_000, || {
        for _ in 0..100_000 {
            black_box(
                check::<tally_codes::Error>(
                    &issuer,
                    &std::iter::once(&checker),
                    spec.gtin(),
                    serial,
                    |_| Ok(Some(BatchStatus::Active)),
                )
                .is_ok(),
            );
        }
    });
    Ok(())
}
