//! `tally bench issue`: unit codes made by the path of `tally codes issue`, from keys to the printer's file on disk.
//!
//! Measured: drawing keys, cipher, tags, claim codes, the leaves and all levels of both trees, the CSV file of outer
//! codes, the encrypted one of claim codes, sealing the batch, and syncing all of it. Not measured: the one record that tells the ledger.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::RngCore as _;
use rand::rngs::OsRng;
use serde::Serialize;
use tally_codes::batch::RowFormat;
use tally_codes::ff1::{GROUP, Permutation};
use tally_codes::gs1::UrlBase;
use tally_codes::keys::SecretKey;
use tally_contracts::ids::MemberId;
use tally_contracts::records::{Gtin, Lot};
use tally_merkle::sha256;

use super::kit::{Scratch, cores, hardware, used};
use crate::issuer::{
    ClaimsOrder, IssuerError, IssuerStore, NewBatch, NoneAnchored, PrintOrder, Recipients,
};
use crate::sealed::StorageKey;

/// SHA-256 compressions a code needs: tag 2, claim commitment 2, unit leaf 2, redemption leaf 1, a node of each tree 2.
const COMPRESSIONS: f64 = 11.0;
/// AES-256 calls a code needs: cipher 10, salts and claim code 3, nullifier 2, the two orders of leaves 20.
const AES_CALLS: f64 = 35.0;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder for temporary files.
    #[error("a temporary folder cannot be made: {0}")]
    Scratch(#[from] std::io::Error),
    /// The issuer's store.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A number of codes out of range.
    #[error(transparent)]
    Codes(#[from] tally_codes::Error),
    /// A constant of this bench is none; a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Codes, 1 to 2^32.
    pub count: u64,
    /// Where the batch and its file are made for the time being; the system's folder for temporary files if none is given.
    pub dir: Option<PathBuf>,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Codes made.
    pub count: u64,
    /// From the call to the file and the batch on disk.
    pub wall_s: f64,
    /// Codes a second of wall time.
    pub codes_per_s: f64,
    /// Largest resident set of the process.
    pub rss_mb: f64,
    /// User and system time of the process for it.
    pub cpu_s: f64,
    /// The same for each code, in microseconds.
    pub cpu_us_per_code: f64,
    /// Bytes of the file of outer codes.
    pub csv_bytes: u64,
    /// Bytes of the encrypted file of claim codes.
    pub claims_bytes: u64,
    /// One SHA-256 compression on one core, in nanoseconds, measured after the run as this crate runs them in bulk.
    pub sha256_ns: f64,
    /// One AES-256 call on one core, in nanoseconds, as a tenth of the cipher of a code.
    pub aes256_ns: f64,
    /// What the 11 compressions and 35 AES calls of a code take at these speeds, as a share of `cpu_us_per_code`.
    pub primitives_share: f64,
    /// Processor and kernel.
    pub hardware: String,
    /// Cores.
    pub cores: usize,
    /// How SHA-256 is computed in bulk.
    pub backend: String,
}

/// Runs the bench; `progress` is called with the codes made and the codes in all.
///
/// # Errors
/// Any of [`Error`].
pub fn run(options: &Options, progress: &mut dyn FnMut(u64, u64)) -> Result<Figures, Error> {
    let scratch = Scratch::new(options.dir.as_deref())?;
    let mut key = [0; 32];
    OsRng.fill_bytes(&mut key);
    let store = IssuerStore::open(
        scratch.path().join("codes"),
        StorageKey::from_bytes(key),
        MemberId([7; 16]),
        Arc::new(NoneAnchored),
    )?;
    let new = NewBatch {
        gtin: "09521234543213"
            .parse::<Gtin>()
            .map_err(|e| Error::Internal(e.to_string()))?,
        lot: "BENCH"
            .parse::<Lot>()
            .map_err(|e| Error::Internal(e.to_string()))?,
        count: options.count,
        first_index: 0,
        expiry: None,
    };
    let base = UrlBase::parse("https://id.brand.cn")?;
    let out = scratch.path().join("codes.csv");
    let claims_out = scratch.path().join("claims.csv.age");
    let printer = age::x25519::Identity::generate().to_public().to_string();
    let order = PrintOrder {
        base,
        format: RowFormat::Csv,
        out: out.clone(),
        claims: Some(ClaimsOrder {
            out: claims_out.clone(),
            to: Recipients::new(&[printer]).map_err(|e| Error::Internal(e.to_string()))?,
        }),
    };
    let (started, before) = (Instant::now(), used());
    store.print_batch(&new, &order, progress)?;
    let (wall_s, after) = (started.elapsed().as_secs_f64(), used());
    let cpu_s = after.cpu_s - before.cpu_s;
    let count = precise(options.count);
    let cpu_us_per_code = cpu_s * 1e6 / count;
    let (sha256_ns, aes256_ns) = (sha256_ns(), aes256_ns());
    let primitives_us = (COMPRESSIONS * sha256_ns + AES_CALLS * aes256_ns) / 1000.0;
    Ok(Figures {
        count: options.count,
        wall_s,
        codes_per_s: count / wall_s,
        rss_mb: after.rss_mb,
        cpu_s,
        cpu_us_per_code,
        csv_bytes: size(&out)?,
        claims_bytes: size(&claims_out)?,
        sha256_ns,
        aes256_ns,
        primitives_share: primitives_us / cpu_us_per_code,
        hardware: hardware(),
        cores: cores(),
        backend: sha256::backend().to_owned(),
    })
}

fn size(path: &Path) -> Result<u64, Error> {
    Ok(std::fs::metadata(path)?.len())
}

/// CPU time of `step`, called often enough to be measured, in nanoseconds.
fn cpu_ns(calls: u32, mut step: impl FnMut()) -> f64 {
    let before = used().cpu_s;
    for _ in 0..calls {
        step();
    }
    (used().cpu_s - before) * 1e9 / f64::from(calls)
}

fn sha256_ns() -> f64 {
    let mut states = [sha256::INITIAL; 2];
    let (a, b) = ([[1; 64]; 2], [[2; 64]; 2]);
    cpu_ns(1 << 20, || {
        sha256::compress_pair(&mut states, black_box(&a), black_box(&b));
    }) / 4.0
}

#[allow(clippy::cast_precision_loss, reason = "a small constant")]
fn aes256_ns() -> f64 {
    let permutation = Permutation::new(&SecretKey::from_bytes([1; 32]), b"09521234543213");
    let mut numbers = [7; GROUP];
    cpu_ns(1 << 15, || {
        permutation.encrypt_group(black_box(&mut numbers));
    }) / (10 * GROUP) as f64
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
const fn precise(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leaves_figures_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            count: 20_000,
            dir: Some(dir.path().to_owned()),
        };
        let mut last = (0, 0);
        let f = run(&options, &mut |done, total| last = (done, total)).unwrap();
        assert_eq!((f.count, last), (20_000, (20_000, 20_000)));
        let row = "HTTPS://ID.BRAND.CN/01/09521234543213/21/".len() + 20 + 1 + 20 + 1;
        assert_eq!(f.csv_bytes, 11 + 20_000 * row as u64);
        assert!(f.claims_bytes > 18 + 20_000 * 37);
        assert!(f.codes_per_s > 0.0 && f.sha256_ns > 0.0 && f.primitives_share > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(
            run(
                &Options {
                    count: 0,
                    ..options
                },
                &mut |_, _| {}
            ),
            Err(Error::Issuer(_))
        ));
    }
}
