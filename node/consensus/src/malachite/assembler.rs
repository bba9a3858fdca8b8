//! Puts parts together again, in bounded memory: only parts that a validator signed for, at most [`MAX_OPEN_PER_SENDER`]
//! blocks for each, and [`MAX_OPEN_BYTES`] in all.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};
use tally_contracts::ids::{BlockHash, NetworkId, PublicKey};

use super::parts::{Part, PartsHeader};

/// Blocks under way that one validator may have here; the oldest gives way.
pub(crate) const MAX_OPEN_PER_SENDER: usize = 4;
/// Bytes of all blocks under way; the sender that holds most gives way.
pub(crate) const MAX_OPEN_BYTES: usize = 64 * 1024 * 1024;
/// Header signatures remembered as good.
const MAX_SEEN_HEADERS: usize = 1024;
/// Bodies remembered as done with.
const MAX_SEEN_BODIES: usize = 1024;

/// A block whose parts have all come.
#[derive(Debug, Clone)]
pub(crate) struct Assembled {
    /// [`PartsHeader::body_id`].
    pub(crate) id: [u8; 32],
    pub(crate) height: u64,
    pub(crate) round: u32,
    pub(crate) pol_round: Option<u32>,
    pub(crate) block: BlockHash,
    pub(crate) sender: PublicKey,
    pub(crate) body: Vec<u8>,
}

/// What became of a part.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The block is whole.
    Complete(Assembled),
    /// Kept, more is missing.
    Incomplete,
    /// Already there.
    Known,
    /// Not signed by a validator, or its bytes are not those signed for.
    Refused(&'static str),
}

struct Open {
    age: u64,
    height: u64,
    round: u32,
    pol_round: Option<u32>,
    block: BlockHash,
    sender: PublicKey,
    parts: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

/// Blocks under way.
pub(crate) struct Assembler {
    network: NetworkId,
    open: HashMap<[u8; 32], Open>,
    good_headers: HashSet<[u8; 32]>,
    done: HashSet<[u8; 32]>,
    bytes: usize,
    age: u64,
}

impl Assembler {
    pub(crate) fn new(network: NetworkId) -> Self {
        Self {
            network,
            open: HashMap::new(),
            good_headers: HashSet::new(),
            done: HashSet::new(),
            bytes: 0,
            age: 0,
        }
    }

    /// Takes a part from the network. `is_validator` says who may send.
    pub(crate) fn insert(
        &mut self,
        part: Part,
        is_validator: impl Fn(&PublicKey) -> bool,
    ) -> Outcome {
        let header = &part.header;
        if !is_validator(&header.sender) {
            return Outcome::Refused("sender is not a validator");
        }
        if !self.header_is_good(&part) {
            return Outcome::Refused("header signature does not verify");
        }
        let id = header.body_id();
        if self.done.contains(&id) {
            return Outcome::Known;
        }
        let index = part.index as usize;
        if let Some(open) = self.open.get(&id)
            && open.parts.get(index).is_some_and(Option::is_some)
        {
            return Outcome::Known;
        }
        if !part.data_matches() {
            return Outcome::Refused("part is not the one signed for");
        }
        if !self.open.contains_key(&id) {
            self.make_room_for_sender(&header.sender);
            self.age += 1;
            self.open.insert(id, Open::new(self.age, header));
        }
        let Some(open) = self.open.get_mut(&id) else {
            return Outcome::Refused("no room");
        };
        let Some(slot) = open.parts.get_mut(index) else {
            return Outcome::Refused("no such part");
        };
        open.bytes += part.data.len();
        self.bytes += part.data.len();
        *slot = Some(part.data);
        if open.parts.iter().any(Option::is_none) {
            self.make_room_in_all(&id);
            return Outcome::Incomplete;
        }
        match self.remove(&id) {
            None => Outcome::Incomplete,
            Some(open) => {
                self.remember_done(id);
                Outcome::Complete(open.into_assembled(id))
            }
        }
    }

    /// Takes a body once more when it comes again.
    pub(crate) fn take_again(&mut self, id: &[u8; 32]) {
        self.done.remove(id);
    }

    /// Drops what is for `height` or below.
    pub(crate) fn forget_through(&mut self, height: u64) {
        let gone: Vec<[u8; 32]> = self
            .open
            .iter()
            .filter(|(_, open)| open.height <= height)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.remove(&id);
        }
        self.good_headers.clear();
        self.done.clear();
    }

    fn header_is_good(&mut self, part: &Part) -> bool {
        let mut hasher = Sha256::new();
        hasher.update(part.header.body_id());
        hasher.update(part.header.round.to_be_bytes());
        hasher.update(part.header.pol_round.map_or([0xff; 4], u32::to_be_bytes));
        hasher.update(part.header.sender.0);
        hasher.update(part.signature.0);
        let id: [u8; 32] = hasher.finalize().into();
        if self.good_headers.contains(&id) {
            return true;
        }
        if !part.header_is_signed(&self.network) {
            return false;
        }
        if self.good_headers.len() >= MAX_SEEN_HEADERS {
            self.good_headers.clear();
        }
        self.good_headers.insert(id);
        true
    }

    fn remember_done(&mut self, id: [u8; 32]) {
        if self.done.len() >= MAX_SEEN_BODIES {
            self.done.clear();
        }
        self.done.insert(id);
    }

    fn make_room_for_sender(&mut self, sender: &PublicKey) {
        while self.open.values().filter(|o| o.sender == *sender).count() >= MAX_OPEN_PER_SENDER {
            self.remove_oldest_of(sender, None);
        }
    }

    fn make_room_in_all(&mut self, keep: &[u8; 32]) {
        while self.bytes > MAX_OPEN_BYTES {
            let mut held: BTreeMap<PublicKey, usize> = BTreeMap::new();
            for (id, open) in &self.open {
                if id != keep {
                    *held.entry(open.sender).or_default() += open.bytes;
                }
            }
            let Some((sender, _)) = held.into_iter().max_by_key(|(_, bytes)| *bytes) else {
                return;
            };
            self.remove_oldest_of(&sender, Some(keep));
        }
    }

    fn remove_oldest_of(&mut self, sender: &PublicKey, keep: Option<&[u8; 32]>) {
        let oldest = self
            .open
            .iter()
            .filter(|(id, open)| open.sender == *sender && Some(*id) != keep)
            .min_by_key(|(_, open)| open.age)
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.remove(&id);
        }
    }

    fn remove(&mut self, id: &[u8; 32]) -> Option<Open> {
        let open = self.open.remove(id)?;
        self.bytes = self.bytes.saturating_sub(open.bytes);
        Some(open)
    }
}

impl Open {
    fn new(age: u64, header: &PartsHeader) -> Self {
        Self {
            age,
            height: header.height,
            round: header.round,
            pol_round: header.pol_round,
            block: header.block,
            sender: header.sender,
            parts: vec![None; header.part_hashes.len()],
            bytes: 0,
        }
    }

    fn into_assembled(self, id: [u8; 32]) -> Assembled {
        Assembled {
            id,
            height: self.height,
            round: self.round,
            pol_round: self.pol_round,
            block: self.block,
            sender: self.sender,
            body: self.parts.into_iter().flatten().flatten().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use malachitebft_app_channel::app::types::core::Round;

    use super::super::parts::{MAX_PARTS, PART_BYTES, cut};
    use super::super::signing::Keys;
    use super::*;
    use crate::config::Secret;

    const NETWORK: NetworkId = NetworkId([1; 32]);

    fn parts(keys: &Keys, body: &[u8]) -> Vec<Part> {
        cut(keys, 7, 0, Round::Nil, BlockHash([2; 32]), body).unwrap()
    }

    fn keys(seed: u8) -> Keys {
        Keys::new(&Secret::new([seed; 32]), NETWORK)
    }

    #[test]
    fn any_order_and_repeats() {
        let body: Vec<u8> = (0..=250).cycle().take(PART_BYTES * 2 + 5).collect();
        let mut parts = parts(&keys(1), &body);
        parts.reverse();
        let mut assembler = Assembler::new(NETWORK);
        let last = parts.pop().unwrap();
        for part in &parts {
            assert!(matches!(
                assembler.insert(part.clone(), |_| true),
                Outcome::Incomplete
            ));
            assert!(matches!(
                assembler.insert(part.clone(), |_| true),
                Outcome::Known
            ));
        }
        match assembler.insert(last.clone(), |_| true) {
            Outcome::Complete(whole) => assert_eq!(whole.body, body),
            other => panic!("{other:?}"),
        }
        assert_eq!(assembler.bytes, 0);
        assert!(matches!(assembler.insert(last, |_| true), Outcome::Known));
    }

    #[test]
    fn refuses_what_is_not_signed_for() {
        let part = parts(&keys(1), b"block").remove(0);
        let mut assembler = Assembler::new(NETWORK);
        assert!(matches!(
            assembler.insert(part.clone(), |_| false),
            Outcome::Refused(_)
        ));
        let mut other = part.clone();
        other.data[0] ^= 1;
        assert!(matches!(
            assembler.insert(other, |_| true),
            Outcome::Refused(_)
        ));
        let mut forged = part.clone();
        forged.signature.0[0] ^= 1;
        assert!(matches!(
            assembler.insert(forged, |_| true),
            Outcome::Refused(_)
        ));
        let mut elsewhere = Assembler::new(NetworkId([9; 32]));
        assert!(matches!(
            elsewhere.insert(part.clone(), |_| true),
            Outcome::Refused(_)
        ));
        assert!(matches!(
            assembler.insert(part, |_| true),
            Outcome::Complete(_)
        ));
    }

    #[test]
    fn memory_is_bounded() {
        let mut assembler = Assembler::new(NETWORK);
        for n in 0..20u8 {
            let mut body = vec![n; PART_BYTES * MAX_PARTS];
            body[0] = n;
            let mut all = parts(&keys(1), &body);
            all.pop();
            for part in all {
                assembler.insert(part, |_| true);
            }
            assert!(assembler.open.len() <= MAX_OPEN_PER_SENDER);
        }
        for sender in 0..40u8 {
            let mut all = parts(&keys(sender), &vec![sender; PART_BYTES * MAX_PARTS]);
            all.pop();
            for part in all {
                assembler.insert(part, |_| true);
            }
            assert!(assembler.bytes <= MAX_OPEN_BYTES);
        }
        let held: usize = assembler.open.values().map(|o| o.bytes).sum();
        assert_eq!(held, assembler.bytes);
        assembler.forget_through(7);
        assert_eq!((assembler.open.len(), assembler.bytes), (0, 0));
    }
}
