//! The dealers and shops that may say what becomes of units, and the keys by which they are known.
//!
//! In scope: names, keys, the sealed list that they stand in: a file of this node, or a row of the database that the gateways of a member
//! share. Out of scope: what dealers say (`scans`), HTTP.

mod file;
mod shared;

use std::path::Path;
use std::sync::Arc;

use rand_core::{OsRng, RngCore};
use subtle::ConstantTimeEq;
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use zeroize::Zeroizing;

use self::file::FileList;
use self::shared::SharedList;
use crate::scans::{MAX_DEALER, SharedIndex};
use crate::sealed::{SealedError, StorageKey};

const VERSION: u8 = 1;
/// The most dealers of one list.
pub const MAX_DEALERS: usize = 4096;
/// Stands before the digits of a key, so that one that is found somewhere is known for what it is.
const PREFIX: &str = "dealer-";

/// Why the list of dealers was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DealerError {
    /// A name that is none.
    #[error("expected a name of 1 to 64 bytes without control characters")]
    Name,
    /// A key that is none; it is not repeated.
    #[error("expected a key as another gateway printed it: `dealer-` and 64 hex digits")]
    Key,
    /// There is one of that name.
    #[error("there is a dealer {name:?} already")]
    Known {
        /// The name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no dealer {name:?}")]
    NotKnown {
        /// The name.
        name: String,
    },
    /// Too many.
    #[error("there are {max} dealers, the most that one list has")]
    Full {
        /// The most.
        max: usize,
    },
    /// The file.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The list does not read.
    #[error("the list of dealers does not read: {0}")]
    Codec(#[from] CodecError),
    /// The database does not answer; nothing was changed, or it is not known.
    #[error("the shared list of dealers is away: {reason}")]
    Away {
        /// Why, without secrets.
        reason: String,
    },
}

/// A dealer, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealer {
    /// Its name, by which events and the detector know it.
    pub name: String,
    /// Since when, POSIX milliseconds.
    pub since_ms: u64,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    dealer: Dealer,
    /// Keyed hash of its key.
    mac: [u8; 32],
}

impl Canonical for Entry {
    fn write(&self, w: &mut Writer) {
        w.text(&self.dealer.name)
            .u64(self.dealer.since_ms)
            .raw(&self.mac);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            dealer: Dealer {
                name: r.text("dealer", MAX_DEALER)?,
                since_ms: r.u64("time")?,
            },
            mac: r.array("hash of a key")?,
        })
    }
}

struct List(Vec<Entry>);

impl Canonical for List {
    fn write(&self, w: &mut Writer) {
        w.u8(VERSION).list(&self.0, |w, entry| entry.write(w));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        r.version("version of the dealers", VERSION)?;
        Ok(Self(r.list("dealers", MAX_DEALERS, Entry::read)?))
    }
}

/// The list: of this node alone, or of all gateways of its member.
pub struct Dealers {
    hashing: StorageKey,
    store: Store,
}

enum Store {
    File(FileList),
    Shared(Box<SharedList>),
}

impl Dealers {
    /// Opens the list of this node at `path`, which need not be there yet.
    ///
    /// # Errors
    /// [`DealerError::Sealed`], [`DealerError::Codec`].
    pub fn open(path: &Path, key: &StorageKey) -> Result<Self, DealerError> {
        Ok(Self {
            hashing: key.derive("tally/dealer-keys/v1"),
            store: Store::File(FileList::open(path, key)?),
        })
    }

    /// The list that the gateways of a member share beside their scan index. Nothing is connected yet: it may be away.
    ///
    /// # Errors
    /// [`DealerError::Away`] if the URL is none.
    pub fn shared(index: &SharedIndex) -> Result<Self, DealerError> {
        let key = index.key.derive("tally/shared-dealers/v1");
        Ok(Self {
            hashing: key.derive("tally/dealer-keys/v1"),
            store: Store::Shared(Box::new(SharedList::new(index, &key)?)),
        })
    }

    fn mac(&self, key: &str) -> [u8; 32] {
        self.hashing.mac(&[key.as_bytes()])
    }

    /// Replaces the list by what `change` makes of it, durably.
    async fn change(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<(), DealerError> + Send,
    ) -> Result<(), DealerError> {
        match &self.store {
            Store::File(list) => list.change(change),
            Store::Shared(list) => list.change(change).await,
        }
    }

    async fn entries(&self) -> Result<Arc<Vec<Entry>>, DealerError> {
        match &self.store {
            Store::File(list) => Ok(list.entries()),
            Store::Shared(list) => list.entries().await,
        }
    }

    /// Adds a dealer and gives its key, which is not kept and cannot be told again; or takes over `key`, which another gateway of the member
    /// made. The key is secret. Writes to the disk or the database.
    ///
    /// # Errors
    /// [`DealerError`].
    pub async fn add(
        &self,
        name: &str,
        key: Option<&str>,
        now_ms: u64,
    ) -> Result<Zeroizing<String>, DealerError> {
        let name = name.trim();
        if name.is_empty() || name.len() > MAX_DEALER || name.chars().any(char::is_control) {
            return Err(DealerError::Name);
        }
        let key = match key {
            Some(key) => Zeroizing::new(key.trim().to_owned()),
            None => {
                let mut bytes = Zeroizing::new([0; 32]);
                OsRng.fill_bytes(bytes.as_mut());
                let digits = Zeroizing::new(hex::encode(*bytes));
                Zeroizing::new(format!("{PREFIX}{}", *digits))
            }
        };
        if !is_key(&key) {
            return Err(DealerError::Key);
        }
        let entry = Entry {
            dealer: Dealer {
                name: name.to_owned(),
                since_ms: now_ms,
            },
            mac: self.mac(&key),
        };
        self.change(move |entries| {
            if entries.iter().any(|e| e.dealer.name == entry.dealer.name) {
                return Err(DealerError::Known {
                    name: entry.dealer.name,
                });
            }
            if entries.len() >= MAX_DEALERS {
                return Err(DealerError::Full { max: MAX_DEALERS });
            }
            entries.push(entry);
            Ok(())
        })
        .await?;
        Ok(key)
    }

    /// Removes a dealer: its key is refused from now on, within a second at the other gateways that share the list. What it said stays.
    /// Writes to the disk or the database.
    ///
    /// # Errors
    /// [`DealerError::NotKnown`], [`DealerError::Sealed`], [`DealerError::Away`].
    pub async fn remove(&self, name: &str) -> Result<(), DealerError> {
        let name = name.to_owned();
        self.change(move |entries| {
            let before = entries.len();
            entries.retain(|e| e.dealer.name != name);
            if entries.len() == before {
                return Err(DealerError::NotKnown { name });
            }
            Ok(())
        })
        .await
    }

    /// All of them, in the order in which they came.
    ///
    /// # Errors
    /// [`DealerError::Away`].
    pub async fn list(&self) -> Result<Vec<Dealer>, DealerError> {
        Ok(self
            .entries()
            .await?
            .iter()
            .map(|e| e.dealer.clone())
            .collect())
    }

    /// The name of whoever has this key; in time that does not depend on how much of the key is right. A text that is no key at all is
    /// not looked up.
    ///
    /// # Errors
    /// [`DealerError::Away`].
    pub async fn name_of(&self, key: &str) -> Result<Option<String>, DealerError> {
        if !is_key(key) {
            return Ok(None);
        }
        let mac = self.mac(key);
        let mut found = None;
        for entry in self.entries().await?.iter() {
            if bool::from(entry.mac.ct_eq(&mac)) {
                found = Some(entry.dealer.name.clone());
            }
        }
        Ok(found)
    }
}

fn is_key(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::database::cluster::{Cluster, PASSWORD};

    #[tokio::test]
    async fn a_key_is_its_dealers_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, storage) = (dir.path().join("dealers"), StorageKey::from_bytes([3; 32]));
        let dealers = Dealers::open(&path, &storage).unwrap();
        let shop = dealers.add(" Corner shop ", None, 7).await.unwrap();
        let other = dealers.add("仓库", None, 8).await.unwrap();
        assert_ne!(*shop, *other);
        assert!(matches!(
            dealers.add("Corner shop", None, 9).await,
            Err(DealerError::Known { .. })
        ));
        for bad in ["", " ", "a\nb", &"x".repeat(65)] {
            assert!(matches!(
                dealers.add(bad, None, 9).await,
                Err(DealerError::Name)
            ));
        }
        for bad in ["", "dealer-", &shop[..70], &shop.to_uppercase()] {
            assert!(matches!(
                dealers.add("new", Some(bad), 9).await,
                Err(DealerError::Key)
            ));
        }
        // After a restart, and at another gateway that was given the same key.
        drop(dealers);
        let dealers = Dealers::open(&path, &storage).unwrap();
        assert_eq!(
            dealers.name_of(&shop).await.unwrap().as_deref(),
            Some("Corner shop")
        );
        assert_eq!(
            dealers.name_of(&other).await.unwrap().as_deref(),
            Some("仓库")
        );
        assert_eq!(dealers.name_of(&shop[..70]).await.unwrap(), None);
        assert_eq!(dealers.list().await.unwrap()[0].since_ms, 7);
        let second = Dealers::open(&dir.path().join("second"), &StorageKey::from_bytes([4; 32]));
        let second = second.unwrap();
        second.add("Corner shop", Some(&shop), 9).await.unwrap();
        assert_eq!(
            second.name_of(&shop).await.unwrap().as_deref(),
            Some("Corner shop")
        );
        // The file shows no key and no name.
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"Corner"));
        dealers.remove("Corner shop").await.unwrap();
        assert_eq!(dealers.name_of(&shop).await.unwrap(), None);
        assert!(matches!(
            dealers.remove("Corner shop").await,
            Err(DealerError::NotKnown { .. })
        ));
        let again = Dealers::open(&path, &storage).unwrap();
        assert_eq!(again.list().await.unwrap().len(), 1);
        assert!(Dealers::open(&path, &StorageKey::from_bytes([9; 32])).is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn gateways_share_one_list() {
        let Some(cluster) = Cluster::start().await else {
            return;
        };
        cluster.create("dealers").await;
        let open = |key: u8| {
            Dealers::shared(&SharedIndex {
                url: cluster.url("dealers"),
                password: Some(Zeroizing::new(PASSWORD.to_owned())),
                key: StorageKey::from_bytes([key; 32]),
            })
            .unwrap()
        };
        let (first, second) = (open(1), open(1));
        assert!(second.list().await.unwrap().is_empty());
        let shop = first.add("shop", None, 7).await.unwrap();
        assert!(matches!(
            second.add("shop", None, 8).await,
            Err(DealerError::Known { .. })
        ));
        // Both change it at once, and neither change is lost.
        let (one, two) = tokio::join!(first.add("one", None, 8), second.add("two", None, 9));
        let (one, two) = (one.unwrap(), two.unwrap());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for dealers in [&first, &second] {
            for (key, name) in [(&shop, "shop"), (&one, "one"), (&two, "two")] {
                let found = dealers.name_of(key).await.unwrap();
                assert_eq!(found.as_deref(), Some(name));
            }
            assert_eq!(dealers.list().await.unwrap().len(), 3);
        }
        first.remove("shop").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(second.name_of(&shop).await.unwrap(), None);
        assert!(matches!(
            second.remove("shop").await,
            Err(DealerError::NotKnown { .. })
        ));
        // A gateway with another key neither reads nor changes it.
        let other = open(2);
        assert!(matches!(other.list().await, Err(DealerError::Away { .. })));
        assert!(matches!(
            other.add("x", None, 1).await,
            Err(DealerError::Away { .. })
        ));
        assert_eq!(open(1).list().await.unwrap().len(), 2);
        // What is no key is not even looked up; of one that is, it is not known whose it is.
        drop(cluster);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(second.name_of("dealer-x").await.unwrap(), None);
        assert!(matches!(
            second.name_of(&one).await,
            Err(DealerError::Away { .. })
        ));
    }
}
