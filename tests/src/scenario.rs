//! What every scenario has: a folder, a seed, and a report if it fails.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Lines of each node's log that a failure shows.
const TAIL: usize = 40;

/// One run of a scenario.
pub struct Scenario {
    dir: TempDir,
    seed: u64,
}

impl Scenario {
    /// Runs a scenario. `TALLY_SEED` sets its seed.
    ///
    /// # Panics
    /// If it fails, after seed and logs were printed.
    pub fn run(name: &str, body: impl FnOnce(&Self) -> Result<()>) {
        let seed = number_from_env("TALLY_SEED").unwrap_or_else(|| rand::thread_rng().next_u64());
        let dir = tempfile::Builder::new()
            .prefix(&format!("tally-{name}-"))
            .tempdir()
            .expect("a temporary folder");
        println!("{name}: TALLY_SEED={seed}");
        let scenario = Self { dir, seed };
        if let Err(e) = body(&scenario) {
            panic!("{name}: {e:?}");
        }
    }

    /// Its folder; gone afterwards.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A generator that depends on the seed and on `stream`, so that threads do not share one.
    #[must_use]
    pub fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("the seed was TALLY_SEED={}", self.seed);
        for log in logs(self.dir.path()) {
            let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of {}", log.display());
            for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
                eprintln!("{line}");
            }
        }
    }
}

/// Every `node.log` in the folder of a scenario.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("node.log"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found
}

/// A number from the environment.
///
/// # Panics
/// If the variable is set to something else.
#[must_use]
pub fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
    )
}

/// Whether nothing may be skipped, as in CI: `CI_STRICT=1`.
#[must_use]
pub fn strict() -> bool {
    std::env::var("CI_STRICT").is_ok_and(|v| v == "1")
}

/// Says why a part is skipped.
///
/// # Panics
/// If nothing may be skipped.
pub fn skip(what: &str, reason: &str) {
    assert!(!strict(), "{what} cannot run: {reason}");
    println!("SKIPPED {what}: {reason}");
}
