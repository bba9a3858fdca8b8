//! The index of one gateway: rows of the log's own table, rebuilt from the log.

use std::sync::Arc;

use async_trait::async_trait;
use tally_contracts::codec::Canonical;

use super::super::table::{Kind, RowKey, Table};
use super::{CodeHash, Group, IndexError, Resume, ScanError, ScanIndex, Seen, Wanted};

/// Half of a code's hash names its row: a collision would need 2^64 codes, and costs a wrong count.
fn key(code: &CodeHash) -> RowKey {
    RowKey::new(
        Kind::Code,
        &std::array::from_fn(|i| code.0.get(i).copied().unwrap_or_default()),
    )
}

/// See the module.
pub(in super::super) struct EmbeddedIndex(pub(in super::super) Arc<Table>);

impl EmbeddedIndex {
    fn row(&self, code: &CodeHash) -> Result<Seen, ScanError> {
        match self.0.get(&key(code))? {
            Some(row) => Ok(Seen::from_bytes(&row)?),
            None => Ok(Seen::default()),
        }
    }
}

#[async_trait]
impl ScanIndex for EmbeddedIndex {
    fn begin(&self, wanted: &[Wanted]) -> Result<Vec<Seen>, IndexError> {
        wanted.iter().map(|w| Ok(self.row(&w.code)?)).collect()
    }

    /// Nothing: what the log has is what counts.
    fn commit(&self, _: &[(CodeHash, Seen)], _: &Group<'_>) -> Result<(), IndexError> {
        Ok(())
    }

    fn logged(&self, rows: Vec<(CodeHash, Seen)>) {
        self.0.put_all(
            rows.into_iter()
                .map(|(code, seen)| (key(&code), seen.to_bytes().into())),
        );
    }

    fn is_apart(&self) -> bool {
        false
    }

    fn resume(&self) -> Result<Resume, IndexError> {
        Ok(Resume::default())
    }

    async fn seen(&self, code: &CodeHash) -> Result<Seen, IndexError> {
        Ok(self.row(code)?)
    }

    fn away(&self) -> Option<String> {
        None
    }
}
