//! Reading the people of a set, one file in memory at a time.

use std::path::PathBuf;

use tally_measure::{Identifier, SALT_BYTES, SaltedEntry};
use tally_psi::{EachValue, ItemSource};
use zeroize::Zeroizing;

use super::{AudienceError, AudienceKey, AudienceMeta};
use crate::bucket_files::storage;
use crate::sealed::{StorageKey, read_sealed};

/// The people of a set in committed order. An error for a file that is missing, cut or changed, or another number of people than
/// described, is the last; what came before is part of the set all the same.
pub struct Entries {
    dir: PathBuf,
    key: StorageKey,
    meta: AudienceMeta,
    /// The file that is read next.
    next: u32,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    seen: u64,
    ended: bool,
}

impl Entries {
    pub(super) fn new(dir: PathBuf, key: StorageKey, meta: AudienceMeta) -> Self {
        Self {
            dir,
            key,
            meta,
            next: 0,
            chunk: Zeroizing::new(Vec::new()),
            at: 0,
            seen: 0,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<SaltedEntry>, AudienceError> {
        while self.at >= self.chunk.len() {
            if self.next >= self.meta.chunks {
                self.ended = true;
                return if self.seen == self.meta.size {
                    Ok(None)
                } else {
                    Err(AudienceError::Damaged {
                        path: self.dir.clone(),
                        what: "another number of people than described",
                    })
                };
            }
            let purpose = purpose(&self.meta.key, self.next);
            let path = self.dir.join(chunk_name(self.next));
            self.chunk =
                read_sealed(&path, &self.key, &purpose)?.ok_or(AudienceError::Damaged {
                    path,
                    what: "missing",
                })?;
            self.at = 0;
            self.next += 1;
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let (entry, tail) = take_entry(rest).ok_or_else(|| AudienceError::Damaged {
            path: self.dir.join(chunk_name(self.next.saturating_sub(1))),
            what: "not a list of people",
        })?;
        self.at += rest.len() - tail.len();
        self.seen += 1;
        Ok(Some(entry))
    }
}

impl Iterator for Entries {
    type Item = Result<SaltedEntry, AudienceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended |= read.is_err();
        read.transpose()
    }
}

impl ItemSource for Entries {
    fn next_values(&mut self, max: usize, each: EachValue<'_>) -> Result<(), tally_psi::Error> {
        for entry in self.by_ref().take(max) {
            each(entry.map_err(storage)?.id.as_bytes())?;
        }
        Ok(())
    }
}

fn take_entry(bytes: &[u8]) -> Option<(SaltedEntry, &[u8])> {
    let (salt, rest) = bytes.split_first_chunk::<SALT_BYTES>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let id = Identifier::from_bytes(value).ok()?;
    Some((SaltedEntry { salt: *salt, id }, rest))
}

pub(super) fn chunk_name(number: u32) -> String {
    format!("people-{number:06}")
}

pub(super) fn purpose(key: &AudienceKey, number: u32) -> String {
    format!("audience/{}/{}/{number}", key.label, key.epoch)
}
