//! What a real network exports is accepted by verifiers that this project did not write, and what was tampered with is not:
//! `aics-tlog` of PyPI, and Go's own transparency log code, Debian's golang-golang-x-mod-dev.
//!
//! `TALLY_PYTHON` names a Python that has aics-tlog; `.ci/run` installs both tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tally_tests::{Network, Plan, Scenario, get, gtin, verifiers};

/// Enough entries for a full tile, a partial one beside it, and a second level.
const PRODUCTS: u32 = 180;
/// Every file of an export, by its path below the folder.
fn exported(folder: &Path, below: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder.join(below.trim_start_matches('/')))? {
        let entry = entry?;
        let name = format!("{below}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            exported(folder, &name, found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}

/// A copy of an export with one file changed.
fn tampered(
    scenario: &Scenario,
    folder: &Path,
    file: &str,
    change: impl Fn(&mut Vec<u8>),
) -> Result<PathBuf> {
    let copy = scenario.dir().join("tampered");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let mut files = vec!["/checkpoint".to_owned()];
    exported(folder, "/tile", &mut files)?;
    for name in files {
        let name = name.trim_start_matches('/');
        let to = copy.join(name);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        let mut bytes = fs::read(folder.join(name))?;
        if name == file {
            let before = bytes.clone();
            change(&mut bytes);
            ensure!(bytes != before, "{name} was not changed");
        }
        fs::write(to, bytes)?;
    }
    Ok(copy)
}

#[test]
fn an_export_is_accepted_by_public_verifiers() {
    Scenario::run("public-verifiers", |scenario| {
        let verifiers = verifiers(scenario)?;
        let mut network = Network::running(scenario, &Plan::four())?;
        let brand = network[0].client();
        for n in 1..=20 {
            brand.add_product(&gtin(n))?;
        }
        let saved = scenario.dir().join("older-checkpoint");
        fs::write(&saved, get(&brand.http, "/checkpoint")?.body)?;
        // The others' records come in at the same time, so that blocks have several.
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0_u32..4)
                .zip(network.iter())
                .map(|(i, member)| {
                    let client = member.client();
                    scope.spawn(move || -> Result<()> {
                        for n in 0..PRODUCTS / 4 {
                            client.add_product(&gtin(1_000 * (i + 1) + n))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })?;
        let (height, _) = network.agree(Duration::from_secs(60))?;
        ensure!(height > 0);
        // A heartbeat, after which the checkpoint is of the last record.
        std::thread::sleep(Duration::from_millis(2_500));

        network[0].stop()?;
        let folder = scenario.dir().join("export");
        let folder_text = folder.to_str().context("a path in UTF-8")?;
        let answer = brand.ok(&["export", "tiles", "--out", folder_text])?;
        let size = answer["tree_size"].as_u64().context("a size")?;
        ensure!(size > 256, "the tree of {size} entries has no full tile");
        network.start()?;

        // The files of the export and what nodes serve are the same bytes: at the exporter, and at another member.
        let mut files = Vec::new();
        exported(&folder, "/tile", &mut files)?;
        ensure!(files.len() >= 4, "{files:?}");
        for member in network.iter() {
            for path in &files {
                let served = get(&member.http, path)?;
                ensure!(
                    served.status == 200
                        && served.body == fs::read(folder.join(path.trim_start_matches('/')))?,
                    "{} serves another {path}",
                    member.name
                );
            }
            let live = get(&member.http, "/checkpoint")?;
            ensure!(live.status == 200, "{}", live.told());
        }

        for verifier in &verifiers {
            let found = verifier.accepts(&folder, Some(&saved), &folder)?;
            println!("{}: {found}", verifier.name);
            ensure!(
                found["size"].as_u64() == Some(size) && found["entries"].as_u64() == Some(size),
                "{found}"
            );

            // One byte in each kind of file.
            let first = |start: &str| {
                files
                    .iter()
                    .find(|f| f.starts_with(start))
                    .map(|f| f.trim_start_matches('/').to_owned())
                    .with_context(|| format!("{start} in {files:?}"))
            };
            let partial = files
                .iter()
                .find(|f| f.starts_with("/tile/0/") && f.contains(".p/"))
                .map(|f| f.trim_start_matches('/').to_owned())
                .context("a partial tile")?;
            for file in [
                first("/tile/0/000")?,
                first("/tile/1/")?,
                first("/tile/entries/000")?,
                partial,
            ] {
                let copy = tampered(scenario, &folder, &file, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                })?;
                verifier.refuses(&copy, None, &folder, &file)?;
            }
            // A checkpoint of another size, and one whose signature was changed.
            let copy = tampered(scenario, &folder, "checkpoint", |bytes| {
                let text = String::from_utf8_lossy(bytes).replacen(
                    &format!("\n{size}\n"),
                    &format!("\n{}\n", size - 1),
                    1,
                );
                *bytes = text.into_bytes();
            })?;
            verifier.refuses(&copy, None, &folder, "a checkpoint of another size")?;
            // An older checkpoint that this log does not extend.
            let forged = scenario.dir().join("forged-checkpoint");
            let text = fs::read_to_string(&saved)?;
            let mut lines: Vec<&str> = text.split('\n').collect();
            lines[1] = "19";
            fs::write(&forged, lines.join("\n"))?;
            verifier.refuses(&folder, Some(&forged), &folder, "a forged older checkpoint")?;
            // Keys of another network.
            let keys = scenario.dir().join("other-keys");
            fs::create_dir_all(&keys)?;
            for name in ["log.vkey", "validators.vkeys"] {
                let text = fs::read_to_string(folder.join(name))?;
                fs::write(keys.join(name), text.replace(&network.id[..8], "00000000"))?;
            }
            verifier.refuses(&folder, None, &keys, "keys of another network")?;
        }
        network.stop()
    });
}
