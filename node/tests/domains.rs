//! Every prefix in the sources stands in the one table: crates that must not depend on the contracts write theirs themselves, and
//! this is what keeps them in it.

use std::fs;
use std::path::{Path, PathBuf};

use tally_contracts::domains::{ALL, LABELS};

/// Rust sources below `dir`, without tests and what is built.
fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !matches!(name, "target" | "tests" | "benches" | "examples") {
                sources(&path, out);
            }
        } else if name.ends_with(".rs") && name != "domains.rs" && name != "tests.rs" {
            out.push(path);
        }
    }
}

/// The literals `"tally/..."` of a source that have a version, as bytes.
fn literals(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    code.join("\n")
        .split("\"tally/")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(literal, _)| format!("tally/{}", literal.replace("\\n", "\n")))
        .filter(|literal| literal.contains("/v1") || literal.contains("/1/"))
        .filter(|literal| !literal.contains('{'))
        .collect()
}

#[test]
fn every_prefix_in_the_sources_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for dir in ["node", "cli", "contracts"] {
        sources(&root.join(dir), &mut files);
    }
    let mut found = 0;
    for file in &files {
        for literal in literals(&fs::read_to_string(file).unwrap()) {
            found += 1;
            let known = ALL.iter().chain(LABELS);
            assert!(
                known.into_iter().any(|d| *d == literal.as_bytes()),
                "{}: {literal:?} is not in contracts/src/domains.rs",
                file.display()
            );
        }
    }
    // Those of codes and psi at least; else this test reads nothing.
    assert!(found >= 10, "{found} prefixes in {} files", files.len());
}

#[test]
fn literals_are_found() {
    let text = "f(b\"tally/a/v1\\n\", \"tally/b/v1\", \"tally/b/1/x\", \"tally/{x}/v1\", \"tally/c\", \"/tally/d/v1\")\n// \"tally/e/v1\"";
    assert_eq!(
        literals(text),
        ["tally/a/v1\n", "tally/b/v1", "tally/b/1/x"]
    );
}
