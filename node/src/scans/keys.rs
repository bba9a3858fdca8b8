//! Idempotency keys: which request was answered by which scan.

use std::collections::{HashMap, VecDeque};

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

/// Keyed hashes, under the node's own secret, of an idempotency key and of the request that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUse {
    pub(super) key: [u8; 16],
    pub(super) request: [u8; 16],
}

impl Canonical for KeyUse {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.key).raw(&self.request);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            key: r.array("idempotency key")?,
            request: r.array("request hash")?,
        })
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    New,
    Answered { index: u64 },
    OtherRequest,
}

/// The keys of late; the oldest are forgotten past a number or an age.
#[derive(Debug)]
pub(super) struct IdempotencyKeys {
    uses: HashMap<[u8; 16], ([u8; 16], u64)>,
    order: VecDeque<(u64, [u8; 16])>,
    max: usize,
    max_age_ms: u64,
}

impl IdempotencyKeys {
    pub(super) fn new(max: usize, max_age_ms: u64) -> Self {
        Self {
            uses: HashMap::new(),
            order: VecDeque::new(),
            max,
            max_age_ms,
        }
    }

    pub(super) fn state(&self, used: &KeyUse) -> KeyState {
        match self.uses.get(&used.key) {
            None => KeyState::New,
            Some((request, index)) if *request == used.request => {
                KeyState::Answered { index: *index }
            }
            Some(_) => KeyState::OtherRequest,
        }
    }

    pub(super) fn insert(&mut self, used: &KeyUse, index: u64, now_ms: u64) {
        if self.uses.insert(used.key, (used.request, index)).is_none() {
            self.order.push_back((now_ms, used.key));
        }
        while let Some((time, key)) = self.order.front() {
            let old = now_ms.saturating_sub(*time) > self.max_age_ms;
            if self.order.len() <= self.max && !old {
                break;
            }
            self.uses.remove(key);
            self.order.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(key: u8, request: u8) -> KeyUse {
        KeyUse {
            key: [key; 16],
            request: [request; 16],
        }
    }

    #[test]
    fn keys_are_kept_up_to_a_number_and_an_age() {
        let mut keys = IdempotencyKeys::new(2, 100);
        keys.insert(&used(1, 1), 10, 0);
        assert_eq!(keys.state(&used(1, 1)), KeyState::Answered { index: 10 });
        assert_eq!(keys.state(&used(1, 2)), KeyState::OtherRequest);
        keys.insert(&used(2, 1), 11, 50);
        keys.insert(&used(3, 1), 12, 60);
        assert_eq!(keys.state(&used(1, 1)), KeyState::New);
        assert_eq!(keys.state(&used(2, 1)), KeyState::Answered { index: 11 });
        keys.insert(&used(4, 1), 13, 155);
        assert_eq!(keys.state(&used(2, 1)), KeyState::New);
        assert_eq!(keys.len(), 2);
    }
}
