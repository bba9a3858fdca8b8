//! Puncturable trees (Goldreich, Goldwasser, Micali; as in Boyle et al., "Efficient two-round OT extension and silent
//! non-interactive secure computation", CCS 2019): the responder expands a root to all leaves; the initiator gets, by one transfer
//! a level, all of them but one of its choice. A node's children are its images under two fixed keys.
//!
//! Trees need not be full: a level has half as many nodes as the one below it, rounded up, so its last node may lack the right
//! child. Under `vole-rr22-malicious-v1` that child is made all the same, as a stand-in without children of its own, and counts among
//! the leaves: whatever path an initiator takes, there is then something that it does not get.
//!
//! Addresses follow the punctured place; it is the initiator's own secret and its own memory.

use super::params::VoleShape;
use super::prg::Compress;

/// Parents expanded at a time.
const BATCH: usize = 32;

/// The two keys; public, and the run's own, so that what was learnt of another run's trees serves nothing.
pub(crate) struct Children([Compress; 2]);

impl Children {
    pub(crate) fn new(keys: [u128; 2]) -> Self {
        Self(keys.map(Compress::new))
    }

    /// Replaces the first `nodes` values by their `children` children, in order; the sums of the left and of the right ones, and
    /// the right one of the last node, where there is no room for it.
    fn grow(&self, values: &mut [u128], nodes: usize, children: usize) -> ([u128; 2], u128) {
        let mut sums = [0; 2];
        let mut stand_in = 0;
        let (mut parents, mut left, mut right) = ([0; BATCH], [0; BATCH], [0; BATCH]);
        // From the last node on: children then only overwrite parents that are done.
        let mut to = nodes;
        while to > 0 {
            let from = (to - 1) / BATCH * BATCH;
            let n = to - from;
            parents[..n].copy_from_slice(&values[from..to]);
            self.0[0].apply(&parents[..n], &mut left);
            self.0[1].apply(&parents[..n], &mut right);
            let end = children.min(2 * to);
            let (pairs, lone) = values[2 * from..end].as_chunks_mut::<2>();
            for ((pair, l), r) in pairs.iter_mut().zip(&left).zip(&right) {
                *pair = [*l, *r];
                sums[0] ^= l;
                sums[1] ^= r;
            }
            if let [lone] = lone {
                *lone = left[n - 1];
                sums[0] ^= left[n - 1];
                stand_in = right[n - 1];
            }
            to = from;
        }
        (sums, stand_in)
    }

    /// Expands `root` to all of `leaves`, which are the shape's; `level` gets, from the first level on, the sums of left and
    /// right nodes. Returns the sum of the leaves and stand-ins.
    pub(crate) fn expand(
        &self,
        shape: &VoleShape,
        root: u128,
        leaves: &mut [u128],
        mut level: impl FnMut(usize, [u128; 2]),
    ) -> u128 {
        leaves[0] = root;
        let (mut total, mut stand_ins) = (root, 0);
        for l in 1..=shape.depth {
            let (mut sums, stand_in) =
                self.grow(leaves, shape.level_nodes(l - 1), shape.level_nodes(l));
            total = sums[0] ^ sums[1];
            if shape.has_stand_in(l) {
                sums[1] ^= stand_in;
                stand_ins ^= stand_in;
            }
            level(l, sums);
        }
        total ^ stand_ins
    }

    /// Expands to all of `leaves` but that at `hole`, which becomes 0. `sibling` gives, from the first level on, the sum of the
    /// nodes on the side where the path to the hole does not go; it is not asked for where there is no such node. Returns the
    /// sum of the leaves and stand-ins.
    pub(crate) fn puncture(
        &self,
        shape: &VoleShape,
        hole: usize,
        leaves: &mut [u128],
        mut sibling: impl FnMut(usize) -> u128,
    ) -> u128 {
        let (mut total, mut stand_ins) = (0, 0);
        leaves[0] = 0;
        for l in 1..=shape.depth {
            let nodes = shape.level_nodes(l);
            let (mut sums, stand_in) = self.grow(leaves, shape.level_nodes(l - 1), nodes);
            let on = hole >> (shape.depth - l);
            // What `grow` made of the hole's last right child is nothing.
            let known = shape.has_stand_in(l) && on ^ 1 != nodes;
            if known {
                sums[1] ^= stand_in;
                stand_ins ^= stand_in;
            }
            // The children of the hole in the level above are nothing.
            for child in [on & !1, on | 1] {
                if child < nodes {
                    sums[child & 1] ^= leaves[child];
                    leaves[child] = 0;
                }
            }
            let off = on ^ 1;
            if off < nodes {
                let value = sums[off & 1] ^ sibling(l);
                leaves[off] = value;
                sums[off & 1] ^= value;
            } else if shape.has_stand_in(l) {
                stand_ins ^= sums[1] ^ sibling(l);
            }
            // Only the last level's counts, which has no stand-in.
            total = sums[0] ^ sums[1];
        }
        total ^ stand_ins
    }
}

/// Which side the transfer of a level has to give: the one where the path to `hole` does not go.
pub(crate) const fn choice(shape: &VoleShape, hole: usize, level: usize) -> bool {
    hole >> (shape.depth - level) & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any two.
    const KEYS: [u128; 2] = [
        0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89,
    ];

    fn shape(leaves: usize, checked: bool) -> VoleShape {
        VoleShape {
            blocks: 1,
            leaves,
            depth: (usize::BITS - (leaves - 1).leading_zeros()) as usize,
            checked,
        }
    }

    #[test]
    fn all_leaves_but_the_hole_are_the_responder_s() {
        let children = Children::new(KEYS);
        for (leaves, checked) in [2, 4, 6, 10, 14, 30, 32, 62, 66, 130]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            let shape = shape(leaves, checked);
            let mut all = vec![0; leaves];
            let mut sums = vec![[0; 2]; shape.depth + 1];
            let sum = children.expand(&shape, 77 + leaves as u128, &mut all, |l, s| sums[l] = s);
            let stand_ins = sum ^ all.iter().fold(0, |s, l| s ^ l);
            let open = (1..=shape.depth).all(|l| !shape.has_stand_in(l));
            assert_eq!(stand_ins == 0, open);
            let distinct: std::collections::HashSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), leaves);
            for hole in 0..leaves {
                let mut got = vec![5; leaves];
                let total = children.puncture(&shape, hole, &mut got, |l| {
                    sums[l][usize::from(choice(&shape, hole, l))]
                });
                let mut expected = all.clone();
                expected[hole] = 0;
                assert_eq!(got, expected, "{leaves} leaves, hole {hole}");
                // All but the hole: the responder's sum, once the hole is added.
                assert_eq!(total ^ all[hole], sum);
            }
        }
    }

    /// What a deviating initiator knows of the sum of leaves and stand-ins if it lets its transfers follow the path to `place`,
    /// where there need not be a leaf: it grows what it has, level by level.
    fn known_sum(shape: &VoleShape, place: usize, sums: &[[u128; 2]]) -> u128 {
        let children = Children::new(KEYS);
        // Node by node, with those that it lacks as `None`.
        let mut nodes: Vec<Option<u128>> = vec![None];
        let mut stand_ins = 0;
        for (l, sums) in (1..).zip(&sums[1..]) {
            let mut next = Vec::new();
            for node in &nodes {
                for key in &children.0 {
                    let mut out = [0];
                    key.apply(&[node.unwrap_or(0)], &mut out);
                    next.push(node.map(|_| out[0]));
                }
            }
            let side = usize::from(choice(shape, place, l));
            let room = shape.level_nodes(l);
            let counted = room + usize::from(shape.has_stand_in(l));
            let mut missing = sums[side];
            let mut at = None;
            for (i, node) in next
                .iter()
                .enumerate()
                .take(counted)
                .filter(|(i, _)| i % 2 == side)
            {
                match node {
                    Some(v) => missing ^= v,
                    None => at = Some(i),
                }
            }
            if let Some(at) = at {
                next[at] = Some(missing);
            }
            if shape.has_stand_in(l) {
                stand_ins ^= next[room].unwrap_or(0);
            }
            next.truncate(room);
            nodes = next;
        }
        nodes.iter().fold(stand_ins, |s, n| s ^ n.unwrap_or(0))
    }

    /// The reason for stand-ins: without them a path to where no leaf is gives everything, hence Delta.
    #[test]
    fn a_path_past_the_last_leaf_gives_everything_away_unless_there_are_stand_ins() {
        for leaves in [6, 10, 14, 30, 62, 66, 130] {
            for checked in [false, true] {
                let shape = shape(leaves, checked);
                let mut all = vec![0; leaves];
                let mut sums = vec![[0; 2]; shape.depth + 1];
                let sum = Children::new(KEYS).expand(&shape, 5, &mut all, |l, s| sums[l] = s);
                for place in 0..1 << shape.depth {
                    let knows = known_sum(&shape, place, &sums) == sum;
                    assert_eq!(knows, place >= leaves && !checked, "{leaves}, {place}");
                }
            }
        }
    }

    #[test]
    fn other_keys_make_other_trees() {
        let shape = shape(6, true);
        let [one, two] = [KEYS, KEYS.map(|key| key ^ 1)].map(|keys| {
            let mut leaves = [0; 6];
            Children::new(keys).expand(&shape, 9, &mut leaves, |_, _| ());
            leaves
        });
        assert!(one.iter().all(|leaf| !two.contains(leaf)));
    }

    #[test]
    fn a_tree_is_golden() {
        let mut leaves = [0; 4];
        Children::new(KEYS).expand(&shape(4, false), 0, &mut leaves, |_, _| ());
        // The image of 0 under a key is its encryption.
        assert_eq!(format!("{:032x}", leaves[0] ^ leaves[3]), GOLDEN);
    }
    const GOLDEN: &str = "7f8960f758b158ac20604d0f4a49e38b";
}
