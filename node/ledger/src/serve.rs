//! What is read from the ledger: blocks, entries, tiles, and proofs at any size up to the head.

use std::path::Path;
use std::sync::RwLockReadGuard;

use tally_contracts::block::{Block, BlockInfo};
use tally_contracts::ids::RecordId;
use tally_contracts::state::StateRead as _;
use tally_contracts::{CodecError, StateProof};
use tally_merkle::tile::TileKind;
use tally_merkle::{Checkpoint, Hash, Note, TilePath};

use crate::blocks::{BlockStore, StoredBlock};
use crate::error::Error;
use crate::execute::entries_of;
use crate::files::write_whole;
use crate::ledger::{Inner, Ledger};
use crate::store::{Head, RecordPlace, Store};
use crate::tiles::WIDTH;
use tally_contracts::handover::Handover;

/// Every entry but the first, and those before a snapshot, is in a block.
const WITHOUT_BLOCK: Error = Error::Internal("an entry without a block");

/// What stands under a state key, or that nothing does, and the entry that commits to it. A checkpoint of at least
/// `head.tree_size` entries, an inclusion proof of the BlockInfo in it, and this make it provable to anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEvidence {
    /// Where the ledger stood.
    pub head: Head,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Leads from key and value to the state root.
    pub proof: StateProof,
    /// The last BlockInfo, whose state root it is, with its index; `None` while the ledger holds the genesis alone.
    pub block_info: Option<(u64, BlockInfo)>,
}

impl Ledger {
    /// The stored block of a height.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Damaged`], [`Error::Io`].
    pub fn block(&self, height: u64) -> Result<StoredBlock, Error> {
        self.read().blocks.read(height)
    }

    /// How the validators came to be those in force, from the genesis on: the blocks at which they changed.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Codec`].
    pub fn trail(&self) -> Result<Vec<Handover>, Error> {
        self.store.trail()
    }

    /// Where a record stands; `None` if it is not in the ledger.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn find(&self, id: &RecordId) -> Result<Option<RecordPlace>, Error> {
        self.store.place(id)
    }

    /// The entry of an index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Dropped`], and those of reading a block.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, Error> {
        let inner = self.read();
        let have = inner.head.tree_size;
        let to = index.saturating_add(1).min(have);
        read_entries(&inner.blocks, &self.store, self.genesis_bytes(), index, to)?
            .pop()
            .ok_or(Error::OutOfRange {
                what: "entry",
                asked: index,
                have,
            })
    }

    /// The entries `from..to`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], and those of reading blocks.
    pub fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, Error> {
        let inner = self.sized(to)?;
        read_entries(&inner.blocks, &self.store, self.genesis_bytes(), from, to)
    }

    /// The height of the block that entry `index` is in; 0 for the genesis.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Store`].
    pub fn height_of(&self, index: u64) -> Result<u64, Error> {
        drop(self.sized(index.saturating_add(1))?);
        if index == 0 {
            return Ok(0);
        }
        let first = self.read().blocks.base().tree_size;
        match self.store.border(index)? {
            Some((_, height)) => Ok(height),
            None if index < first => Err(Error::Dropped {
                what: "entry",
                asked: index,
                first,
            }),
            None => Err(WITHOUT_BLOCK),
        }
    }

    /// Height of the first block that is stored: 1, unless old ones were dropped or never were here.
    #[must_use]
    pub fn first_height(&self) -> u64 {
        self.read().blocks.base().height + 1
    }

    /// Index of the first entry that is stored with all that follow: 0, unless old ones were dropped or never were here. Entry
    /// bundles start there; hash tiles, roots and proofs reach back to the first entry.
    #[must_use]
    pub fn first_entry(&self) -> u64 {
        self.read().blocks.base().first_entry()
    }

    /// The BlockInfo of the block that the record at `index` is in, and its own index.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Dropped`], and those of reading a block.
    pub fn block_info_of(&self, index: u64) -> Result<(u64, BlockInfo), Error> {
        let inner = self.sized(index.saturating_add(1))?;
        let at = if index < inner.blocks.base().tree_size {
            // A record that was kept has its BlockInfo after it; the last entry before the base is one too.
            let base = inner.blocks.base();
            let kept = self.store.kept_info_from(index)?;
            let last = base.tree_size - 1;
            match kept {
                Some(at) if at < base.first_entry() => at,
                _ => (base.first_entry().max(index)..=last)
                    .find(|at| {
                        let i = usize::try_from(at - base.first_entry()).unwrap_or(usize::MAX);
                        base.edge
                            .get(i)
                            .is_some_and(|e| BlockInfo::from_bytes(e).is_ok())
                    })
                    .ok_or(Error::Internal("a base that does not end a block"))?,
            }
        } else {
            let (_, height) = self.store.border(index)?.ok_or(WITHOUT_BLOCK)?;
            let stored = inner.blocks.read(height)?;
            let block = Block::from_bytes(&stored.block).map_err(codec("stored block"))?;
            block.header.tree_size.saturating_sub(1)
        };
        let (blocks, store) = (&inner.blocks, &self.store);
        let info = read_entries(blocks, store, self.genesis_bytes(), at, at + 1)?
            .pop()
            .ok_or(Error::Internal("a block without entries"))?;
        let info = BlockInfo::from_bytes(&info).map_err(codec("block's last entry"))?;
        // Without the record itself, the next BlockInfo that was kept is another block's.
        if index + u64::from(info.record_count) < at {
            return Err(Error::Dropped {
                what: "entry",
                asked: index,
                first: inner.blocks.base().first_entry(),
            });
        }
        Ok((at, info))
    }

    /// The root of the tree of the first `size` entries.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], and those of reading tiles.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        tally_merkle::root_at(&self.sized(size)?.tiles.reading(), size)
    }

    /// The inclusion proof of an entry in the tree of `size`, leaf side first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Merkle`], and those of reading tiles.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        tally_merkle::inclusion_proof(&self.sized(size)?.tiles.reading(), index, size)
    }

    /// The consistency proof between two sizes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Merkle`], and those of reading tiles.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        tally_merkle::consistency_proof(&self.sized(new)?.tiles.reading(), old, new)
    }

    /// The value under a state key with its proof, both of one head.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn prove_value(&self, key: &[u8]) -> Result<(Head, Option<Vec<u8>>, StateProof), Error> {
        // The lock holds commits off, so value and proof are of one block.
        let inner = self.read();
        Ok((
            inner.head,
            self.store.state.get(key)?,
            inner.tree.prove(key)?,
        ))
    }

    /// The value under a state key, its proof, and the BlockInfo entry that commits to them.
    ///
    /// # Errors
    /// [`Error::State`], and those of reading a block.
    pub fn state_evidence(&self, key: &[u8]) -> Result<StateEvidence, Error> {
        let [evidence] = self.state_evidences([key])?;
        Ok(evidence)
    }

    /// As [`Self::state_evidence`] for several keys, all of one head.
    ///
    /// # Errors
    /// [`Error::State`], and those of reading a block.
    pub fn state_evidences<const N: usize>(
        &self,
        keys: [&[u8]; N],
    ) -> Result<[StateEvidence; N], Error> {
        let inner = self.read();
        let head = inner.head;
        // Blocks without records add no entry, so the last entry is the BlockInfo of this state root; unless a change of the network
        // has come into force in one since.
        let block_info = match head.tree_size.checked_sub(1) {
            None | Some(0) => None,
            Some(index) => {
                let (blocks, store) = (&inner.blocks, &self.store);
                let entries = read_entries(blocks, store, self.genesis_bytes(), index, index + 1)?;
                let info = entries
                    .last()
                    .ok_or(Error::Internal("a block without entries"))?;
                let info = BlockInfo::from_bytes(info).map_err(codec("last entry"))?;
                if info.state_root != head.state_root {
                    return Err(Error::NoEntryYet {
                        height: head.height,
                    });
                }
                Some((index, info))
            }
        };
        let mut values = Vec::with_capacity(N);
        for key in keys {
            values.push(StateEvidence {
                head,
                value: self.store.state.get(key)?,
                proof: inner.tree.prove(key)?,
                block_info: block_info.clone(),
            });
        }
        values
            .try_into()
            .map_err(|_| Error::Internal("another number of values than of keys"))
    }

    /// A tile or entry bundle as it is served: empty if the tree does not reach that far.
    ///
    /// # Errors
    /// [`Error::Dropped`] for a bundle before [`Self::first_entry`]; those of reading tiles.
    pub fn tile(&self, path: &TilePath) -> Result<Vec<u8>, Error> {
        let inner = self.read();
        let first = inner.blocks.base().first_entry();
        if matches!(path.kind(), TileKind::Entries) && path.index() < first / WIDTH {
            return Err(Error::Dropped {
                what: "entry bundle",
                asked: path.index(),
                first: first / WIDTH,
            });
        }
        inner.tiles.bytes(path.kind(), path.index(), path.width())
    }

    /// Writes every tile and bundle of the tree of `size` below `out`, partial ones too, and says how many. Entry bundles that were
    /// dropped are left out.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Io`].
    pub fn export_tiles(&self, size: u64, out: &Path) -> Result<u64, Error> {
        drop(self.sized(size)?);
        let mut count = 0;
        let first = self.first_entry() / WIDTH;
        let dropped = |path: &TilePath| path.kind() == TileKind::Entries && path.index() < first;
        for path in TilePath::of_tree(size).filter(|path| !dropped(path)) {
            write_whole(&out.join(path.to_string()), &self.tile(&path)?)?;
            count += 1;
        }
        Ok(count)
    }

    /// Writes a signed checkpoint of this ledger below `out`, after every tile of its tree: what any C2SP reader takes.
    ///
    /// # Errors
    /// [`Error::Merkle`] if the checkpoint is not of this ledger's tree; [`Error::OutOfRange`], [`Error::Io`].
    pub fn export(&self, checkpoint: &Note, out: &Path) -> Result<u64, Error> {
        let head: Checkpoint = checkpoint.text().parse()?;
        if self.root_at(head.size)? != head.root {
            return Err(tally_merkle::Error::Root { what: "checkpoint" }.into());
        }
        let count = self.export_tiles(head.size, out)?;
        write_whole(&out.join("checkpoint"), checkpoint.to_string().as_bytes())?;
        Ok(count)
    }

    fn sized(&self, size: u64) -> Result<RwLockReadGuard<'_, Inner>, Error> {
        let inner = self.read();
        if size > inner.head.tree_size {
            return Err(Error::OutOfRange {
                what: "tree size",
                asked: size,
                have: inner.head.tree_size,
            });
        }
        Ok(inner)
    }
}

/// The entries `from..to`: from the blocks, and before their base from what was kept.
pub(crate) fn read_entries(
    blocks: &BlockStore,
    store: &Store,
    genesis_bytes: &[u8],
    from: u64,
    to: u64,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut out = Vec::new();
    let mut at = from;
    if at == 0 && to > 0 {
        out.push(genesis_bytes.to_vec());
        at = 1;
    }
    let base = blocks.base();
    while at < to {
        if at < base.tree_size {
            let stored = at
                .checked_sub(base.first_entry())
                .and_then(|i| base.edge.get(usize::try_from(i).ok()?));
            out.push(match stored {
                Some(entry) => entry.clone(),
                None => store.kept(at)?.ok_or(Error::Dropped {
                    what: "entry",
                    asked: at,
                    first: base.first_entry(),
                })?,
            });
            at += 1;
            continue;
        }
        let (first, height) = store.border(at)?.ok_or(WITHOUT_BLOCK)?;
        let stored = blocks.read(height)?;
        let block = Block::from_bytes(&stored.block).map_err(codec("stored block"))?;
        let entries = entries_of(&block.header, block.records);
        let skip = usize::try_from(at - first).map_err(|_| Error::Internal("entry offset"))?;
        let want = usize::try_from(to - at).map_err(|_| Error::Internal("entry count"))?;
        let before = out.len();
        out.extend(entries.into_iter().skip(skip).take(want));
        if out.len() == before {
            return Err(Error::Internal(
                "a block with fewer entries than its border says",
            ));
        }
        at += (out.len() - before) as u64;
    }
    Ok(out)
}

fn codec(what: &'static str) -> impl Fn(CodecError) -> Error {
    move |source| Error::Codec { what, source }
}
