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
use crate::claim::{CLAIM_LEN, ClaimCode, CommitmentMessage};
use crate::crockford;
use crate::gs1::{Gtin, UrlBase};
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

/// The printer's row: `url,serial,claim_code` and LF, of one length within a batch.
pub(super) struct Row(Vec<u8>);

/// `,`, serial, `,`, printed claim code, LF.
pub(super) const AFTER_URL: usize = 1 + 20 + 1 + 15 + 1;

impl Row {
    pub(super) fn new(base: &UrlBase, gtin: &Gtin) -> Self {
        let mut row = Vec::with_capacity(base.url_len() + AFTER_URL);
        base.write_url(&mut row, gtin, &[0; 20]);
        row.extend_from_slice(&[b','; 1 + 20 + 1]);
        row.extend_from_slice(b"....-....-.....\n");
        Self(row)
    }

    /// Bytes of a row.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes a row to `out`, which has its length.
    fn write(&self, out: &mut [u8], serial: &[u8; 20], claim: &[u8; 12], check: u8) {
        out.copy_from_slice(&self.0);
        let Some((
            url,
            [
                _,
                again @ ..,
                _,
                a,
                b,
                c,
                d,
                _,
                e,
                f,
                g,
                h,
                _,
                i,
                j,
                k,
                l,
                m,
                _,
            ],
        )) = out.split_last_chunk_mut::<AFTER_URL>()
        else {
            return;
        };
        if let Some(at) = url.last_chunk_mut() {
            *at = *serial;
        }
        again.copy_from_slice(serial);
        let typed = [a, b, c, d, e, f, g, h, i, j, k, l];
        for (to, from) in typed.into_iter().zip(claim) {
            *to = *from;
        }
        *m = check;
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

    /// The leaves of a chunk of the unit tree, and the rows of its units, in leaf order, into `rows`, which has their length.
    pub(super) fn unit_leaves(
        &self,
        chunk: u64,
        rows: Option<(&Row, &mut [u8])>,
        scratch: &mut Scratch,
    ) -> Vec<Hash> {
        let (row, mut rows) =
            rows.map_or((None, [].as_mut_slice()), |(row, rows)| (Some(row), rows));
        let gtin = self.spec().gtin();
        let mut leaves = Vec::with_capacity(256);
        let mut commitments = [CommitmentMessage::new(gtin), CommitmentMessage::new(gtin)];
        let mut messages = [UnitLeafMessage::new(gtin), UnitLeafMessage::new(gtin)];
        let mut serials = [[0; 20]; 2];
        let mut claims = [[0; CLAIM_LEN]; 2];
        let mut checks = [0; 2];
        for start in group_starts(chunk, self.spec().count()) {
            let n = self.group(&self.unit_order, start, scratch);
            self.derive_group(scratch);
            let [salts, claim_salts, claim_blocks] = &scratch.blocks;
            for at in (0..n).step_by(2) {
                // GROUP is even, so there is always a second one.
                for (two, i) in [at, (at + 1) % GROUP].into_iter().enumerate() {
                    let claim = ClaimCode::bits_of(high(&claim_blocks[i]));
                    serials[two] = Serial::from_bits(scratch.numbers[i]).to_chars();
                    claims[two] = crockford::encode_short(claim);
                    checks[two] = crockford::check_byte(claim);
                    commitments[two].set(claim_salts[i].as_ref(), &serials[two], &claims[two]);
                }
                let [first, second] = &commitments;
                let committed = CommitmentMessage::hash_pair(first, second);
                for (two, i) in [at, (at + 1) % GROUP].into_iter().enumerate() {
                    messages[two].set(salts[i].as_ref(), &serials[two], &committed[two]);
                }
                let [first, second] = &messages;
                let hashes = UnitLeafMessage::hash_pair(first, second);
                let used = (n - at).min(2);
                leaves.extend(hashes.into_iter().take(used));
                let Some(row) = row else { continue };
                for ((serial, claim), check) in serials.iter().zip(&claims).zip(checks).take(used) {
                    let Some((to, rest)) =
                        std::mem::take(&mut rows).split_at_mut_checked(row.len())
                    else {
                        break;
                    };
                    row.write(to, serial, claim, check);
                    rows = rest;
                }
            }
        }
        commitments.iter_mut().for_each(CommitmentMessage::wipe);
        claims.zeroize();
        checks.zeroize();
        leaves
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
    use crate::batch::BatchSpec;
    use crate::batch::opening::redemption_leaf;
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
            let row = Row::new(&base, &gtin);
            let (mut leaves, mut redemption, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            let mut scratch = Scratch::new();
            for chunk in 0..count.div_ceil(CHUNK) {
                let n = (count - chunk * CHUNK).min(CHUNK);
                let mut part = vec![0; row.len() * usize::try_from(n).unwrap()];
                let made = deriver.unit_leaves(chunk, Some((&row, &mut part)), &mut scratch);
                assert_eq!(made, deriver.unit_leaves(chunk, None, &mut Scratch::new()));
                leaves.extend(made);
                redemption.extend(deriver.redemption_leaves(chunk, &mut scratch));
                rows.extend(part);
            }
            let rows: Vec<&str> = str::from_utf8(&rows).unwrap().split('\n').collect();
            assert_eq!(
                (leaves.len(), redemption.len()),
                (place(count), place(count))
            );
            assert_eq!(
                rows.len(),
                place(count) + 1,
                "and nothing after the last one"
            );
            for index in first..first + count {
                let unit = deriver.unit(index).unwrap();
                let at = place(deriver.unit_order.leaf(index - first));
                assert_eq!(leaves[at], deriver.unit_leaf(&unit), "{index}");
                let claim = unit.claim.to_printed();
                let url = base.url(&gtin, unit.serial);
                assert_eq!(rows[at], format!("{url},{},{}", unit.serial, &*claim));
                let at = place(deriver.null_order.leaf(index - first));
                assert_eq!(
                    redemption[at],
                    redemption_leaf(&deriver.nullifier(index).unwrap())
                );
            }
        }
    }
}
