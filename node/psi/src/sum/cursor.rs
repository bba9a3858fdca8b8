//! Where a stream stands that goes group by group, ascending within each.

use crate::Error;
use crate::sorter::Row;

/// A place in such a stream.
pub(crate) struct GroupCursor {
    sizes: Vec<u64>,
    group: usize,
    /// Rows of the group so far.
    at: u64,
    /// Rows of all groups so far.
    rows: u64,
    last: Option<Row>,
}

impl GroupCursor {
    pub(crate) const fn new(sizes: Vec<u64>) -> Self {
        Self {
            sizes,
            group: 0,
            at: 0,
            rows: 0,
            last: None,
        }
    }

    /// Rows so far.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next row; the number of its group.
    ///
    /// # Errors
    /// [`Error::Unsorted`] below the row before it in its group, [`Error::Duplicate`] equal to it (unless `repeats` may come),
    /// [`Error::Count`] past the last group.
    pub(crate) fn take(
        &mut self,
        row: &Row,
        what: &'static str,
        repeats: bool,
    ) -> Result<usize, Error> {
        while self.sizes.get(self.group).is_some_and(|n| self.at >= *n) {
            self.group += 1;
            self.at = 0;
            self.last = None;
        }
        if self.group >= self.sizes.len() {
            return Err(Error::Count {
                what: "rows of groups",
                expected: self.rows,
                found: self.rows + 1,
            });
        }
        let index = self.rows;
        match self.last.as_ref().map(|l| l.cmp(row)) {
            Some(std::cmp::Ordering::Equal) if !repeats => return Err(Error::Duplicate { index }),
            Some(std::cmp::Ordering::Greater) => return Err(Error::Unsorted { what, index }),
            _ => self.last = Some(*row),
        }
        self.at += 1;
        self.rows += 1;
        Ok(self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_follow_their_sizes_and_order_holds_within_each() {
        let mut c = GroupCursor::new(vec![2, 0, 1]);
        assert_eq!(c.take(&[2; 32], "element", false), Ok(0));
        assert_eq!(
            c.take(&[2; 32], "element", false),
            Err(Error::Duplicate { index: 1 })
        );
        assert!(matches!(
            c.take(&[1; 32], "element", false),
            Err(Error::Unsorted { index: 1, .. })
        ));
        assert_eq!(c.take(&[3; 32], "element", false), Ok(0));
        // Another group begins anew.
        assert_eq!(c.take(&[1; 32], "element", true), Ok(2));
        assert!(matches!(
            c.take(&[9; 32], "element", true),
            Err(Error::Count { .. })
        ));
        assert_eq!(c.rows(), 3);
    }
}
