//! Reading the codes that labels are made of: files of `tally codes issue` and `export`.

use std::io::BufRead;

use serde_json::Value;
use tally_evidence::UnitCode;

use super::{LabelError, MAX_LABELS};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 4096;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The link, as it is in the symbol.
    pub url: String,
    /// The code in it.
    pub code: UnitCode,
}

/// Reads at most `count` labels, the `first` (from 1) being the first of them. Rows of CSV or JSON, or bare links.
///
/// # Errors
/// [`LabelError::Read`], [`LabelError::Row`], [`LabelError::Empty`].
pub fn read_labels(
    rows: &mut dyn BufRead,
    first: u64,
    count: usize,
) -> Result<Vec<Label>, LabelError> {
    let count = count.min(MAX_LABELS);
    let mut out = Vec::new();
    let mut found = 0_u64;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut *rows, MAX_LINE);
        if limited.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let bad = |reason: &str| LabelError::Row {
            line: number,
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(&line).map_err(|_| bad("not text"))?;
        let text = text.trim();
        if text.is_empty() || (number == 1 && text.starts_with("url,")) {
            continue;
        }
        found += 1;
        if found < first {
            continue;
        }
        if out.len() == count {
            break;
        }
        let url = if text.starts_with('{') {
            let row: Value = serde_json::from_str(text).map_err(|_| bad("not a JSON object"))?;
            row.get("url").and_then(Value::as_str).map(str::to_owned)
        } else {
            text.split(',').next().map(str::to_owned)
        };
        let url = url
            .filter(|u| u.contains("://"))
            .ok_or_else(|| bad("expected a link"))?;
        let code = url.parse().map_err(|e| bad(&format!("{e}")))?;
        out.push(Label { url, code });
    }
    if out.is_empty() {
        return Err(LabelError::Empty { first, found });
    }
    Ok(out)
}
