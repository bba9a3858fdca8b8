//! The dealers and shops that may say what becomes of units, and the keys by which they are known.
//!
//! In scope: names, keys, the sealed file that they stand in. Out of scope: what dealers say (`scans`), HTTP.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand_core::{OsRng, RngCore};
use subtle::ConstantTimeEq;
use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};
use zeroize::Zeroizing;

use crate::scans::MAX_DEALER;
use crate::sealed::{SealedError, StorageKey, read_sealed, write_sealed};

const PURPOSE: &str = "dealers";
const VERSION: u8 = 1;
/// The most dealers of one node.
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
    #[error("there are {max} dealers, the most that one node knows")]
    Full {
        /// The most.
        max: usize,
    },
    /// The file.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The file does not read.
    #[error("the list of dealers does not read: {0}")]
    Codec(#[from] CodecError),
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

/// The list, on disk and in memory.
pub struct Dealers {
    path: PathBuf,
    storage: StorageKey,
    hashing: StorageKey,
    entries: Mutex<Vec<Entry>>,
}

impl Dealers {
    /// Opens the list at `path`, which need not be there yet.
    ///
    /// # Errors
    /// [`DealerError::Sealed`], [`DealerError::Codec`].
    pub fn open(path: &Path, key: &StorageKey) -> Result<Self, DealerError> {
        let entries = match read_sealed(path, key, PURPOSE)? {
            Some(bytes) => List::from_bytes(&bytes)?.0,
            None => Vec::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            storage: key.clone(),
            hashing: key.derive("tally/dealer-keys/v1"),
            entries: Mutex::new(entries),
        })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // The list is replaced as a whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mac(&self, key: &str) -> [u8; 32] {
        self.hashing.mac(&[key.as_bytes()])
    }

    /// Makes the new list durable, then takes it over.
    fn save(&self, entries: &mut Vec<Entry>, new: Vec<Entry>) -> Result<(), DealerError> {
        let new = List(new);
        write_sealed(&self.path, &self.storage, PURPOSE, &new.to_bytes())?;
        *entries = new.0;
        Ok(())
    }

    /// Adds a dealer and gives its key, which is not kept and cannot be told again; or takes over `key`, which another gateway of the member
    /// made. The key is secret. Writes to the disk.
    ///
    /// # Errors
    /// [`DealerError`].
    pub fn add(
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
        let is_key = key.strip_prefix(PREFIX).is_some_and(|digits| {
            digits.len() == 64
                && digits
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if !is_key {
            return Err(DealerError::Key);
        }
        let mut entries = self.entries();
        if entries.iter().any(|e| e.dealer.name == name) {
            return Err(DealerError::Known {
                name: name.to_owned(),
            });
        }
        if entries.len() >= MAX_DEALERS {
            return Err(DealerError::Full { max: MAX_DEALERS });
        }
        let mut new = entries.clone();
        new.push(Entry {
            dealer: Dealer {
                name: name.to_owned(),
                since_ms: now_ms,
            },
            mac: self.mac(&key),
        });
        self.save(&mut entries, new)?;
        Ok(key)
    }

    /// Removes a dealer: its key is refused from now on. What it said stays. Writes to the disk.
    ///
    /// # Errors
    /// [`DealerError::NotKnown`], [`DealerError::Sealed`].
    pub fn remove(&self, name: &str) -> Result<(), DealerError> {
        let mut entries = self.entries();
        let mut new = entries.clone();
        new.retain(|e| e.dealer.name != name);
        if new.len() == entries.len() {
            return Err(DealerError::NotKnown {
                name: name.to_owned(),
            });
        }
        self.save(&mut entries, new)
    }

    /// All of them, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> Vec<Dealer> {
        self.entries().iter().map(|e| e.dealer.clone()).collect()
    }

    /// The name of whoever has this key; in time that does not depend on how much of the key is right.
    #[must_use]
    pub fn name_of(&self, key: &str) -> Option<String> {
        let mac = self.mac(key);
        let mut found = None;
        for entry in self.entries().iter() {
            if bool::from(entry.mac.ct_eq(&mac)) {
                found = Some(entry.dealer.name.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_dealers_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, storage) = (dir.path().join("dealers"), StorageKey::from_bytes([3; 32]));
        let dealers = Dealers::open(&path, &storage).unwrap();
        let shop = dealers.add(" Corner shop ", None, 7).unwrap();
        let other = dealers.add("仓库", None, 8).unwrap();
        assert_ne!(*shop, *other);
        assert!(matches!(
            dealers.add("Corner shop", None, 9),
            Err(DealerError::Known { .. })
        ));
        for bad in ["", " ", "a\nb", &"x".repeat(65)] {
            assert!(matches!(dealers.add(bad, None, 9), Err(DealerError::Name)));
        }
        for bad in ["", "dealer-", &shop[..70], &shop.to_uppercase()] {
            assert!(matches!(
                dealers.add("new", Some(bad), 9),
                Err(DealerError::Key)
            ));
        }
        // After a restart, and at another gateway that was given the same key.
        drop(dealers);
        let dealers = Dealers::open(&path, &storage).unwrap();
        assert_eq!(dealers.name_of(&shop).as_deref(), Some("Corner shop"));
        assert_eq!(dealers.name_of(&other).as_deref(), Some("仓库"));
        assert_eq!(dealers.name_of(&shop[..70]), None);
        assert_eq!(dealers.list()[0].since_ms, 7);
        let second = Dealers::open(&dir.path().join("second"), &StorageKey::from_bytes([4; 32]));
        let second = second.unwrap();
        second.add("Corner shop", Some(&shop), 9).unwrap();
        assert_eq!(second.name_of(&shop).as_deref(), Some("Corner shop"));
        // The file shows no key and no name.
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"Corner"));
        dealers.remove("Corner shop").unwrap();
        assert_eq!(dealers.name_of(&shop), None);
        assert!(matches!(
            dealers.remove("Corner shop"),
            Err(DealerError::NotKnown { .. })
        ));
        assert_eq!(Dealers::open(&path, &storage).unwrap().list().len(), 1);
        assert!(Dealers::open(&path, &StorageKey::from_bytes([9; 32])).is_err());
    }
}
