//! Which blocks of the height being decided more than two thirds of the validators have prevoted for in some round (a polka).
//!
//! A block's time is judged once, by those who see it fresh. A block that was locked may be proposed again much later, and then a
//! validator that never saw it cannot judge its time by its own clock any more: if it refused, nothing could be decided without it,
//! ever. It need not judge: among more than two thirds are validators that did, and were right.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use malachitebft_app_channel::app::types::core::{
    NilOrVal, Validator, ValidatorSet as _, VoteType,
};
use tally_contracts::ids::{BlockHash, PublicKey};

use super::context::{Address, ValidatorSet, Value, Vote};

/// Prevotes of one validator that are kept: a liar can displace its own alone.
const MAX_VOTES: usize = 64;

/// What the verifier has found good, shared with the driver.
#[derive(Clone, Default)]
pub(crate) struct Polkas(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    height: u64,
    set: Option<ValidatorSet>,
    /// Round and block of each validator's prevotes, the newest last.
    votes: BTreeMap<PublicKey, VecDeque<(u32, BlockHash)>>,
    blocks: BTreeSet<BlockHash>,
}

impl Polkas {
    /// From now on it is about this height, decided by these validators.
    pub(crate) fn start(&self, height: u64, set: &ValidatorSet) {
        let mut noted = self.lock();
        if noted.height != height || noted.set.as_ref() != Some(set) {
            *noted = Noted {
                height,
                set: Some(set.clone()),
                ..Noted::default()
            };
        }
    }

    /// Notes a vote whose signature was verified to be of `key`.
    pub(crate) fn note(&self, vote: &Vote, key: &PublicKey) {
        let (VoteType::Prevote, NilOrVal::Val(Value(block)), Some(round)) =
            (vote.kind, &vote.value, vote.round.as_u32())
        else {
            return;
        };
        let mut noted = self.lock();
        if vote.height.0 != noted.height || vote.address != Address(*key) {
            return;
        }
        noted.add(*key, round, *block);
    }

    /// Whether a block of this height has had a polka.
    pub(crate) fn has(&self, height: u64, block: &BlockHash) -> bool {
        let noted = self.lock();
        noted.height == height && noted.blocks.contains(block)
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn add(&mut self, key: PublicKey, round: u32, block: BlockHash) {
        let Some(set) = &self.set else {
            return;
        };
        if !set.contains(&key) {
            return;
        }
        let votes = self.votes.entry(key).or_default();
        if votes.contains(&(round, block)) {
            return;
        }
        votes.push_back((round, block));
        if votes.len() > MAX_VOTES {
            votes.pop_front();
        }
        let power: u64 = self
            .votes
            .iter()
            .filter(|(_, votes)| votes.contains(&(round, block)))
            .filter_map(|(key, _)| set.get_by_address(&Address(*key)))
            .map(Validator::voting_power)
            .sum();
        // The set sees to it that three times its power is a number.
        if power * 3 > set.total_voting_power() * 2 {
            self.blocks.insert(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use malachitebft_app_channel::app::types::core::Round;

    use super::super::context::Height;
    use super::*;
    use crate::application;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn set(powers: &[u64]) -> ValidatorSet {
        let validators: Vec<application::Validator> = (1u8..)
            .zip(powers)
            .map(|(n, power)| application::Validator {
                key: key(n),
                power: *power,
            })
            .collect();
        ValidatorSet::new(&validators).unwrap()
    }

    fn prevote(by: u8, height: u64, round: u32, block: Option<u8>) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height: Height(height),
            round: Round::new(round),
            value: block.map_or(NilOrVal::Nil, |b| NilOrVal::Val(Value(BlockHash([b; 32])))),
            address: Address(key(by)),
        }
    }

    #[test]
    fn more_than_two_thirds_of_one_round_make_one() {
        let polkas = Polkas::default();
        let block = BlockHash([9; 32]);
        polkas.start(5, &set(&[1, 1, 1, 1]));
        let note = |by: u8, vote: Vote| polkas.note(&vote, &key(by));
        // Twice by one, nil, another round, height or block, a precommit, by nobody, under another's name.
        note(1, prevote(1, 5, 0, Some(9)));
        note(1, prevote(1, 5, 0, Some(9)));
        note(2, prevote(2, 5, 0, None));
        note(2, prevote(2, 5, 1, Some(9)));
        note(3, prevote(3, 6, 0, Some(9)));
        note(3, prevote(3, 5, 0, Some(8)));
        note(
            3,
            Vote {
                kind: VoteType::Precommit,
                ..prevote(3, 5, 0, Some(9))
            },
        );
        note(7, prevote(7, 5, 0, Some(9)));
        note(4, prevote(3, 5, 0, Some(9)));
        note(2, prevote(2, 5, 0, Some(9)));
        assert!(!polkas.has(5, &block));
        note(4, prevote(4, 5, 0, Some(9)));
        assert!(polkas.has(5, &block));
        assert!(!polkas.has(6, &block) && !polkas.has(5, &BlockHash([8; 32])));
        polkas.start(5, &set(&[1, 1, 1, 1]));
        assert!(polkas.has(5, &block), "the same height goes on");
        polkas.start(6, &set(&[1, 1, 1, 1]));
        assert!(!polkas.has(5, &block) && !polkas.has(6, &block));
    }

    #[test]
    fn power_counts_and_a_liar_displaces_its_own_votes_alone() {
        let polkas = Polkas::default();
        polkas.start(1, &set(&[5, 2, 2, 1]));
        polkas.note(&prevote(2, 1, 0, Some(9)), &key(2));
        polkas.note(&prevote(3, 1, 0, Some(9)), &key(3));
        for round in 0..1_000 {
            polkas.note(&prevote(4, 1, round, Some(9)), &key(4));
        }
        assert!(!polkas.has(1, &BlockHash([9; 32])), "5 of 10");
        polkas.note(&prevote(1, 1, 0, Some(9)), &key(1));
        assert!(polkas.has(1, &BlockHash([9; 32])), "9 of 10");
        let noted = polkas.lock();
        assert!(noted.votes.values().all(|votes| votes.len() <= MAX_VOTES));
    }
}
