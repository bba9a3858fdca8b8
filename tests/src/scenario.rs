//! What every scenario has: a folder, a seed, and a report if it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Lines of each node's log that a failure shows.
const TAIL: usize = 40;

/// One run of a scenario. If it fails, its nodes' whole logs are copied below `TALLY_KEEP_LOGS`, where that is set.
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
            panic!("{name}: {e:#}");
        }
    }

    /// As [`Self::run`], with no other scenario beside it that runs alone: for those that are held to times.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_alone(name: &str, body: impl FnOnce(&Self) -> Result<()>) {
        let _alone = alone();
        Self::run(name, body);
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

/// Held by the one scenario of this process that runs alone.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that failed leaves nothing behind that the next could see.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("the seed was TALLY_SEED={}", self.seed);
        let keep = std::env::var_os("TALLY_KEEP_LOGS").map(PathBuf::from);
        for log in logs(self.dir.path()) {
            if let (Some(keep), Ok(part)) = (&keep, log.strip_prefix(self.dir.path())) {
                let to = keep.join(self.seed.to_string()).join(part);
                let made = to.parent().map(fs::create_dir_all);
                if let Err(e) = made.transpose().and_then(|_| fs::copy(&log, &to)) {
                    eprintln!("{} was not kept: {e}", to.display());
                }
            }
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
    let below = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    // A member's folder lies in the scenario's, or in one that stands for a machine or a disk.
    let mut found: Vec<PathBuf> = below(dir)
        .iter()
        .flat_map(|d| [vec![d.clone()], below(d)].concat())
        .collect();
    found.retain_mut(|path| {
        path.push("node.log");
        path.is_file()
    });
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
