//! The record pool: records that are signed but not ordered yet. Bounded per member and in all; it holds no clock and does no
//! input or output.

use std::collections::{BTreeMap, HashMap};

use tally_contracts::Record;
use tally_contracts::block::MAX_ENTRY_BYTES;
use tally_contracts::ids::{KeyId, MemberId, RecordId};

/// Bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Records in all.
    pub max_records: usize,
    /// Bytes of all records.
    pub max_bytes: usize,
    /// Records of one member (its first signer's).
    pub max_member_records: usize,
    /// Bytes of the records of one member.
    pub max_member_bytes: usize,
    /// How far ahead of the ledger a key's nonce may be.
    pub max_ahead: u64,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_records: 50_000,
            max_bytes: 64 << 20,
            max_member_records: 12_500,
            max_member_bytes: 16 << 20,
            max_ahead: 16_384,
        }
    }
}

impl PoolLimits {
    /// Bounds in all, of which a member may use a quarter: a flood by one leaves room for the others.
    #[must_use]
    pub fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            max_records,
            max_bytes,
            max_member_records: max_records.div_ceil(4),
            max_member_bytes: (max_bytes / 4).max(MAX_ENTRY_BYTES),
            ..Self::default()
        }
    }
}

/// Why the pool does not take a record now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No room; try again when blocks have been committed.
    #[error("the record pool is full ({what}: {used} of {max} bytes); try again shortly")]
    Full {
        /// Whose bound.
        what: &'static str,
        /// Bytes used.
        used: usize,
        /// The bound.
        max: usize,
    },
    /// No room for one more record; try again when blocks have been committed.
    #[error("the record pool is full ({what}: {max} records); try again shortly")]
    TooMany {
        /// Whose bound.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Another record of the same key and nonce is waiting.
    #[error("another record with nonce {nonce} of key {key} is already waiting")]
    NonceTaken {
        /// The key.
        key: KeyId,
        /// The nonce.
        nonce: u64,
    },
    /// The nonce is too far ahead of the ledger.
    #[error("nonce {nonce} of key {key} is more than {max} ahead of the ledger's {expected}")]
    TooFarAhead {
        /// The key.
        key: KeyId,
        /// The nonce.
        nonce: u64,
        /// What the ledger expects next.
        expected: u64,
        /// The bound.
        max: u64,
    },
}

struct Pending {
    record: Record,
    member: MemberId,
    /// Whether this node is to announce it until it is committed.
    announce: bool,
    added_ms: u64,
}

/// Records waiting to be ordered.
pub(super) struct Pool {
    limits: PoolLimits,
    records: HashMap<RecordId, Pending>,
    by_nonce: BTreeMap<(KeyId, u64), RecordId>,
    /// Keys with waiting records, each with its member and how many they are.
    keys: BTreeMap<KeyId, (MemberId, usize)>,
    bytes: usize,
    /// Records and bytes of each member that has any waiting.
    members: HashMap<MemberId, (usize, usize)>,
}

/// The member whose share of the pool a record takes.
fn first_member(record: &Record) -> MemberId {
    let first = record.signers().first();
    first.map_or(MemberId([0; 16]), |s| s.member)
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            records: HashMap::new(),
            by_nonce: BTreeMap::new(),
            keys: BTreeMap::new(),
            bytes: 0,
            members: HashMap::new(),
        }
    }

    /// Records waiting.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of the records waiting.
    #[must_use]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this record waits already.
    #[must_use]
    pub(super) fn contains(&self, id: &RecordId) -> bool {
        self.records.contains_key(id)
    }

    /// Whether the nonce of that key is taken by a waiting record.
    #[must_use]
    pub(super) fn has_nonce(&self, key: &KeyId, nonce: u64) -> bool {
        self.by_nonce.contains_key(&(*key, nonce))
    }

    /// Whether there is room for a record, and nothing in the place of its nonces: costs less to ask than to verify it.
    ///
    /// # Errors
    /// [`PoolError`].
    pub(super) fn check(
        &self,
        record: &Record,
        mut expected: impl FnMut(&MemberId, &KeyId) -> u64,
    ) -> Result<(), PoolError> {
        for signer in record.signers() {
            if self.has_nonce(&signer.key, signer.nonce) {
                return Err(PoolError::NonceTaken {
                    key: signer.key,
                    nonce: signer.nonce,
                });
            }
            let next = expected(&signer.member, &signer.key);
            if signer.nonce > next.saturating_add(self.limits.max_ahead) {
                return Err(PoolError::TooFarAhead {
                    key: signer.key,
                    nonce: signer.nonce,
                    expected: next,
                    max: self.limits.max_ahead,
                });
            }
        }
        let size = record.bytes().len();
        let (records, bytes) = self
            .members
            .get(&first_member(record))
            .copied()
            .unwrap_or_default();
        for (what, used, max) in [
            ("this member", records, self.limits.max_member_records),
            ("all members", self.records.len(), self.limits.max_records),
        ] {
            if used >= max {
                return Err(PoolError::TooMany { what, max });
            }
        }
        for (what, used, max) in [
            ("this member", bytes, self.limits.max_member_bytes),
            ("all members", self.bytes, self.limits.max_bytes),
        ] {
            if used.saturating_add(size) > max {
                return Err(PoolError::Full { what, used, max });
            }
        }
        Ok(())
    }

    /// Adds a record whose signatures are verified. `expected` gives a key's next nonce by the ledger.
    ///
    /// # Errors
    /// [`PoolError`]; a record that waits already is not an error and answers `false`.
    pub(super) fn add(
        &mut self,
        record: Record,
        announce: bool,
        now_ms: u64,
        expected: impl FnMut(&MemberId, &KeyId) -> u64,
    ) -> Result<bool, PoolError> {
        let id = record.id();
        if let Some(pending) = self.records.get_mut(&id) {
            pending.announce |= announce;
            return Ok(false);
        }
        self.check(&record, expected)?;
        let (size, member) = (record.bytes().len(), first_member(&record));
        for signer in record.signers() {
            self.by_nonce.insert((signer.key, signer.nonce), id);
            self.keys.entry(signer.key).or_insert((signer.member, 0)).1 += 1;
        }
        self.bytes += size;
        let (records, bytes) = self.members.entry(member).or_default();
        *records += 1;
        *bytes += size;
        self.records.insert(
            id,
            Pending {
                record,
                member,
                announce,
                added_ms: now_ms,
            },
        );
        Ok(true)
    }

    /// Takes a record out.
    pub(super) fn remove(&mut self, id: &RecordId) -> Option<Record> {
        let pending = self.records.remove(id)?;
        for signer in pending.record.signers() {
            self.by_nonce.remove(&(signer.key, signer.nonce));
            if let Some((_, count)) = self.keys.get_mut(&signer.key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.keys.remove(&signer.key);
                }
            }
        }
        let size = pending.record.bytes().len();
        self.bytes = self.bytes.saturating_sub(size);
        if let Some((records, bytes)) = self.members.get_mut(&pending.member) {
            *records = records.saturating_sub(1);
            *bytes = bytes.saturating_sub(size);
            if *records == 0 {
                self.members.remove(&pending.member);
            }
        }
        Some(pending.record)
    }

    /// Each waiting key's next nonce by the ledger, asked once a key.
    fn expected(&self, expected: &impl Fn(&MemberId, &KeyId) -> u64) -> BTreeMap<KeyId, u64> {
        self.keys
            .iter()
            .map(|(key, (member, _))| (*key, expected(member, key)))
            .collect()
    }

    /// Records in an order that keeps every key's nonces gapless, within the bounds of a block. Keys take turns, so that a
    /// flood by one member does not starve another.
    #[must_use]
    pub(super) fn candidates(
        &self,
        max_records: usize,
        max_bytes: usize,
        expected: impl Fn(&MemberId, &KeyId) -> u64,
    ) -> Vec<Record> {
        // Each key's waiting nonces, in order, as far as they have no gap.
        let mut next = self.expected(&expected);
        let keys: Vec<KeyId> = next.keys().copied().collect();
        let mut chosen = Vec::new();
        let mut bytes = 0_usize;
        loop {
            let before = chosen.len();
            for key in &keys {
                let Some(nonce) = next.get(key).copied() else {
                    continue;
                };
                let Some(pending) = self
                    .by_nonce
                    .get(&(*key, nonce))
                    .and_then(|id| self.records.get(id))
                else {
                    continue;
                };
                let record = &pending.record;
                if !record
                    .signers()
                    .iter()
                    .all(|s| next.get(&s.key) == Some(&s.nonce))
                {
                    continue;
                }
                // 4 bytes of length each in the block's body.
                let size = record.bytes().len() + 4;
                if chosen.len() >= max_records || bytes + size > max_bytes {
                    return chosen;
                }
                bytes += size;
                for s in record.signers() {
                    next.insert(s.key, s.nonce.saturating_add(1));
                }
                chosen.push(record.clone());
            }
            if chosen.len() == before {
                return chosen;
            }
        }
    }

    /// Drops what can never be committed any more: nonces that the ledger has passed, and records past their time. Returns
    /// their IDs with whether the nonce was the reason.
    pub(super) fn drop_stale(
        &mut self,
        block_time_ms: u64,
        expected: impl Fn(&MemberId, &KeyId) -> u64,
    ) -> Vec<(RecordId, bool)> {
        let next = self.expected(&expected);
        let stale: Vec<(RecordId, bool)> = self
            .records
            .iter()
            .filter_map(|(id, p)| {
                let passed = p
                    .record
                    .signers()
                    .iter()
                    .any(|s| next.get(&s.key).is_some_and(|next| s.nonce < *next));
                let late = p.record.unsigned().valid_until_ms < block_time_ms;
                (passed || late).then_some((*id, passed))
            })
            .collect();
        for (id, _) in &stale {
            self.remove(id);
        }
        stale
    }

    /// Records to announce again: this node's own that have waited since before `before_ms`, oldest first, within `max_bytes`.
    #[must_use]
    pub(super) fn to_announce(&self, before_ms: u64, max_bytes: usize) -> Vec<Record> {
        let mut own: Vec<&Pending> = self
            .records
            .values()
            .filter(|p| p.announce && p.added_ms <= before_ms)
            .collect();
        own.sort_by_key(|p| p.added_ms);
        let mut bytes = 0;
        own.into_iter()
            .map(|p| p.record.clone())
            .take_while(|r| {
                bytes += r.bytes().len();
                bytes <= max_bytes
            })
            .collect()
    }
}
