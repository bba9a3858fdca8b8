//! The random oracles of a session, each SHA-256 under its own name, the context digest and the initiator's salt: of items (key
//! and value of the store), of what a lookup gives (tags), of extended transfers, and of checks. The prefix fills a block and is hashed once.

use rayon::prelude::*;
use sha2::digest::consts::U64;
use sha2::digest::generic_array::GenericArray;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::Error;
use crate::item::{ItemSet, MAX_VALUE_BYTES};

type Block = GenericArray<u8, U64>;

/// Initial state of SHA-256 (FIPS 180-4 5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// Blocks of the longest item: its message, then a byte and the length.
const ITEM_BLOCKS: usize = (3 + 2 + MAX_VALUE_BYTES + 9).div_ceil(64);
/// Items hashed together.
const BATCH: usize = 1024;

/// SHA-256 after a first block of a name, the context digest and the salt.
#[derive(Clone, Copy)]
struct Prefixed([u32; 8]);

impl Prefixed {
    fn new(name: &[u8; 16], context: &[u8; 32], salt: u128) -> Self {
        let mut block = Block::default();
        let bytes = name
            .iter()
            .chain(context)
            .copied()
            .chain(salt.to_le_bytes());
        block.iter_mut().zip(bytes).for_each(|(b, v)| *b = v);
        let mut state = INITIAL;
        sha2::compress256(&mut state, &[block]);
        Self(state)
    }

    /// Digest of the prefix and up to 55 bytes.
    fn short(&self, message: &[u8]) -> [u32; 8] {
        let mut block = Block::default();
        block.iter_mut().zip(message).for_each(|(b, v)| *b = *v);
        finish(&mut [block], message.len(), self.0)
    }
}

/// Pads `len` bytes of message in `blocks`, zeros behind them, and compresses. There must be room for 9 bytes more.
fn finish(blocks: &mut [Block], len: usize, mut state: [u32; 8]) -> [u32; 8] {
    blocks[len / 64][len % 64] = 0x80;
    // With the prefix's block.
    let bits = (len as u64 + 64) * 8;
    if let Some(last) = blocks.last_mut() {
        last[56..].copy_from_slice(&bits.to_be_bytes());
    }
    sha2::compress256(&mut state, blocks);
    state
}

/// Four words of a digest as a number whose highest byte is the digest's first.
fn wide(words: &[u32]) -> u128 {
    words
        .iter()
        .take(4)
        .fold(0, |sum, w| sum << 32 | u128::from(*w))
}

/// What a check is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checked {
    /// The challenge to the extension's columns.
    Extension = 1,
    /// The challenge to a block's noise.
    Noise = 2,
    /// The challenge to a block's trees.
    Trees = 3,
    /// The responder's answer for all trees.
    Answer = 4,
    /// The commitment to the responder's part of the coin.
    Coin = 5,
}

/// The session's oracles.
pub(crate) struct Oracles {
    items: Prefixed,
    tags: Prefixed,
    transfers: Prefixed,
    checks: Prefixed,
    /// Key of the row function.
    pub(crate) row_key: u128,
    /// Keys of the trees.
    pub(crate) tree_keys: [u128; 2],
}

impl Oracles {
    pub(crate) fn new(context: &[u8; 32], salt: u128) -> Self {
        let trees = Prefixed::new(b"tally/vole/1/tre", context, salt).short(b"");
        Self {
            tree_keys: [wide(&trees), wide(&trees[4..])],
            items: Prefixed::new(b"tally/vole/1/itm", context, salt),
            tags: Prefixed::new(b"tally/vole/1/tag", context, salt),
            transfers: Prefixed::new(b"tally/vole/1/ote", context, salt),
            checks: Prefixed::new(b"tally/vole/1/chk", context, salt),
            row_key: wide(&Prefixed::new(b"tally/vole/1/row", context, salt).short(b"")),
        }
    }

    /// Key and value of every item, in the set's order: both halves of one digest.
    pub(crate) fn items(&self, set: &ItemSet) -> Result<Vec<(u128, u128)>, Error> {
        let mut pairs = vec![(0, 0); set.len()];
        pairs
            .par_chunks_mut(BATCH)
            .enumerate()
            .try_for_each(|(chunk, pairs)| {
                let mut blocks = [Block::default(); ITEM_BLOCKS];
                for (i, pair) in pairs.iter_mut().enumerate() {
                    let (head, rest) = set
                        .message(chunk * BATCH + i)
                        .ok_or(Error::Internal { what: "item index" })?;
                    *pair = self.item(&mut blocks, &head, rest);
                }
                blocks.iter_mut().for_each(|b| b.as_mut_slice().zeroize());
                Ok(())
            })?;
        Ok(pairs)
    }

    fn item(&self, blocks: &mut [Block; ITEM_BLOCKS], head: &[u8; 3], rest: &[u8]) -> (u128, u128) {
        let len = head.len() + rest.len();
        let blocks = &mut blocks[..(len + 9).div_ceil(64)];
        let mut rest = rest;
        let mut room = 61;
        for block in blocks.iter_mut() {
            let (now, later) = rest.split_at(rest.len().min(room));
            let at = 64 - room;
            block[at..at + now.len()].copy_from_slice(now);
            block[at + now.len()..].fill(0);
            (rest, room) = (later, 64);
        }
        blocks[0][..3].copy_from_slice(head);
        let digest = finish(blocks, len, self.items.0);
        (wide(&digest), wide(&digest[4..]))
    }

    /// The tag of what a lookup gave, as the highest bytes of a number; the caller cuts it.
    pub(crate) fn tag(&self, sum: u128) -> u128 {
        wide(&self.tags.short(&sum.to_le_bytes()))
    }

    /// The tag of what a lookup gave for an item, bound to its hash.
    pub(crate) fn bound_tag(&self, sum: u128, (key, value): (u128, u128)) -> u128 {
        let mut message = [0; 48];
        for (part, word) in message
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip([sum, key, value])
        {
            *part = word.to_le_bytes();
        }
        wide(&self.tags.short(&message))
    }

    /// 32 bytes of `of`, whose number is `index`, over what came before it and its own bytes.
    pub(crate) fn check(
        &self,
        of: Checked,
        index: u64,
        before: &[u8; 32],
        bytes: &[u8],
    ) -> [u8; 32] {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(before)
            .chain_update(bytes)
            .finalize()
            .into();
        let mut message = [0; 41];
        message[0] = of as u8;
        message[1..9].copy_from_slice(&index.to_le_bytes());
        message[9..].copy_from_slice(&digest);
        let mut out = [0; 32];
        for (part, word) in out
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(self.checks.short(&message))
        {
            *part = word.to_be_bytes();
        }
        out
    }

    /// The key of transfer `index` for a row of the extension.
    pub(crate) fn transfer(&self, index: u64, row: u128) -> u128 {
        let mut message = [0; 24];
        message[..8].copy_from_slice(&index.to_le_bytes());
        message[8..].copy_from_slice(&row.to_le_bytes());
        wide(&self.transfers.short(&message))
    }
}

/// The key of a base transfer: see [`super::base_transfer`].
pub(crate) fn base_key(context: &[u8; 32], index: u16, side: u8, parts: [&[u8; 32]; 4]) -> u128 {
    let mut h = Sha256::new();
    h.update(b"tally/vole/1/base-transfer\n");
    h.update(context);
    h.update(index.to_be_bytes());
    h.update([side]);
    for part in parts {
        h.update(part);
    }
    let digest: [u8; 32] = h.finalize().into();
    digest
        .iter()
        .take(16)
        .fold(0, |sum, b| sum << 8 | u128::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{IdType, ItemSetBuilder, Profile};

    fn plain(name: &[u8; 16], context: &[u8; 32], salt: u128, message: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(name)
            .chain_update(context)
            .chain_update(salt.to_le_bytes())
            .chain_update(message)
            .finalize()
            .into()
    }

    #[test]
    fn every_oracle_is_sha_256_of_its_prefix_and_message() {
        let (context, salt) = ([7; 32], 0x0102_0304);
        let o = Oracles::new(&context, salt);
        let half =
            |d: [u8; 32], h: usize| u128::from_be_bytes(d[16 * h..16 * h + 16].try_into().unwrap());
        assert_eq!(
            o.tag(5),
            half(
                plain(b"tally/vole/1/tag", &context, salt, &5_u128.to_le_bytes()),
                0
            )
        );
        assert_eq!(
            o.bound_tag(5, (6, 7)),
            half(
                plain(
                    b"tally/vole/1/tag",
                    &context,
                    salt,
                    &[5_u128, 6, 7].map(u128::to_le_bytes).concat()
                ),
                0
            )
        );
        let inner: [u8; 32] = Sha256::digest([&[1; 32][..], b"bytes"].concat()).into();
        let message = [&[2][..], &9_u64.to_le_bytes(), &inner].concat();
        assert_eq!(
            o.check(Checked::Noise, 9, &[1; 32], b"bytes"),
            plain(b"tally/vole/1/chk", &context, salt, &message)
        );
        assert_eq!(
            o.row_key,
            half(plain(b"tally/vole/1/row", &context, salt, b""), 0)
        );
        let trees = plain(b"tally/vole/1/tre", &context, salt, b"");
        assert_eq!(o.tree_keys, [half(trees, 0), half(trees, 1)]);
        let message = [&9_u64.to_le_bytes()[..], &8_u128.to_le_bytes()].concat();
        assert_eq!(
            o.transfer(9, 8),
            half(plain(b"tally/vole/1/ote", &context, salt, &message), 0)
        );
        // Lengths around every block's edge, the longest last.
        let mut builder = ItemSetBuilder::new(IdType(1), Profile(2));
        let values: Vec<Vec<u8>> = (1..=MAX_VALUE_BYTES)
            .map(|n| vec![n.to_le_bytes()[0]; n])
            .collect();
        values.iter().for_each(|v| builder.push(v).unwrap());
        let set = builder.finish().unwrap();
        for (pair, value) in o.items(&set).unwrap().into_iter().zip(&values) {
            let message = [
                &[0, 1, 2][..],
                &u16::try_from(value.len()).unwrap().to_be_bytes(),
                value,
            ]
            .concat();
            let digest = plain(b"tally/vole/1/itm", &context, salt, &message);
            assert_eq!(
                pair,
                (half(digest, 0), half(digest, 1)),
                "{} bytes",
                value.len()
            );
        }
    }

    #[test]
    fn context_and_salt_change_everything() {
        let base = Oracles::new(&[1; 32], 1);
        for other in [Oracles::new(&[2; 32], 1), Oracles::new(&[1; 32], 2)] {
            assert_ne!(base.tag(0), other.tag(0));
            assert_ne!(base.row_key, other.row_key);
            assert_ne!(base.tree_keys, other.tree_keys);
            assert_ne!(base.transfer(0, 0), other.transfer(0, 0));
        }
    }
}
