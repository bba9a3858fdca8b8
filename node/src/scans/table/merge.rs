//! Merging segments, so that their number grows with the logarithm of what is stored.

use std::sync::Arc;

use super::segment::{Rows, Segment, SegmentWriter};
use super::{IsOld, NewSegment, Row, RowKey, Table, TableError};

/// So many segments of one tier become one of the next.
const FAN: usize = 6;

impl Table {
    /// Whether there are enough segments of one tier to merge.
    pub(in super::super) fn wants_merge(&self) -> bool {
        self.read(|t| !run_of_one_tier(&t.segments).is_empty())
    }

    /// Merges the segments of one tier into segment `number`, without the rows that `is_old` names. `None` if there are too few, or once `stop`
    /// says so.
    pub(in super::super) fn merge(
        &self,
        number: u32,
        is_old: IsOld<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<NewSegment>, TableError> {
        let old = self.read(|t| run_of_one_tier(&t.segments));
        let Some(first) = old.first() else {
            return Ok(None);
        };
        let rows = old.iter().map(|s| s.rows).sum();
        let tier = first.tier.saturating_add(1);
        let mut writer = SegmentWriter::new(&self.dir, &self.sealer, number, tier, rows)?;
        let mut heads = old
            .iter()
            .map(|s| Head::new(s.rows()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut written = 0_u64;
        // The newest segment comes first: of equal keys the first one counts.
        while let Some(key) = heads.iter().filter_map(Head::key).min() {
            let mut newest = None;
            for head in &mut heads {
                if head.key() == Some(key) {
                    let row = head.take()?;
                    newest = newest.or(row);
                }
            }
            if let Some(row) = newest
                && !key.kind().is_some_and(|kind| is_old(kind, &row))
            {
                writer.push(&key, &row)?;
            }
            written += 1;
            if written.is_multiple_of(1024) && stop() {
                return Ok(None);
            }
        }
        Ok(Some(NewSegment {
            segment: writer.finish(&self.dir)?,
            replaces: old.iter().map(|s| s.number).collect(),
        }))
    }
}

/// The newest run of [`FAN`] segments of one tier, or none. Tiers grow with age, so a run is all there is of its tier.
fn run_of_one_tier(segments: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
    segments
        .chunk_by(|a, b| a.tier == b.tier)
        .find(|run| run.len() >= FAN)
        .unwrap_or_default()
        .to_vec()
}

struct Head<'a> {
    rows: Rows<'a>,
    next: Option<(RowKey, Row)>,
}

impl<'a> Head<'a> {
    fn new(mut rows: Rows<'a>) -> Result<Self, TableError> {
        let next = rows.next_row()?;
        Ok(Self { rows, next })
    }

    fn key(&self) -> Option<RowKey> {
        self.next.as_ref().map(|(key, _)| *key)
    }

    fn take(&mut self) -> Result<Option<Row>, TableError> {
        let taken = std::mem::replace(&mut self.next, self.rows.next_row()?);
        Ok(taken.map(|(_, row)| row))
    }
}
