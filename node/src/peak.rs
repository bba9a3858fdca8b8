//! How much memory a part of this program has at most: a test that runs as a process of its own and says it at its end.

use std::fs;
use std::process::Command;

/// Says how much memory this process had at most; the last thing that it does.
pub(crate) fn say() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    println!("\n{peak}");
}

/// Runs a test as a process that is told something by a variable of its environment; what it says, in kilobytes.
pub(crate) fn kilobytes(test: &str, variable: &str, told: &str) -> u64 {
    let out = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, told)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&out.stderr)))
        .trim_end_matches("kB")
        .trim()
        .parse()
        .unwrap()
}
