//! What a party of `tally bench psi` brings: a set in memory while it is small, else its file in buckets on disk.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tally_psi::buckets::{BucketStore, Buckets, EachItem, Past, Plan, Rule, Step};
use tally_psi::messages::{Role, Scope};
use tally_psi::{
    Computation, EachValue, IdType, ItemSet, ItemSetBuilder, ItemSource, ItemStream, Items,
    Machine, MemorySorters, Params, PeerCount, Profile, Seeds, SorterFactory, machine as plain,
};
use zeroize::Zeroizing;

use super::column::{count_column, read_column};
use super::psi::Error;
use crate::bucket_files::{BucketFiles, PageCursor, storage};
use crate::external_sort::{SealedSorter, SpillSorters, Varying, push_wiped};

const KIND: (IdType, Profile) = (IdType(1), Profile(1));
/// Rows a sorter keeps in memory: 64 MiB.
const RUN_ROWS: usize = 2 << 20;
/// The same of values.
const RUN_BYTES: usize = 64 << 20;

/// The own file.
pub(super) enum Own {
    /// Read: distinct values.
    Set(ItemSet),
    /// Too many for memory: that many rows, repeated ones too, left in the file for a list in buckets.
    Rows(u64),
    /// Too many for memory, for a count.
    Distinct(Distinct),
}

impl Own {
    /// Reads a file, and keeps at most `single` rows of it in memory; the rest goes to `spill`, or for a list is left where it is.
    pub(super) fn read(
        path: &Path,
        single: u64,
        computation: Computation,
        spill: &Path,
    ) -> Result<Self, Error> {
        let mut builder = ItemSetBuilder::new(KIND.0, KIND.1);
        let mut left = single;
        let mut is_longer = false;
        read_column(path, |value| {
            let Some(after) = left.checked_sub(1) else {
                is_longer = true;
                return Ok(ControlFlow::Break(()));
            };
            left = after;
            builder.push(value)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if is_longer {
            drop(builder);
            if computation == Computation::List {
                return Ok(Self::Rows(count_column(path)?));
            }
            let mut values = SealedSorter::new(spill.to_owned(), RUN_BYTES);
            read_column(path, |value| {
                values.push(&[value]).map_err(storage)?;
                Ok(ControlFlow::Continue(()))
            })?;
            return Ok(Self::Distinct(
                Distinct::of(values, spill).map_err(storage)?,
            ));
        }
        Ok(Self::Set(builder.finish()?))
    }

    /// How many items this party claims.
    pub(super) const fn count(&self) -> u64 {
        match self {
            Self::Set(set) => set.len() as u64,
            Self::Rows(rows) => *rows,
            Self::Distinct(values) => values.count,
        }
    }
}

/// Distinct values on disk, sealed as they were sorted; shown once.
pub(super) struct Distinct {
    files: BucketFiles,
    cursor: PageCursor,
    count: u64,
}

impl Distinct {
    fn of(values: SealedSorter<Varying>, spill: &Path) -> io::Result<Self> {
        let mut sorted = values.finish()?;
        let mut files = BucketFiles::create(spill, 1)?;
        let mut last = Zeroizing::new(Vec::new());
        let mut count = 0;
        while let Some(value) = sorted.next()? {
            if count == 0 || *value != **last {
                last.clear();
                push_wiped(&mut last, value);
                files.push(0, 0, value)?;
                count += 1;
            }
        }
        files.seal_all()?;
        let cursor = PageCursor::new(0);
        Ok(Self {
            files,
            cursor,
            count,
        })
    }
}

impl ItemSource for Distinct {
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), tally_psi::Error> {
        for _ in 0..max {
            self.files.advance(&mut self.cursor).map_err(storage)?;
            let Some(value) = self.cursor.value() else {
                break;
            };
            each(value)?;
        }
        Ok(())
    }
}

/// Rows that matched: a bit for each row of the file.
#[derive(Clone, Default)]
pub(super) struct Bits(Arc<Mutex<Vec<u64>>>);

impl Bits {
    fn set(&self, rows: &[u64]) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let at = usize::try_from(row / 64).unwrap_or(usize::MAX);
            if words.len() <= at {
                words.resize(at + 1, 0);
            }
            if let Some(word) = words.get_mut(at) {
                *word |= 1 << (row % 64);
            }
        }
    }

    pub(super) fn has(&self, row: u64) -> bool {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let word = usize::try_from(row / 64).ok().and_then(|at| words.get(at));
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }
}

struct Store {
    files: BucketFiles,
    sorters: SpillSorters,
    found: Bits,
    past: Past,
}

impl BucketStore for Store {
    fn load(&mut self, bucket: u32, each: EachItem<'_>) -> Result<(), tally_psi::Error> {
        self.files.load(bucket, each)
    }

    fn past(&mut self) -> Result<Past, tally_psi::Error> {
        Ok(self.past.clone())
    }

    /// A bench that is killed begins anew.
    fn note(&mut self, step: &Step) -> Result<(), tally_psi::Error> {
        self.past.take(step)?;
        if let Step::Finished { rows, .. } = step {
            self.found.set(rows);
        }
        Ok(())
    }

    fn sorters(&mut self) -> Box<dyn SorterFactory> {
        Box::new(self.sorters.clone())
    }
}

/// What a party's machine is made of.
pub(super) struct Setting<'a> {
    pub(super) role: Role,
    pub(super) params: Params,
    pub(super) set: Own,
    pub(super) seeds: Seeds,
    pub(super) rule: Rule,
    pub(super) file: &'a Path,
    pub(super) spill: &'a Path,
    pub(super) found: Bits,
}

/// The machine that the counts ask for.
pub(super) fn machine(s: Setting<'_>) -> Result<Box<dyn Machine>, Error> {
    let own = s.set.count();
    let PeerCount::Exactly(peer) = s.params.peer else {
        return Err(Error::Pipe("the peer's count is not known".into()));
    };
    let counts = match s.role {
        Role::Initiator => [own, peer],
        Role::Responder => [peer, own],
    };
    let is_list = s.params.context.computation == Computation::List;
    let plan = if is_list {
        Plan::of(counts, s.rule)?
    } else {
        None
    };
    let Some(plan) = plan else {
        let items: Items = match s.set {
            Own::Set(set) => set.into(),
            Own::Distinct(values) => {
                ItemStream::new(KIND.0, KIND.1, values.count, Box::new(values)).into()
            }
            Own::Rows(_) => return Err(Error::Pipe("a long list without buckets".into())),
        };
        // Small matches stay in memory, larger ones spill.
        let sorters: Box<dyn SorterFactory> = if own <= RUN_ROWS as u64 {
            Box::new(MemorySorters::new(4 * RUN_ROWS as u64))
        } else {
            Box::new(SpillSorters::new(s.spill.to_owned(), RUN_ROWS))
        };
        return Ok(plain::open(s.role, s.params, items, s.seeds, sorters)?);
    };
    drop(s.set);
    let context = s.params.context.digest();
    let names = plan.names(&context, KIND.0, KIND.1);
    let mut files = BucketFiles::create(s.spill, plan.buckets()).map_err(storage)?;
    let mut row = 0;
    read_column(s.file, |value| {
        files.push(names.of(value), row, value).map_err(storage)?;
        row += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    let store = Box::new(Store {
        files,
        sorters: SpillSorters::new(s.spill.to_owned(), RUN_ROWS),
        found: s.found,
        past: Past::new(plan.digest(&context)),
    });
    let machine = Buckets::new(s.role, s.params, plan, KIND, Scope::All, s.seeds, store);
    Ok(Box::new(machine?))
}
