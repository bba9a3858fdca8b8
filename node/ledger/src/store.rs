//! What the ledger keeps beside its blocks: state, indexes and head, each under its own first byte.

use std::sync::Arc;

use tally_contracts::block::Header;
use tally_contracts::codec::{Reader, Writer};
use tally_contracts::ids::{BlockHash, NetworkId, RecordId};
use tally_contracts::state::{Effects, StateError};
use tally_contracts::{CodecError, Genesis, StateRead, StateTree, genesis_effects};
use tally_merkle::{Frontier, Hash, leaf_hash};

use crate::error::Error;
use crate::gather::Gathering;
use crate::kv::{Batch, Kv, Pair};
use crate::snapshot::Handover;

const HEAD: &[u8] = b"Hhead";
const NETWORK: &[u8] = b"Hnetwork";
/// State keys.
const STATE: u8 = b'S';
/// Record ID -> height and index.
const RECORD: u8 = b'R';
/// Index of a block's first entry -> height.
const BORDER: u8 = b'B';
/// Index -> entry that stays when its block is dropped.
const KEPT: u8 = b'K';
/// Index -> nothing; those of [`KEPT`] that are a BlockInfo.
const KEPT_INFO: u8 = b'I';
/// Height -> [`Handover`] of the block that changed the validators.
const HANDOVER: u8 = b'V';

/// Where the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Height of the last block; 0 at the genesis.
    pub height: u64,
    /// Its hash; zero at the genesis.
    pub hash: BlockHash,
    /// Its time, POSIX milliseconds; that of the genesis before the first block.
    pub time_ms: u64,
    /// Entries in the tree.
    pub tree_size: u64,
    /// Root of the tree.
    pub tree_root: Hash,
    /// Root of the state.
    pub state_root: Hash,
}

impl Head {
    /// Where the ledger stands after a block.
    pub(crate) fn after(header: &Header) -> Self {
        Self {
            height: header.height,
            hash: header.hash(),
            time_ms: header.time_ms,
            tree_size: header.tree_size,
            tree_root: header.tree_root,
            state_root: header.state_root,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(1)
            .u64(self.height)
            .raw(&self.hash.0)
            .u64(self.time_ms)
            .u64(self.tree_size)
            .raw(self.tree_root.as_bytes())
            .raw(self.state_root.as_bytes());
        w.into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        r.version("head version", 1)?;
        let head = Self {
            height: r.u64("height")?,
            hash: BlockHash(r.array("block hash")?),
            time_ms: r.u64("time")?,
            tree_size: r.u64("tree size")?,
            tree_root: Hash(r.array("tree root")?),
            state_root: Hash(r.array("state root")?),
        };
        r.finish()?;
        Ok(head)
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Height of its block.
    pub height: u64,
    /// Its index among the ledger's entries.
    pub index: u64,
}

/// The state after the last block, as it stands in the store.
#[derive(Clone)]
pub struct StateStore {
    kv: Arc<dyn Kv>,
}

impl StateStore {
    /// Every key that starts with `prefix`, with its value, ascending.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, Error> {
        self.iter(prefix).collect()
    }

    /// Every key and value, ascending, one after the other.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Result<Pair, Error>> {
        self.iter(b"")
    }

    fn iter(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Pair, Error>> {
        self.kv.scan(&under(STATE, prefix)).map(|pair| {
            let (mut key, value) = pair?;
            key.remove(0);
            Ok((key, value))
        })
    }
}

impl StateRead for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.kv
            .get(&under(STATE, key))
            .map_err(|e| StateError::Store {
                message: e.to_string(),
            })
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        StateStore::scan(self, prefix).map_err(|e| StateError::Store {
            message: e.to_string(),
        })
    }
}

/// The ledger's side of the store.
pub(crate) struct Store {
    kv: Arc<Gathering>,
    pub(crate) state: StateStore,
}

impl Store {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        let kv = Arc::new(Gathering::new(kv));
        Self {
            state: StateStore { kv: kv.clone() },
            kv,
        }
    }

    /// From now on what is written stays in memory, where it is read, until [`Self::settle`].
    pub(crate) fn gather(&self) {
        self.kv.begin();
    }

    /// Writes all that was gathered, in one batch.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.kv.settle()
    }

    /// The head written last; `None` in a new store.
    pub(crate) fn head(&self, network: &NetworkId) -> Result<Option<Head>, Error> {
        let (Some(head), Some(found)) = (self.kv.get(HEAD)?, self.kv.get(NETWORK)?) else {
            return Ok(None);
        };
        if found != network.0 {
            return Err(Error::OtherNetwork {
                expected: network.to_string(),
                found: hex::encode(found),
            });
        }
        Head::from_bytes(&head)
            .map(Some)
            .map_err(|source| Error::Codec {
                what: "head",
                source,
            })
    }

    /// Sets up a new store: entry 0 is the genesis document.
    pub(crate) fn found(&self, genesis: &Genesis, document: &[u8]) -> Result<Head, Error> {
        let effects = genesis_effects(genesis);
        let mut frontier = Frontier::new();
        frontier.append(leaf_hash(document));
        let head = Head {
            height: 0,
            hash: BlockHash([0; 32]),
            time_ms: genesis.created_ms,
            tree_size: frontier.size(),
            tree_root: frontier.root(),
            state_root: StateTree::new().commit(&effects)?,
        };
        let mut batch: Batch = vec![
            (HEAD.to_vec(), Some(head.to_bytes())),
            (NETWORK.to_vec(), Some(genesis.network_id().0.to_vec())),
        ];
        put_state(&mut batch, &effects);
        self.kv.write(batch)?;
        self.kv.flush()?;
        Ok(head)
    }

    /// State, indexes and head after a block, in one batch: a crash leaves all of them at one block. `first` is the index of
    /// the block's first entry.
    pub(crate) fn advance(
        &self,
        first: u64,
        head: &Head,
        effects: &Effects,
        ids: &[RecordId],
        handover: Option<&Handover>,
    ) -> Result<(), Error> {
        let mut batch = Batch::with_capacity(effects.len() + ids.len() + 3);
        if let Some(handover) = handover {
            let key = under(HANDOVER, &head.height.to_be_bytes());
            batch.push((key, Some(handover.to_bytes())));
        }
        put_state(&mut batch, effects);
        for (index, id) in (first..).zip(ids) {
            let place = [head.height.to_be_bytes(), index.to_be_bytes()].concat();
            batch.push((under(RECORD, &id.0), Some(place)));
        }
        if !ids.is_empty() {
            batch.push((
                under(BORDER, &first.to_be_bytes()),
                Some(head.height.to_be_bytes().to_vec()),
            ));
        }
        batch.push((HEAD.to_vec(), Some(head.to_bytes())));
        self.kv.write(batch)
    }

    pub(crate) fn place(&self, id: &RecordId) -> Result<Option<RecordPlace>, Error> {
        let Some(bytes) = self.kv.get(&under(RECORD, &id.0))? else {
            return Ok(None);
        };
        let mut r = Reader::new(&bytes);
        let place = (|| {
            let place = RecordPlace {
                height: r.u64("height")?,
                index: r.u64("index")?,
            };
            r.finish()?;
            Ok(place)
        })();
        place.map(Some).map_err(|source| Error::Codec {
            what: "record index",
            source,
        })
    }

    /// The block that entry `index` is in, as the index of its first entry and its height; none for entry 0, and for those before a
    /// snapshot.
    pub(crate) fn border(&self, index: u64) -> Result<Option<(u64, u64)>, Error> {
        let from = under(BORDER, &0u64.to_be_bytes());
        let to = under(BORDER, &index.to_be_bytes());
        let Some((key, height)) = self.kv.last_between(&from, &to)? else {
            return Ok(None);
        };
        let first = number(key.get(1..).unwrap_or_default())?;
        Ok(Some((first, number(&height)?)))
    }

    /// How the validators came to be those in force, from the genesis on.
    pub(crate) fn trail(&self) -> Result<Vec<Handover>, Error> {
        self.kv
            .scan(&[HANDOVER])
            .map(|pair| {
                Handover::from_bytes(&pair?.1).map_err(|source| Error::Codec {
                    what: "handover",
                    source,
                })
            })
            .collect()
    }

    /// Pairs of the state from `from` on, about `bytes` of them, and where to go on; nowhere at the end.
    pub(crate) fn state_from(
        &self,
        from: &[u8],
        bytes: usize,
    ) -> Result<(Vec<Pair>, Option<Vec<u8>>), Error> {
        let (mut out, mut taken) = (Vec::new(), 0);
        for pair in self.kv.from(&under(STATE, from)) {
            let (mut key, value) = pair?;
            if key.first() != Some(&STATE) {
                break;
            }
            key.remove(0);
            if taken >= bytes {
                return Ok((out, Some(key)));
            }
            taken += key.len() + value.len();
            out.push((key, value));
        }
        Ok((out, None))
    }

    /// Writes pairs of a state that is being put together.
    pub(crate) fn import(&self, pairs: Vec<Pair>) -> Result<(), Error> {
        let pairs = pairs.into_iter();
        self.kv
            .write(pairs.map(|(k, v)| (under(STATE, &k), Some(v))).collect())
    }

    /// Ends an import: from here on the store is that of a ledger with this head.
    pub(crate) fn begin_at(
        &self,
        network: &NetworkId,
        head: &Head,
        trail: &[Handover],
    ) -> Result<(), Error> {
        let mut batch: Batch = vec![
            (HEAD.to_vec(), Some(head.to_bytes())),
            (NETWORK.to_vec(), Some(network.0.to_vec())),
        ];
        for handover in trail {
            let key = under(HANDOVER, &handover.header.height.to_be_bytes());
            batch.push((key, Some(handover.to_bytes())));
        }
        self.kv.write(batch)?;
        self.kv.flush()
    }

    /// Writes entries that stay when their blocks go; durable when it returns.
    pub(crate) fn keep(&self, entries: Vec<(u64, Vec<u8>, bool)>) -> Result<(), Error> {
        let mut batch = Batch::new();
        for (index, entry, is_info) in entries {
            batch.push((under(KEPT, &index.to_be_bytes()), Some(entry)));
            if is_info {
                let key = under(KEPT_INFO, &index.to_be_bytes());
                batch.push((key, Some(Vec::new())));
            }
        }
        self.kv.write(batch)?;
        self.kv.flush()
    }

    /// An entry that was kept.
    pub(crate) fn kept(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        self.kv.get(&under(KEPT, &index.to_be_bytes()))
    }

    /// The first index from `index` on under which a BlockInfo was kept.
    pub(crate) fn kept_info_from(&self, index: u64) -> Result<Option<u64>, Error> {
        match self.kv.from(&under(KEPT_INFO, &index.to_be_bytes())).next() {
            None => Ok(None),
            Some(pair) => {
                let (key, _) = pair?;
                match key.split_first() {
                    Some((&KEPT_INFO, index)) => number(index).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.kv.flush()
    }
}

fn put_state(batch: &mut Batch, effects: &Effects) {
    batch.extend(
        effects
            .iter()
            .map(|(key, value)| (under(STATE, key), value.clone())),
    );
}

fn under(space: u8, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(space);
    out.extend_from_slice(key);
    out
}

fn number(bytes: &[u8]) -> Result<u64, Error> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| {
        Error::Internal("an index entry of another length")
    })?))
}
