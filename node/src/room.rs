//! Free space on the disk of a node: below the reserve it takes nothing new.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a node that waits for room looks.
const LOOK: Duration = Duration::from_secs(1);

/// The disk that a node's data lies on, and how much of it is kept free.
#[derive(Debug, Clone)]
pub struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
}

impl Room {
    /// Of the file system that holds `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, reserve_bytes: u64) -> Self {
        Self {
            dir: dir.into(),
            reserve_bytes,
        }
    }

    /// Why nothing new may be written, if less than the reserve is free. A disk that cannot be asked is tried.
    #[must_use]
    pub fn lacking(&self) -> Option<String> {
        free_bytes(&self.dir)
            .filter(|free| *free < self.reserve_bytes)
            .map(|free| {
                format!(
                    "{free} bytes are free on the node's disk, {} are kept free",
                    self.reserve_bytes
                )
            })
    }

    /// Resolves once there is more than the reserve.
    pub async fn wait(&self) {
        while self.lacking().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Free bytes of the file system that holds `dir`; `None` if the system does not say.
#[must_use]
pub fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir)
        .ok()
        .map(|s| s.f_bavail.saturating_mul(s.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).is_some_and(|free| free > 0));
        assert_eq!(Room::new(dir.path(), 1).lacking(), None);
        let reason = Room::new(dir.path(), u64::MAX).lacking().unwrap();
        assert!(reason.contains("are kept free"), "{reason}");
        assert_eq!(Room::new(dir.path().join("gone"), u64::MAX).lacking(), None);
    }
}
