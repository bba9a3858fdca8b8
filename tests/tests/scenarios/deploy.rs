//! The files in docs/deploy do what they are for, as far as that can be seen without the systems that they are for: systemd reads its
//! unit without a word, the commands and variables in unit and container file are the program's own, and the versions are those of the
//! workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tally_tests::{Scenario, skip, tally};

/// The most that `systemd-analyze security` may give the unit, in tenths; 10.0 is a service without any restriction.
const MOST_EXPOSURE: u32 = 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// What systemd says of a unit; nothing if it is a good one.
fn said(unit: &Path) -> Result<String> {
    let out = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(unit)
        .output()?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    // Units of the system that runs the test are no business of ours.
    let own = |line: &&str| line.contains("tally");
    let own: Vec<&str> = words.lines().filter(own).collect();
    ensure!(
        out.status.success() || !own.is_empty(),
        "systemd-analyze: {words}"
    );
    Ok(own.join("\n"))
}

#[test]
fn systemd_takes_the_unit() {
    let name = "systemd_takes_the_unit";
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skip(
            name,
            "there is no systemd-analyze, of Debian's package systemd",
        );
        return;
    }
    Scenario::run(name, |scenario| {
        let text = read("docs/deploy/tally.service")?;
        // Where the program is not installed, its path would be the only complaint.
        let program = tally().to_str().context("a path in UTF-8")?;
        let here = text.replace("/usr/bin/tally", program);
        let unit = scenario.dir().join("tally.service");
        fs::write(&unit, &here)?;
        ensure!(said(&unit)?.is_empty(), "{}", said(&unit)?);
        for (right, wrong) in [
            ("ProtectClock=", "ProtectClok="),
            ("Type=exec", "Type=exact"),
            (program, "/no/such/tally"),
        ] {
            fs::write(&unit, here.replace(right, wrong))?;
            ensure!(!said(&unit)?.is_empty(), "{wrong} was not noticed");
        }
        fs::write(&unit, &here)?;
        let out = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(&unit)
            .output()?;
        let told = String::from_utf8_lossy(&out.stdout).into_owned();
        let level = told
            .lines()
            .find_map(|line| line.split_once("tally.service: "))
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|level| level.replace('.', "").parse::<u32>().ok())
            .with_context(|| format!("no exposure in {told}"))?;
        println!("exposure {}.{}", level / 10, level % 10);
        ensure!(level <= MOST_EXPOSURE, "exposure {level} tenths");
        Ok(())
    });
}

/// Whether the program knows this command line, without carrying it out.
fn known(words: &[&str]) -> Result<()> {
    let out = Command::new(tally()).args(words).arg("--help").output()?;
    ensure!(
        out.status.success(),
        "tally {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

#[test]
fn unit_and_container_file_name_what_there_is() -> Result<()> {
    for line in read("docs/deploy/tally.service")?.lines() {
        if let Some((_, command)) = line.split_once("=/usr/bin/tally ") {
            known(&command.split_whitespace().collect::<Vec<_>>())?;
        }
    }
    let container = read("docs/deploy/Containerfile")?;
    let line = |start: &str| {
        container
            .lines()
            .find_map(|l| l.strip_prefix(start))
            .with_context(|| format!("no line {start}"))
    };
    let words = |list: &str| -> Result<Vec<String>> { Ok(serde_json::from_str(list)?) };
    let entry = words(line("ENTRYPOINT ")?)?;
    ensure!(entry == ["/usr/bin/tally"], "{entry:?}");
    let health = line("HEALTHCHECK ")?;
    let (_, health) = health.split_once("CMD ").context("a health check")?;
    for command in [words(line("CMD ")?)?, words(health)?] {
        let command: Vec<&str> = command
            .iter()
            .map(String::as_str)
            .filter(|word| *word != "/usr/bin/tally")
            .collect();
        known(&command)?;
    }

    // The builder is of the version that the workspace asks for, and its profile is there.
    let manifest: toml::Table = read("Cargo.toml")?.parse()?;
    let asked = manifest["workspace"]["package"]["rust-version"]
        .as_str()
        .context("a rust-version")?;
    let image = line("FROM rust:")?;
    ensure!(
        image.starts_with(&format!("{asked}-")),
        "rust:{image}, not {asked}"
    );
    ensure!(container.contains("--profile dist --locked -p tally"));
    ensure!(manifest["profile"].get("dist").is_some(), "no profile dist");

    // Each variable is one that the program reads, and each port one of those in the operator's table.
    let operator = read("docs/operator.md")?;
    for pair in line("ENV ")?.split_whitespace() {
        let (name, _) = pair.split_once('=').context("a variable")?;
        ensure!(operator.contains(name), "{name} is in no documentation");
    }
    for port in line("EXPOSE ")?.split_whitespace() {
        ensure!(operator.contains(port), "port {port} is in no table");
    }
    Ok(())
}
