//! Dropping old blocks and entry bundles. Hash tiles, roots and proofs stay, and so do the entries that the caller asks for; the
//! rest of the time before is on the nodes that keep it.

use std::fs;

use tally_contracts::Record;
use tally_contracts::block::{Block, BlockInfo, Header};
use tally_merkle::TilePath;
use tally_merkle::tile::{TILE_WIDTH, TileKind};

use crate::base::Base;
use crate::error::{Error, IoContext};
use crate::execute::entries_of;
use crate::ledger::Ledger;
use crate::serve::read_entries;
use crate::tiles::WIDTH;

/// So many of the last blocks stay whatever is asked, for members that lag behind.
const BLOCKS_KEPT: u64 = 256;

impl Ledger {
    /// Drops the oldest block files as long as `old` says so of the last block in each, and the entry bundles before. The file that is
    /// written to and the last 256 blocks stay. Of a dropped block stay the records that `keep` asks for, each with its
    /// BlockInfo. Gives the new [`Self::first_entry`], or nothing if nothing was dropped. Killed at any point, it is as it was or as
    /// it should be, but for bundles that the next drop takes away.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::NoSnapshot`] while a snapshot is made, and those of reading and removing files.
    pub fn drop_old(
        &self,
        old: &dyn Fn(&Header) -> bool,
        keep: &dyn Fn(&Record) -> bool,
    ) -> Result<Option<u64>, Error> {
        let head = self.head();
        let (before, borders) = {
            let inner = self.read();
            inner.check_writable()?;
            (inner.blocks.base().clone(), inner.blocks.borders())
        };
        let mut found = None;
        for (segment, height) in borders {
            let header = self.header(height)?;
            if height + BLOCKS_KEPT > head.height || !old(&header) {
                break;
            }
            found = Some((segment, header));
        }
        let Some((segment, header)) = found else {
            return Ok(None);
        };
        self.keep_some(&before, header.height, keep)?;
        let mut inner = self.write();
        inner.check_writable()?;
        if inner.undo.is_some() {
            return Err(Error::NoSnapshot {
                reason: "a snapshot is being made; old blocks stay until it is done".into(),
            });
        }
        if inner.blocks.base() != &before {
            // Another drop was faster.
            return Ok(None);
        }
        let base = Base {
            height: header.height,
            segment: segment.saturating_add(1),
            tree_size: header.tree_size,
            edge: read_entries(
                &inner.blocks,
                &self.store,
                self.genesis_bytes(),
                Base::edge_from(header.tree_size),
                header.tree_size,
            )?,
        };
        let first = base.first_entry();
        inner.blocks.drop_before(base)?;
        drop(inner);
        // From here on nobody is given these bundles, so they may go without the lock.
        let bundle = |index: u64| -> Result<_, Error> {
            let path = TilePath::new(TileKind::Entries, index, TILE_WIDTH)?.to_string();
            Ok(self.dir().join("tiles").join(path))
        };
        // A drop that was killed has left the last of its own.
        let mut from = before.first_entry() / WIDTH;
        while from > 0 && bundle(from - 1)?.exists() {
            from -= 1;
        }
        for index in from..first / WIDTH {
            let path = bundle(index)?;
            match fs::remove_file(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.on("remove", &path)?,
            }
        }
        Ok(Some(first))
    }

    fn header(&self, height: u64) -> Result<Header, Error> {
        Ok(self.decoded(height)?.header)
    }

    fn decoded(&self, height: u64) -> Result<Block, Error> {
        Block::from_bytes(&self.block(height)?.block).map_err(|source| Error::Codec {
            what: "stored block",
            source,
        })
    }

    /// Writes down what is to stay of the blocks after `before`, up to `last`.
    fn keep_some(
        &self,
        before: &Base,
        last: u64,
        keep: &dyn Fn(&Record) -> bool,
    ) -> Result<(), Error> {
        self.store
            .keep(kept_of(before.first_entry(), &before.edge, keep))?;
        for height in before.height + 1..=last {
            let block = self.decoded(height)?;
            let entries = entries_of(&block.header, block.records);
            let first = block.header.tree_size - entries.len() as u64;
            let kept = kept_of(first, &entries, keep);
            if !kept.is_empty() {
                self.store.keep(kept)?;
            }
        }
        Ok(())
    }
}

/// The records to keep among entries that start at index `first`, each with the BlockInfo after it.
fn kept_of(
    first: u64,
    entries: &[Vec<u8>],
    keep: &dyn Fn(&Record) -> bool,
) -> Vec<(u64, Vec<u8>, bool)> {
    let (mut out, mut open) = (Vec::new(), Vec::new());
    for (index, entry) in (first..).zip(entries) {
        if BlockInfo::from_bytes(entry).is_ok() {
            if !open.is_empty() {
                out.append(&mut open);
                out.push((index, entry.clone(), true));
            }
        } else if Record::from_bytes(entry).is_ok_and(|record| keep(&record)) {
            open.push((index, entry.clone(), false));
        }
    }
    out
}
