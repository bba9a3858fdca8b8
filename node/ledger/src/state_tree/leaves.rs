//! The leaves of a whole state by the first byte of their key hashes; past a bound they wait in files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tally_contracts::tree::{key_hash, value_hash};
use tally_merkle::Hash;

use crate::error::{Error, IoContext};
use crate::files::make_dir;

/// Leaves in memory, 64 bytes each.
pub(super) const IN_MEMORY: usize = 1 << 20;
const LEAF_BYTES: usize = 64;

pub(super) struct Gathered {
    dir: PathBuf,
    parts: Vec<Vec<(Hash, Hash)>>,
    held: usize,
    spilled: bool,
}

impl Gathered {
    pub(super) fn begin(dir: &Path) -> Result<Self, Error> {
        let gathered = Self {
            dir: dir.to_owned(),
            parts: vec![Vec::new(); 256],
            held: 0,
            spilled: false,
        };
        gathered.clear()?;
        Ok(gathered)
    }

    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let key = key_hash(key);
        let first = key.0.first().copied().unwrap_or_default();
        if let Some(part) = self.parts.get_mut(usize::from(first)) {
            part.push((key, value_hash(value)));
        }
        self.held += 1;
        if self.held >= IN_MEMORY {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Error> {
        make_dir(&self.dir)?;
        self.spilled = true;
        self.held = 0;
        for (first, part) in (0..=u8::MAX).zip(&mut self.parts) {
            let path = part_path(&self.dir, first);
            let bytes: Vec<u8> = part
                .drain(..)
                .flat_map(|(key, value)| [key.0, value.0])
                .flatten()
                .collect();
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(&bytes))
                .on("write", &path)?;
        }
        Ok(())
    }

    /// The leaves whose key hashes start with a byte; they are not kept.
    pub(super) fn take(&mut self, first: u8) -> Result<Vec<(Hash, Hash)>, Error> {
        let mut part = self
            .parts
            .get_mut(usize::from(first))
            .map(std::mem::take)
            .unwrap_or_default();
        if self.spilled {
            let path = part_path(&self.dir, first);
            let bytes = fs::read(&path).on("read", &path)?;
            let (leaves, _) = bytes.as_chunks::<LEAF_BYTES>();
            part.extend(leaves.iter().map(|leaf| {
                let (mut key, mut value) = ([0; 32], [0; 32]);
                key.copy_from_slice(&leaf[..32]);
                value.copy_from_slice(&leaf[32..]);
                (Hash(key), Hash(value))
            }));
        }
        Ok(part)
    }

    pub(super) fn end(self) -> Result<(), Error> {
        self.clear()
    }

    fn clear(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.on("remove", &self.dir),
        }
    }
}

fn part_path(dir: &Path, first: u8) -> PathBuf {
    dir.join(format!("{first:02x}"))
}
