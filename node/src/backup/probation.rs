//! A validator that forgot its votes does not vote for a while.
//!
//! What a validator has voted for stands in `consensus/`, which no backup has. A node that was restored may have voted, before it
//! was lost, at the height that is being decided; so may one whose log of votes is damaged. So it runs without its consensus key at first, as one that only follows, until
//! the others have decided a block that was proposed after it started: every vote it may have forgotten was for that height or a
//! lower one. Its next votes are for higher ones.

use std::path::PathBuf;
use std::time::Duration;

use tally_ledger::Head;
use tokio::sync::watch;

use crate::chain::now_ms;
use crate::config::DataDir;
use crate::files::{FileError, parent, sync_dir, write_atomic};

/// The file that says so, in `consensus/`.
const MARK: &str = "restored";

/// Why a node has forgotten its votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It was restored from a backup.
    Restored,
    /// Its log of votes was damaged.
    DamagedLog,
    /// It began from a snapshot, with keys that may have voted before.
    Snapshot,
}

impl Forgotten {
    /// For an operator: how it came to this.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Restored => "restored from a backup",
            Self::DamagedLog => "its log of votes was damaged",
            Self::Snapshot => "begun from a snapshot",
        }
    }
}

/// A node that must not vote yet.
#[derive(Debug)]
pub struct Probation {
    mark: PathBuf,
    why: Forgotten,
    /// A block of this time or later was proposed after this node stopped to vote, whatever the clocks.
    after_ms: u64,
}

impl Probation {
    /// Puts the node of `dir` on probation; it lasts over restarts.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn impose(dir: &DataDir, why: Forgotten) -> Result<(), FileError> {
        let text = format!(
            "{}: this validator does not vote until it has seen a block that it cannot have voted for\n",
            why.reason()
        );
        write_atomic(&dir.consensus().join(MARK), text.as_bytes(), 0o600)
    }

    /// The probation of the node of `dir`, if it is on one. `newest_ms` is the time of its newest block, `max_skew_ms` how far the
    /// clocks of validators may differ.
    #[must_use]
    pub fn of(dir: &DataDir, newest_ms: u64, max_skew_ms: u64) -> Option<Self> {
        let mark = dir.consensus().join(MARK);
        if !mark.exists() {
            return None;
        }
        let text = std::fs::read(&mark).unwrap_or_default();
        let why = [Forgotten::DamagedLog, Forgotten::Snapshot]
            .into_iter()
            .find(|why| text.starts_with(why.reason().as_bytes()))
            .unwrap_or(Forgotten::Restored);
        Some(Self {
            mark,
            why,
            after_ms: now_ms()
                .max(newest_ms)
                .saturating_add(max_skew_ms.saturating_mul(2)),
        })
    }

    /// Why it is on probation.
    #[must_use]
    pub const fn why(&self) -> Forgotten {
        self.why
    }

    /// How long it lasts at least, by this machine's clock.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.after_ms.saturating_sub(now_ms()))
    }

    /// Resolves once a block is there that ends it; the node must then be started anew, with its key.
    ///
    /// # Errors
    /// [`FileError`] if that cannot be written down.
    pub async fn over(&self, mut heads: watch::Receiver<Head>) -> Result<(), FileError> {
        while heads.borrow_and_update().time_ms < self.after_ms {
            if heads.changed().await.is_err() {
                // The chain is gone: the node is stopping.
                std::future::pending::<()>().await;
            }
        }
        std::fs::remove_file(&self.mark).map_err(FileError::new("remove", &self.mark))?;
        sync_dir(parent(&self.mark))
    }
}

#[cfg(test)]
mod tests {
    use tally_contracts::ids::BlockHash;
    use tally_merkle::Hash;

    use super::*;

    fn head(time_ms: u64) -> Head {
        Head {
            height: 1,
            hash: BlockHash([0; 32]),
            time_ms,
            tree_size: 1,
            tree_root: Hash([0; 32]),
            state_root: Hash([0; 32]),
        }
    }

    #[tokio::test]
    async fn only_a_block_of_afterwards_ends_it() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        std::fs::create_dir(dir.consensus()).unwrap();
        assert!(Probation::of(&dir, 0, 1_000).is_none());
        Probation::impose(&dir, Forgotten::Restored).unwrap();
        let start = now_ms();
        let probation = Probation::of(&dir, 0, 60_000).unwrap();
        assert_eq!(probation.why(), Forgotten::Restored);
        assert!(probation.after_ms >= start + 120_000);
        let (sender, receiver) = watch::channel(head(probation.after_ms - 1));
        let early = tokio::time::timeout(Duration::from_millis(50), probation.over(receiver));
        assert!(early.await.is_err());
        assert!(Probation::of(&dir, 0, 1).is_some());
        sender.send_replace(head(probation.after_ms));
        probation.over(sender.subscribe()).await.unwrap();
        assert!(Probation::of(&dir, 0, 1).is_none());
    }

    /// A clock that stands behind the blocks on disk counts from them.
    #[test]
    fn a_late_clock_does_not_shorten_it() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        std::fs::create_dir(dir.consensus()).unwrap();
        Probation::impose(&dir, Forgotten::Snapshot).unwrap();
        let snapshot = Probation::of(&dir, 0, 0).unwrap();
        assert_eq!(snapshot.why(), Forgotten::Snapshot);
        Probation::impose(&dir, Forgotten::DamagedLog).unwrap();
        let newest = now_ms() + 3_600_000;
        let probation = Probation::of(&dir, newest, 500).unwrap();
        assert_eq!(probation.why(), Forgotten::DamagedLog);
        assert_eq!(probation.after_ms, newest + 1_000);
        assert!(probation.left() > Duration::from_secs(3_500));
    }
}
