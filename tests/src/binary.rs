//! The `tally` program that the scenarios run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The program, built from the sources as they are now: once a test process, and without work if it is up to date. With
/// `TALLY_PROGRAM` set it is that file, as it is: for long runs beside changes.
///
/// # Panics
/// If it cannot be built.
pub fn tally() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let given = std::env::var_os("TALLY_PROGRAM").map(PathBuf::from);
        given.map_or_else(build, Ok).expect("`tally` can be built")
    })
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| env!("CARGO").to_owned());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    // The same command line as of the quickstart in README, so that nothing is built a second time for another set of features.
    let mut build = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        // What cargo tells a test of itself. Build scripts of some crates look at it: it would have them built again.
        let ours = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
            "CARGO_TARGET_TMPDIR",
        ];
        if name
            .to_str()
            .is_some_and(|name| ours.iter().any(|start| name.starts_with(start)))
        {
            build.env_remove(&name);
        }
    }
    let out = build
        .current_dir(root)
        .args([
            "build",
            "--release",
            "--locked",
            "-p",
            "tally",
            "--bin",
            "tally",
        ])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(
        out.status.success(),
        "cargo build ended with {}",
        out.status
    );
    // Where it lies is cargo's to say: the target folder may be configured.
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tally")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo named no executable")
}
