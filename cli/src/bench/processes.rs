//! What running processes use, as Linux tells it.

use anyhow::{Context as _, Result};

/// Clock ticks a second in `/proc/PID/stat`; the same on every Linux that this program runs on.
const TICKS: f64 = 100.0;

/// User and system time of a process since its start, in seconds.
pub(super) fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).context(path)?;
    ticks(&text)
        .map(|t| t / TICKS)
        .context("process times are not where they are expected")
}

/// User and system time of a line of `/proc/PID/stat`. The program's name may hold spaces, so counting starts after it.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.trim().parse::<f64>().ok();
    Some(next()? + next()?)
}

/// The largest resident set of a process so far, in MB of 2^20 bytes.
pub(super) fn rss_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).context(path)?;
    megabytes(&text, "VmHWM:").context("no resident set where it is expected")
}

/// The resident set of a process now, in MB of 2^20 bytes.
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).context(path)?;
    megabytes(&text, "VmRSS:").context("no resident set where it is expected")
}

fn megabytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix(field))?;
    let kb: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_linux_are_read() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("77 (a) S 1"), None);
        assert_eq!(
            megabytes("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t1 kB\n", "VmHWM:"),
            Some(2.0)
        );
        assert_eq!(megabytes("Name:\tx\n", "VmHWM:"), None);
        let own = std::process::id();
        assert!(
            rss_mb(own).is_ok_and(|mb| mb > 1.0) && resident_mb(own).is_ok() && cpu_s(own).is_ok()
        );
    }
}
