//! Binary Merkle tree over hashes, to show that one command is among those of a log entry.
//!
//! Leaves are hashed with a leading `0`, inner nodes with a leading `1`; an odd node moves up unchanged. The empty
//! tree has the zero root.

use crate::{Hash, blake2_256};

fn leaf(hash: &Hash) -> Hash {
    blake2_256(&[&[0], hash.as_ref()].concat())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    blake2_256(&[&[1], left.as_ref(), right.as_ref()].concat())
}

fn parents(level: &[Hash]) -> Vec<Hash> {
    level.chunks(2).map(|pair| if let [left, right] = pair { node(left, right) } else { pair[0] }).collect()
}

/// Root over the hashes in their order.
pub fn root(hashes: &[Hash]) -> Hash {
    Tree::new(hashes).root()
}

/// All levels of a tree, for many proofs out of one.
#[derive(Debug)]
pub struct Tree(Vec<Vec<Hash>>);

impl Tree {
    /// The tree over the hashes in their order.
    pub fn new(hashes: &[Hash]) -> Self {
        let mut level: Vec<_> = hashes.iter().map(leaf).collect();
        let mut levels = vec![];
        while level.len() > 1 {
            let above = parents(&level);
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self(levels)
    }

    /// The root; zero for a tree without leaves.
    pub fn root(&self) -> Hash {
        self.0.last().and_then(|top| top.first()).copied().unwrap_or(Hash::ZERO)
    }

    /// Siblings from leaf `index` up to the root, or `None` if there is no such leaf.
    pub fn prove(&self, index: usize) -> Option<Vec<Hash>> {
        self.0.first()?.get(index)?;
        let siblings = self.0.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
        Some(siblings.copied().collect())
    }
}

/// Whether `hash` is leaf `index` of the tree of `count` leaves with this root.
pub fn verify(root: &Hash, count: usize, index: usize, hash: &Hash, path: &[Hash]) -> bool {
    if index >= count {
        return false;
    }
    let (mut at, mut width, mut current) = (index, count, leaf(hash));
    let mut path = path.iter();
    while width > 1 {
        if at ^ 1 < width {
            let Some(sibling) = path.next() else { return false };
            current = if at % 2 == 0 { node(&current, sibling) } else { node(sibling, &current) };
        }
        at /= 2;
        width = width.div_ceil(2);
    }
    path.next().is_none() && current == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_small_tree_proves_itself_and_nothing_else() {
        for count in 1..=17usize {
            let hashes: Vec<_> = (0..count).map(|i| blake2_256(&[i as u8])).collect();
            let tree = Tree::new(&hashes);
            let top = root(&hashes);
            for (index, hash) in hashes.iter().enumerate() {
                let path = tree.prove(index).unwrap();
                assert!(verify(&top, count, index, hash, &path));
                assert!(!verify(&top, count, index, &blake2_256(b"other"), &path));
                assert!(count == 1 || !verify(&top, count, (index + 1) % count, hash, &path));
            }
            assert!(tree.prove(count).is_none());
        }
    }
}
