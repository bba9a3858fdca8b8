//! What all benches share: the machine they ran on, what the process used, percentiles, a folder that goes away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rand::RngCore as _;
use rand::rngs::OsRng;

/// The processor's model and the kernel's release, as Linux names them.
#[must_use]
pub fn hardware() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let line = |key: &str| {
        cpu.lines()
            .find(|l| l.starts_with(key))
            .and_then(|l| l.split_once(':'))
            .map_or("?", |(_, v)| v.trim())
            .to_owned()
    };
    format!(
        "{} (family {}, model {}), Linux {}",
        line("model name"),
        line("cpu family"),
        line("model\t"),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What this process has used since its start.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// The largest resident set, in MB of 2^20 bytes.
    pub rss_mb: f64,
}

/// Asks the system.
#[must_use]
pub fn used() -> Used {
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1_000_000.0;
    getrusage(UsageWho::RUSAGE_SELF).map_or(
        Used {
            cpu_s: 0.0,
            rss_mb: 0.0,
        },
        |u| Used {
            cpu_s: seconds(u.user_time()) + seconds(u.system_time()),
            // Kilobytes on Linux.
            rss_mb: u.max_rss() as f64 / 1024.0,
        },
    )
}

/// The time that a share `p` of `sorted` does not exceed (nearest rank), in milliseconds; 0 for none.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank within the list"
)]
pub fn percentile_ms(sorted: &[Duration], p: f64) -> f64 {
    let rank = (sorted.len() as f64 * p).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |d| d.as_secs_f64() * 1000.0)
}

/// A folder in another one, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in `parent`, or in the system's folder for temporary files.
    ///
    /// # Errors
    /// The system's.
    pub fn new(parent: Option<&Path>) -> std::io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("tally-bench-{:016x}", OsRng.next_u64()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind among temporary ones is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let ms: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let of = |p| percentile_ms(&ms, p);
        assert_eq!([of(0.5), of(0.99), of(1.0)], [100.0, 198.0, 200.0]);
        assert_eq!(percentile_ms(&ms[..1], 0.5), 1.0);
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }

    #[test]
    fn the_machine_is_named() {
        assert!(cores() > 0 && hardware().contains("Linux"));
        assert!(used().rss_mb > 0.1);
        let scratch = Scratch::new(None).unwrap();
        let path = scratch.path().to_owned();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}
