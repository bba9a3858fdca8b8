//! Undecided blocks on disk. A block is here, synced, before the engine hears of it: a vote that this node signed can always
//! be followed by the block it was for, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tally_contracts::block::MAX_BLOCK_BYTES;
use tally_contracts::codec::{CodecError, Reader, Writer};
use tally_contracts::ids::{BlockHash, PublicKey};

use crate::error::Error;

const VERSION: u8 = 1;
const SUFFIX: &str = "block";

/// A block that was proposed and is not decided yet, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposed {
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) pol_round: Option<u32>,
    pub(crate) block: BlockHash,
    pub(crate) sender: PublicKey,
}

impl Proposed {
    fn file_name(&self) -> String {
        format!(
            "{:020}-{:010}-{}.{SUFFIX}",
            self.height, self.round, self.block
        )
    }

    pub(crate) fn to_bytes(&self, body: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION)
            .u64(self.height)
            .u32(self.round)
            .bool(self.pol_round.is_some());
        if let Some(round) = self.pol_round {
            w.u32(round);
        }
        w.raw(&self.block.0)
            .raw(&self.sender.0)
            .raw(&Sha256::digest(body))
            .bytes(body);
        w.into_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(Self, Vec<u8>), CodecError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("proposal file version")?;
        if version != VERSION {
            return Err(CodecError::Invalid {
                what: "proposal file version",
                found: version.into(),
            });
        }
        let height = r.u64("height")?;
        let round = r.u32("round")?;
        let pol_round = if r.bool("lock flag")? {
            Some(r.u32("lock round")?)
        } else {
            None
        };
        let proposed = Self {
            height,
            round,
            pol_round,
            block: BlockHash(r.array("block hash")?),
            sender: PublicKey(r.array("sender")?),
        };
        let digest: [u8; 32] = r.array("body digest")?;
        let body = r.bytes("body", MAX_BLOCK_BYTES)?.to_vec();
        r.finish()?;
        let found: [u8; 32] = Sha256::digest(&body).into();
        if found == digest {
            Ok((proposed, body))
        } else {
            Err(CodecError::Invalid {
                what: "body digest",
                found: body.len() as u64,
            })
        }
    }
}

/// The folder of undecided blocks. One block stays in memory: the one that is most likely decided next.
pub(crate) struct ProposalStore {
    dir: PathBuf,
    index: Vec<Proposed>,
    latest: Option<(BlockHash, Arc<Vec<u8>>)>,
}

impl ProposalStore {
    /// Opens the folder, creating it if missing. Files that do not decode are removed with a warning: they were never
    /// answered to the engine, because a file counts only once it is synced under its name.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, &e))?;
        let mut index = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| Error::io(&dir, &e))? {
            let path = entry.map_err(|e| Error::io(&dir, &e))?.path();
            let is_block = path.extension().is_some_and(|e| e == SUFFIX);
            let bytes = fs::read(&path).map_err(|e| Error::io(&path, &e))?;
            match Proposed::from_bytes(&bytes) {
                Ok((proposed, _)) if is_block => index.push(proposed),
                Ok(_) => remove(&path)?,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "dropping a damaged proposal");
                    remove(&path)?;
                }
            }
        }
        index.sort_unstable_by_key(|p| (p.height, p.round));
        Ok(Self {
            dir,
            index,
            latest: None,
        })
    }

    /// What is stored for `height`, by round.
    pub(crate) fn at(&self, height: u64) -> impl Iterator<Item = &Proposed> {
        self.index.iter().filter(move |p| p.height == height)
    }

    /// What is stored of `block` at `height`.
    pub(crate) fn find(&self, height: u64, block: &BlockHash) -> Option<&Proposed> {
        self.at(height).find(|p| p.block == *block)
    }

    /// Stores a block; it is on disk when this returns. A block that is already there is not written again.
    pub(crate) async fn put(&mut self, proposed: Proposed, body: Vec<u8>) -> Result<(), Error> {
        let body = Arc::new(body);
        let known = self.at(proposed.height).any(|p| *p == proposed);
        if !known {
            let dir = self.dir.clone();
            let name = proposed.file_name();
            let bytes = proposed.to_bytes(&body);
            blocking(move || write_synced(&dir, &name, &bytes)).await?;
            self.index.push(proposed.clone());
            self.index.sort_unstable_by_key(|p| (p.height, p.round));
        }
        self.latest = Some((proposed.block, body));
        Ok(())
    }

    /// The bytes of `block`.
    pub(crate) async fn body(
        &self,
        height: u64,
        block: &BlockHash,
    ) -> Result<Option<Vec<u8>>, Error> {
        if let Some((latest, body)) = &self.latest
            && latest == block
        {
            return Ok(Some(body.as_ref().clone()));
        }
        let Some(proposed) = self.find(height, block) else {
            return Ok(None);
        };
        let path = self.dir.join(proposed.file_name());
        blocking(move || {
            let bytes = fs::read(&path).map_err(|e| Error::io(&path, &e))?;
            match Proposed::from_bytes(&bytes) {
                Ok((_, body)) => Ok(Some(body)),
                Err(e) => Err(Error::Io {
                    path: path.display().to_string(),
                    reason: e.to_string(),
                }),
            }
        })
        .await
    }

    /// Removes what is stored of `block` at `height`: its bytes are not the block.
    pub(crate) async fn forget(&mut self, height: u64, block: &BlockHash) -> Result<(), Error> {
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .index
            .drain(..)
            .partition(|p| p.height == height && p.block == *block);
        self.index = kept;
        self.latest = None;
        let dir = self.dir.clone();
        blocking(move || {
            gone.iter()
                .try_for_each(|proposed| remove(&dir.join(proposed.file_name())))
        })
        .await
    }

    /// Removes what is for `height` or below. The folder is not synced for this: a file that comes back after a crash is
    /// removed at the next commit.
    pub(crate) async fn forget_through(&mut self, height: u64) -> Result<(), Error> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.index.drain(..).partition(|p| p.height <= height);
        self.index = kept;
        self.latest = None;
        let dir = self.dir.clone();
        blocking(move || {
            gone.iter()
                .try_for_each(|proposed| remove(&dir.join(proposed.file_name())))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::engine(e)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, &e)),
        _ => Ok(()),
    }
}

fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let temporary = dir.join(format!("{name}.new"));
    let path = dir.join(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| Error::io(&path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(height: u64, round: u32, block: u8) -> Proposed {
        Proposed {
            height,
            round,
            pol_round: (round > 1).then_some(1),
            block: BlockHash([block; 32]),
            sender: PublicKey([3; 32]),
        }
    }

    #[tokio::test]
    async fn survives_reopening_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = ProposalStore::open(dir.path().to_owned()).unwrap();
        for (height, round, block) in [(5, 0, 1), (5, 2, 2), (6, 0, 3)] {
            store
                .put(proposed(height, round, block), vec![block; 1000])
                .await
                .unwrap();
        }
        let mut store = ProposalStore::open(dir.path().to_owned()).unwrap();
        assert_eq!(store.at(5).count(), 2);
        assert_eq!(store.at(5).nth(1), Some(&proposed(5, 2, 2)));
        let body = store.body(5, &BlockHash([2; 32])).await.unwrap();
        assert_eq!(body, Some(vec![2; 1000]));
        assert_eq!(store.body(5, &BlockHash([3; 32])).await.unwrap(), None);
        store.forget_through(5).await.unwrap();
        let store = ProposalStore::open(dir.path().to_owned()).unwrap();
        assert_eq!(store.at(5).count(), 0);
        assert_eq!(store.at(6).count(), 1);
    }

    #[tokio::test]
    async fn damaged_and_unfinished_files_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = ProposalStore::open(dir.path().to_owned()).unwrap();
        store.put(proposed(5, 0, 1), vec![1; 100]).await.unwrap();
        let path = dir.path().join(proposed(5, 0, 1).file_name());
        let good = fs::read(&path).unwrap();
        fs::write(dir.path().join("x.block.new"), &good).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            // A changed height, round or sender still decodes: only the body has a digest of its own.
            let decoded = Proposed::from_bytes(&bad);
            assert!(decoded.is_err() || decoded.unwrap().0 != proposed(5, 0, 1));
            assert!(Proposed::from_bytes(&good[..at]).is_err());
        }
        let mut torn = good;
        torn.truncate(50);
        fs::write(&path, torn).unwrap();
        let store = ProposalStore::open(dir.path().to_owned()).unwrap();
        assert_eq!(store.at(5).count(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
