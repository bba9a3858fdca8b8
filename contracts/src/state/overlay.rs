//! Writes on top of a state, in the order of their keys.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Effects, Pair, StateError, StateRead};
use crate::codec::Canonical;

/// A state with writes that are not in it yet.
#[derive(Clone)]
pub struct Overlay<'a> {
    base: &'a (dyn StateRead + 'a),
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    /// No writes yet.
    #[must_use]
    pub fn new(base: &'a dyn StateRead) -> Self {
        Self {
            base,
            writes: BTreeMap::new(),
        }
    }

    /// Writes a typed value.
    pub fn put<T: Canonical>(&mut self, key: Vec<u8>, value: &T) {
        self.set(key, Some(value.to_bytes()));
    }

    /// Writes bytes, or removes.
    pub fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.writes.insert(key, value);
    }

    /// Takes over the effects of a record.
    pub fn absorb(&mut self, effects: Effects) {
        self.writes.extend(effects);
    }

    /// The writes, ascending by key.
    #[must_use]
    pub fn into_effects(self) -> Effects {
        self.writes.into_iter().collect()
    }
}

impl StateRead for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        let mut found: BTreeMap<_, _> = self.base.scan(prefix)?.into_iter().collect();
        for (key, value) in from(&self.writes, prefix) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found.into_iter().collect())
    }
}

/// The entries of a map whose keys start with `prefix`.
fn from<'a, T>(
    map: &'a BTreeMap<Vec<u8>, T>,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a T)> {
    map.range(prefix.to_vec()..)
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// A state that is asked once for each value that is there: a block's records ask for the rules, their members and their keys
/// again and again, and the answer cannot change beneath a block.
pub(crate) struct Remembering<'a> {
    base: &'a dyn StateRead,
    values: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl<'a> Remembering<'a> {
    /// Nothing is known yet.
    pub(crate) const fn new(base: &'a dyn StateRead) -> Self {
        Self {
            base,
            values: RefCell::new(BTreeMap::new()),
        }
    }
}

impl StateRead for Remembering<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(value) = self.values.borrow().get(key) {
            return Ok(Some(value.clone()));
        }
        // What is not there is mostly asked for once: a new product, a new batch.
        let value = self.base.get(key)?;
        if let Some(value) = &value {
            let mut values = self.values.borrow_mut();
            values.insert(key.to_vec(), value.clone());
        }
        Ok(value)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        self.base.scan(prefix)
    }
}

/// A state in memory: for tests, tools and a verifier that holds a few values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryState {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out effects.
    pub fn apply(&mut self, effects: Effects) {
        for (key, value) in effects {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }

    /// Every key and value, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values
            .iter()
            .map(|(k, v)| (k.as_slice(), v.as_slice()))
    }
}

impl StateRead for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.values.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        Ok(from(&self.values, prefix)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}
