//! Licence, ban and source check over `cargo metadata`, by the rules of `deny.toml`. It downloads nothing.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

struct Rules {
    allowed: BTreeSet<String>,
    banned: Vec<(String, String)>,
}

fn rules(text: &str) -> Result<Rules> {
    let table: toml::Table = text.parse().context("deny.toml is not TOML")?;
    let allowed = table["licenses"]["allow"]
        .as_array()
        .context("licenses.allow is missing")?;
    let banned = table["bans"]["deny"]
        .as_array()
        .context("bans.deny is missing")?;
    let field = |entry: &toml::Value, name: &str| {
        entry
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Rules {
        allowed: allowed
            .iter()
            .filter_map(|v| v.as_str())
            .map(str::to_owned)
            .collect(),
        banned: banned
            .iter()
            .map(|e| (field(e, "crate"), field(e, "reason")))
            .collect(),
    })
}

/// Whether an SPDX expression can be satisfied by allowed licences alone. `/` is the old spelling of OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let ok = any_of(&tokens, &mut at, allowed);
    ok && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut ok = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        ok |= all_of(tokens, at, allowed);
    }
    ok
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut ok = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        ok &= one(tokens, at, allowed);
    }
    ok
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*at) else {
        return false;
    };
    *at += 1;
    if *token == "(" {
        let ok = any_of(tokens, at, allowed);
        *at += 1;
        return ok;
    }
    if tokens.get(*at) == Some(&"WITH") {
        let exception = tokens.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed.contains(&format!("{token} WITH {exception}"));
    }
    allowed.contains(*token)
}

fn main() -> Result<ExitCode> {
    let rules = rules(
        &std::fs::read_to_string("deny.toml")
            .context("run this from the workspace's top folder")?,
    )?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()?;
    if !out.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&out.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let version = package["version"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !satisfied(licence, &rules.allowed) {
            problems.push(format!(
                "{name} {version}: licence {licence:?} is not allowed"
            ));
        }
        if let Some((_, reason)) = rules.banned.iter().find(|(banned, _)| banned == name) {
            problems.push(format!("{name} {version}: banned, because {reason}"));
        }
        if package["source"]
            .as_str()
            .is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index")
        {
            problems.push(format!("{name} {version}: not from crates.io"));
        }
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    println!(
        "{} packages checked, {} problems",
        packages.len(),
        problems.len()
    );
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"]
            .map(str::to_owned)
            .into();
        for yes in [
            "MIT",
            "MIT/GPL-3.0",
            "GPL-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert!(satisfied(yes, &allowed), "{yes}");
        }
        for no in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT OR Apache-2.0) AND OFL-1.1",
            "MIT MIT",
        ] {
            assert!(!satisfied(no, &allowed), "{no}");
        }
    }
}
