//! Units by the hundred: what [`Deriver`] makes one at a time, for 64 units side by side, with the printer's rows.

use aes::Block;
use tally_merkle::Hash;
use tally_merkle::sha256::Message;
use zeroize::Zeroize;

use super::derive::{
    Deriver, LABEL_CLAIM, LABEL_CLAIM_SALT, LABEL_NULL, LABEL_SALT, UnitLeafMessage,
};
use super::levels::CHUNK;
use super::opening::REDEMPTION_LEAF;
use super::rows::ChunkRows;
use crate::claim::{CLAIM_LEN, ClaimCode, CommitmentMessage};
use crate::crockford;
use crate::order::{LeafOrder, Pairs};
use crate::prf::{GROUP, high};
use crate::unit::{PlainUnit, Serial};

/// What a group is worked on in. Secret: wiped when dropped.
pub(super) struct Scratch {
    indexes: [u64; GROUP],
    tags: [u64; GROUP],
    numbers: [u128; GROUP],
    blocks: [[Block; GROUP]; 3],
    pairs: Pairs,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        const ZERO: Block = aes::cipher::Array([0; 16]);
        Self {
            indexes: [0; GROUP],
            tags: [0; GROUP],
            numbers: [0; GROUP],
            blocks: [[ZERO; GROUP]; 3],
            pairs: Pairs::new(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.indexes.zeroize();
        self.tags.zeroize();
        self.numbers.zeroize();
        for block in self.blocks.as_flattened_mut() {
            block.zeroize();
        }
    }
}

/// What is printed of two units. Secret: wiped when dropped.
struct UnitPair {
    serials: [[u8; 20]; 2],
    claims: [[u8; CLAIM_LEN]; 2],
    checks: [u8; 2],
}

impl UnitPair {
    const fn new() -> Self {
        Self {
            serials: [[0; 20]; 2],
            claims: [[0; CLAIM_LEN]; 2],
            checks: [0; 2],
        }
    }

    /// Where the two are in a group: [`GROUP`] is even, so there is always a second one.
    fn places(at: usize) -> impl Iterator<Item = (usize, usize)> {
        [at, (at + 1) % GROUP].into_iter().enumerate()
    }

    #[inline]
    fn take(&mut self, scratch: &Scratch, at: usize) {
        let [.., claims] = &scratch.blocks;
        for (two, i) in Self::places(at) {
            let claim = ClaimCode::bits_of(high(&claims[i]));
            self.serials[two] = Serial::from_bits(scratch.numbers[i]).to_chars();
            self.claims[two] = crockford::encode_short(claim);
            self.checks[two] = crockford::check_byte(claim);
        }
    }

    #[inline]
    fn write(&self, rows: &mut ChunkRows<'_>, used: usize) {
        if rows.is_empty() {
            return;
        }
        let units = self.serials.iter().zip(&self.claims).zip(self.checks);
        for ((serial, claim), check) in units.take(used) {
            rows.write(serial, claim, check);
        }
    }
}

impl Drop for UnitPair {
    fn drop(&mut self) {
        self.claims.zeroize();
        self.checks.zeroize();
    }
}

impl Deriver {
    /// Puts the indexes of the units at `start` and after it in leaf order into the scratch, and says how many they are.
    fn group(&self, order: &LeafOrder, start: u64, scratch: &mut Scratch) -> usize {
        let spec = self.spec();
        let last = spec.count().saturating_sub(1);
        for (x, leaf) in scratch.indexes.iter_mut().zip(start..) {
            // Beyond the end the last one is worked on again, and not used.
            *x = leaf.min(last);
        }
        let [blocks, ..] = &mut scratch.blocks;
        order.offsets(&mut scratch.indexes, &mut scratch.pairs, blocks);
        for x in &mut scratch.indexes {
            *x = x.wrapping_add(spec.first_index());
        }
        usize::try_from(spec.count().saturating_sub(start)).map_or(GROUP, |n| n.min(GROUP))
    }

    /// The leaves of a chunk of the unit tree, and the rows of its units, in leaf order, into `rows`, which have room for them.
    pub(super) fn unit_leaves(
        &self,
        chunk: u64,
        mut rows: ChunkRows<'_>,
        scratch: &mut Scratch,
    ) -> Vec<Hash> {
        let gtin = self.spec().gtin();
        let mut leaves = Vec::with_capacity(256);
        let mut commitments = [CommitmentMessage::new(gtin), CommitmentMessage::new(gtin)];
        let mut messages = [UnitLeafMessage::new(gtin), UnitLeafMessage::new(gtin)];
        let mut pair = UnitPair::new();
        for start in group_starts(chunk, self.spec().count()) {
            let n = self.group(&self.unit_order, start, scratch);
            self.derive_group(scratch);
            let [salts, claim_salts, _] = &scratch.blocks;
            for at in (0..n).step_by(2) {
                pair.take(scratch, at);
                for (two, i) in UnitPair::places(at) {
                    commitments[two].set(
                        claim_salts[i].as_ref(),
                        &pair.serials[two],
                        &pair.claims[two],
                    );
                }
                let [first, second] = &commitments;
                let committed = CommitmentMessage::hash_pair(first, second);
                for (two, i) in UnitPair::places(at) {
                    messages[two].set(salts[i].as_ref(), &pair.serials[two], &committed[two]);
                }
                let [first, second] = &messages;
                let hashes = UnitLeafMessage::hash_pair(first, second);
                let used = (n - at).min(2);
                leaves.extend(hashes.into_iter().take(used));
                pair.write(&mut rows, used);
            }
        }
        commitments.iter_mut().for_each(CommitmentMessage::wipe);
        leaves
    }

    /// The rows of a chunk's units alone.
    pub(super) fn unit_rows(&self, chunk: u64, mut rows: ChunkRows<'_>, scratch: &mut Scratch) {
        let mut pair = UnitPair::new();
        for start in group_starts(chunk, self.spec().count()) {
            let n = self.group(&self.unit_order, start, scratch);
            self.derive_group(scratch);
            for at in (0..n).step_by(2) {
                pair.take(scratch, at);
                pair.write(&mut rows, (n - at).min(2));
            }
        }
    }

    /// Serials into `numbers`; salts, claim salts and claims into the three rows of blocks.
    fn derive_group(&self, scratch: &mut Scratch) {
        let Scratch {
            indexes,
            tags,
            numbers,
            blocks,
            ..
        } = scratch;
        self.tag.tags(self.spec().gtin(), indexes, tags);
        for (number, (index, tag)) in numbers.iter_mut().zip(indexes.iter().zip(tags.iter())) {
            *number = PlainUnit {
                index: *index,
                tag: *tag,
            }
            .to_bits();
        }
        self.permutation.encrypt_group(numbers);
        let [salts, claim_salts, claims] = blocks;
        self.salt.group(LABEL_SALT, indexes, salts);
        self.claim.group(LABEL_CLAIM_SALT, indexes, claim_salts);
        self.claim.group(LABEL_CLAIM, indexes, claims);
    }

    /// The leaves of a chunk of the redemption tree.
    pub(super) fn redemption_leaves(&self, chunk: u64, scratch: &mut Scratch) -> Vec<Hash> {
        let mut leaves = Vec::with_capacity(256);
        let mut messages = [REDEMPTION_LEAF; 2];
        for start in group_starts(chunk, self.spec().count()) {
            let n = self.group(&self.null_order, start, scratch);
            let Scratch {
                indexes, blocks, ..
            } = &mut *scratch;
            let [high, low, _] = blocks;
            self.null.group(LABEL_NULL[0], indexes, high);
            self.null.group(LABEL_NULL[1], indexes, low);
            for at in (0..n).step_by(2) {
                for (message, i) in messages.iter_mut().zip([at, (at + 1) % GROUP]) {
                    message.put::<15, 16>(high[i].as_ref());
                    message.put::<31, 16>(low[i].as_ref());
                }
                let [first, second] = &messages;
                let hashes = Message::hash_pair(first, second);
                leaves.extend(hashes.into_iter().take((n - at).min(2)));
            }
        }
        for message in &mut messages {
            message.put::<15, 32>(&[0; 32]);
        }
        leaves
    }
}

/// Where the groups of a chunk begin.
fn group_starts(chunk: u64, count: u64) -> impl Iterator<Item = u64> {
    let start = chunk.saturating_mul(CHUNK);
    (start..start.saturating_add(CHUNK).min(count)).step_by(GROUP)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::batch::opening::redemption_leaf;
    use crate::batch::{BatchBuild, BatchRows, BatchSpec, RowBuffers, RowFormat, RowForms};
    use crate::gs1::UrlBase;
    use crate::keys::{BatchKeys, IssuerId, IssuerKeys};

    fn place(n: u64) -> usize {
        usize::try_from(n).unwrap()
    }

    #[test]
    fn groups_equal_one_by_one() {
        let mut rng = ChaCha20Rng::seed_from_u64(8);
        let issuer = IssuerKeys::generate(IssuerId([7; 16]), &mut rng);
        let base = UrlBase::parse("https://id.brand.cn").unwrap();
        for (first, count) in [
            (0, 1),
            (9, 2),
            (1, 3),
            (1 << 35, 63),
            (5, 64),
            (5, 65),
            (77, 255),
            (77, 256),
            (78, 1000),
            ((1 << 36) - 1337, 1337),
        ] {
            let keys = BatchKeys::generate(&mut rng);
            let gtin = "09521234543213".parse().unwrap();
            let spec = BatchSpec::new(gtin, first, count).unwrap();
            let deriver = Deriver::new(&issuer, issuer.current(), &keys, spec).unwrap();
            let forms = [
                RowForms::outer(RowFormat::Csv, base.clone()).with_claims(true),
                RowForms::outer(RowFormat::Jsonl, base.clone()).with_claims(true),
            ];
            let (mut leaves, mut redemption) = (Vec::new(), Vec::new());
            let mut scratch = Scratch::new();
            for chunk in 0..count.div_ceil(CHUNK) {
                leaves.extend(deriver.unit_leaves(chunk, ChunkRows::default(), &mut scratch));
                redemption.extend(deriver.redemption_leaves(chunk, &mut scratch));
            }
            assert_eq!(
                (leaves.len(), redemption.len()),
                (place(count), place(count))
            );
            // Rows with trees, and without.
            let [csv, json] = forms.map(|forms| {
                let mut build = BatchBuild::new(&deriver, &forms);
                let mut alone = BatchRows::new(&deriver, &forms, u64::MAX);
                let (mut one, mut two) = (RowBuffers::default(), RowBuffers::default());
                let (mut outer, mut claims) = (String::new(), String::new());
                while build.next_rows(&mut one) {
                    assert!(alone.next_rows(&mut two));
                    assert!(*one.outer == *two.outer && *one.claims == *two.claims);
                    outer.push_str(str::from_utf8(&one.outer).unwrap());
                    claims.push_str(str::from_utf8(&one.claims).unwrap());
                }
                assert!(!alone.next_rows(&mut two) && two.claims.is_empty());
                assert_eq!(alone.done(), count);
                let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(outer.len(), forms.outer_len() * place(count));
                (lines(&outer), lines(&claims))
            });
            assert_eq!((csv.0.len(), csv.1.len()), (place(count), place(count)));
            for index in first..first + count {
                let unit = deriver.unit(index).unwrap();
                let at = place(deriver.unit_order.leaf(index - first));
                assert_eq!(leaves[at], deriver.unit_leaf(&unit), "{index}");
                let claim = unit.claim.to_printed();
                let url = base.url(&gtin, unit.serial);
                let serial = unit.serial;
                assert_eq!(csv.0[at], format!("{url},{serial}"));
                assert_eq!(csv.1[at], format!("{serial},{}", &*claim));
                assert_eq!(
                    json.0[at],
                    format!("{{\"url\":\"{url}\",\"serial\":\"{serial}\"}}")
                );
                assert_eq!(
                    json.1[at],
                    format!("{{\"serial\":\"{serial}\",\"claim_code\":\"{}\"}}", &*claim)
                );
                let at = place(deriver.null_order.leaf(index - first));
                assert_eq!(
                    redemption[at],
                    redemption_leaf(&deriver.nullifier(index).unwrap())
                );
            }
        }
    }
}
