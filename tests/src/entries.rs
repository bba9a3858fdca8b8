//! The ledger as any auditor reads it: entry bundles over HTTP, up to a node's checkpoint.

use anyhow::{Context, Result, ensure};
use tally_contracts::Record;

use crate::http::get;

/// Entries of a full bundle (C2SP tlog-tiles).
const WIDTH: u64 = 256;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The record, if it is one.
    pub record: Option<Record>,
}

/// Every entry up to the checkpoint that the node at `address` serves, of at least `at_least` entries if it has that many.
///
/// # Errors
/// If the node does not serve one of them, or serves something of another form.
pub fn entries(address: &str) -> Result<Vec<Entry>> {
    let checkpoint = get(address, "/checkpoint")?;
    ensure!(checkpoint.status == 200, "{}", checkpoint.told());
    let size: u64 = String::from_utf8(checkpoint.body)?
        .lines()
        .nth(1)
        .context("a checkpoint without a size")?
        .parse()?;
    let mut found = Vec::new();
    for n in 0..size.div_ceil(WIDTH) {
        let path = entry_bundle_path(n, size);
        let answer = get(address, &path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.told());
        let mut rest = &answer.body[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let bytes = after
                .get(..length)
                .with_context(|| format!("{path} is cut"))?;
            found.push(Entry {
                bytes: bytes.to_vec(),
                record: Record::from_bytes(bytes).ok(),
            });
            rest = &after[length..];
        }
    }
    ensure!(
        found.len() as u64 == size,
        "{} entries of {size}",
        found.len()
    );
    Ok(found)
}

/// Path of entry bundle `n` in a tree of `size` entries.
#[must_use]
pub fn entry_bundle_path(n: u64, size: u64) -> String {
    let full = size / WIDTH;
    let partial = if n < full {
        String::new()
    } else {
        format!(".p/{}", size % WIDTH)
    };
    let digits = format!("{n:03}");
    let (head, last) = digits.split_at(digits.len() - 3);
    // Trees of scenarios have fewer than 256 million entries: at most one group of digits above the last.
    let head = if head.is_empty() {
        String::new()
    } else {
        format!("x{head:0>3}/")
    };
    format!("/tile/entries/{head}{last}{partial}")
}
