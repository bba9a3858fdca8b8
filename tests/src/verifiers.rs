//! Independent verifiers of an exported ledger.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scenario::{Scenario, skip};

/// Where Debian puts the sources of Go packages.
const GOPATH: &str = "/usr/share/gocode";

/// A verifier that this project did not write: a command that takes a folder, the log's key file, the validators' key file, and perhaps an older checkpoint.
pub struct Verifier {
    /// What it is called.
    pub name: &'static str,
    command: Vec<String>,
}

impl Verifier {
    fn run(
        &self,
        folder: &Path,
        older: Option<&Path>,
        keys: &Path,
    ) -> Result<std::process::Output> {
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .arg(folder)
            .arg(keys.join("log.vkey"))
            .arg(keys.join("validators.vkeys"))
            .args(older);
        command.output().with_context(|| self.name.to_owned())
    }

    /// It must accept; gives what it found.
    ///
    /// # Errors
    /// That it refused, or did not run.
    pub fn accepts(&self, folder: &Path, older: Option<&Path>, keys: &Path) -> Result<Value> {
        let out = self.run(folder, older, keys)?;
        ensure!(
            out.status.success(),
            "{} refused {}: {}{}",
            self.name,
            folder.display(),
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        serde_json::from_slice(&out.stdout).context("its report")
    }

    /// It must refuse: exit code 1, which is no crash.
    ///
    /// # Errors
    /// That it accepted, or did not run.
    pub fn refuses(
        &self,
        folder: &Path,
        older: Option<&Path>,
        keys: &Path,
        why: &str,
    ) -> Result<()> {
        let out = self.run(folder, older, keys)?;
        ensure!(
            out.status.code() == Some(1),
            "{} and {why}: {} {}",
            self.name,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(())
    }
}

/// Those that are installed: `aics-tlog` of PyPI, and Go's own transparency log code, Debian's golang-golang-x-mod-dev.
/// `TALLY_PYTHON` names a Python that has aics-tlog; `.ci/run` installs both. What is missing is said.
///
/// # Errors
/// That one which is there cannot be built.
pub fn verifiers(scenario: &Scenario) -> Result<Vec<Verifier>> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers");
    let text = |path: PathBuf| path.to_str().map(str::to_owned).context("a path in UTF-8");
    let mut found = Vec::new();
    let python = std::env::var("TALLY_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_tlog = Command::new(&python)
        .args(["-c", "import aics_tlog"])
        .output()
        .is_ok_and(|out| out.status.success());
    if has_tlog {
        found.push(Verifier {
            name: "aics-tlog",
            command: vec![python, text(scripts.join("check.py"))?],
        });
    } else {
        skip(
            "aics-tlog",
            &format!("{python} has no aics_tlog; TALLY_PYTHON names one that has"),
        );
    }
    if Path::new(GOPATH)
        .join("src/golang.org/x/mod/sumdb/tlog")
        .is_dir()
    {
        let program = scenario.dir().join("check-go");
        let out = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(scripts.join("check.go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", GOPATH)
            .env("GOFLAGS", "")
            .env("GOCACHE", scenario.dir().join("go-cache"))
            .output()
            .context("go")?;
        ensure!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        found.push(Verifier {
            name: "Go's tlog",
            command: vec![text(program)?],
        });
    } else {
        skip("Go's tlog", "golang-golang-x-mod-dev is not installed");
    }
    Ok(found)
}
