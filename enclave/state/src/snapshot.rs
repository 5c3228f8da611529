//! The state at one height, for readers.

use crate::{
    Applied, Item, Outline, Path, Space, StateError, StateKeys,
    disk::Base,
    outline::paths_of,
    place::Place,
    recent::{Recent, over},
    row::{Row, Rows},
    store::Meta,
    tree::{self, Proof},
};
use jmt::storage::{LeafNode, Node};
use phala_primitives::Hash;
use std::{ops::Bound, sync::Arc};

/// The state at one height. Cheap to share, safe to read from many threads; it keeps the pages of its height from
/// being reused, so it should not be kept for long.
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<View>);

/// Three layers: `recent` commits, `older` ones that are being written to the disk, and what lies on it.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) keys: StateKeys,
    pub(crate) meta: Meta,
    /// Number of the commit that it is the state after.
    pub(crate) commit: u64,
    /// Number of the commit up to which the lower two layers go.
    pub(crate) written: u64,
    pub(crate) recent: Arc<Recent>,
    pub(crate) older: Option<Arc<Recent>>,
    pub(crate) base: Arc<Base>,
}

impl View {
    fn recents(&self) -> impl Iterator<Item = &Recent> {
        [Some(&self.recent), self.older.as_ref()].into_iter().flatten().map(|recent| &**recent)
    }
}

impl Snapshot {
    /// The entry that this is the state after.
    pub fn applied(&self) -> Applied {
        self.0.meta.applied
    }

    /// The value of a key, if it has one.
    pub fn get(&self, space: &Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.row(&self.0.keys.path(space, key), |row| row.value.to_vec())
    }

    fn row<R>(&self, path: &Path, read: impl FnOnce(Row<'_>) -> R) -> Result<Option<R>, StateError> {
        match self.0.recents().find_map(|recent| recent.values.get(self.0.commit, path)) {
            Some(found) => found.map(|row| Row::read(&row).map(read)).transpose(),
            None => self.0.base.row(path)?.map(|row| Row::read(row.value()).map(read)).transpose(),
        }
    }

    /// Rows between two paths.
    fn rows(&self, first: Path, last: Path) -> Result<impl Rows, StateError> {
        let View { commit, recent, older, base, .. } = &*self.0;
        let above = (Bound::Included(first), last);
        let older = older.iter().flat_map(move |older| older.values.range(*commit, above));
        Ok(over(recent.values.range(*commit, above), over(older, base.rows(Bound::Included(first), last)?)))
    }

    /// Rows of a space that come after a path, or all.
    fn rows_of(&self, space: &Space, after: Option<&Path>) -> Result<impl Rows, StateError> {
        let View { commit, recent, older, base, .. } = &*self.0;
        let first = after.map_or(Bound::Included((*space, [0; 32])), |path| Bound::Excluded((*space, *path)));
        let above = (first, (*space, [u8::MAX; 32]));
        let older = older.iter().flat_map(move |older| older.rows_of(*commit, above));
        Ok(over(recent.rows_of(*commit, above), over(older, base.rows_of(space, after.copied())?)))
    }

    /// What the state looks like from afar.
    pub fn outline(&self) -> Result<Outline, StateError> {
        Outline::read(self)
    }

    /// All values of a piece of the state, in order of their paths.
    pub fn piece(&self, piece: u16) -> Result<Vec<Item>, StateError> {
        let (first, last) = paths_of(piece);
        self.rows(first, last)?.map(|row| Ok(Row::read(&row?.1)?.item())).collect()
    }

    /// Whether a key has a value.
    pub fn contains(&self, space: &Space, key: &[u8]) -> Result<bool, StateError> {
        self.contains_path(&self.0.keys.path(space, key))
    }

    pub(crate) fn contains_path(&self, path: &Path) -> Result<bool, StateError> {
        Ok(self.row(path, |_| ())?.is_some())
    }

    /// What the last commit noted.
    pub fn note(&self) -> &[u8] {
        &self.0.meta.note
    }

    /// Root of the state after the entry of this height; `None` if that is long ago or yet to come.
    pub fn root_at(&self, height: u64) -> Result<Option<Hash>, StateError> {
        let found = self.0.recents().find_map(|recent| recent.roots.get(self.0.commit, &height)).flatten();
        Ok(match found {
            Some(root) => Some(root),
            None => self.0.base.root_at(height)?,
        }
        .map(Hash))
    }

    /// The first values of a space, at most `limit`, in an order that is the same at all replicas.
    pub fn paths(&self, space: &Space, limit: usize) -> Result<Vec<Path>, StateError> {
        self.rows_of(space, None)?.take(limit).map(|row| Ok(row?.0)).collect()
    }

    /// Values of a space that come after a path, or from the first, with their paths, in the order of these: until they
    /// have so many bytes, but one at least.
    pub fn items(&self, space: &Space, after: Option<&Path>, bytes: usize) -> Result<Vec<(Path, Item)>, StateError> {
        let (mut items, mut size) = (vec![], 0);
        for row in self.rows_of(space, after)? {
            let (path, row) = row?;
            let item = Row::read(&row)?.item();
            size += item.key.len() + item.value.len();
            if size > bytes && !items.is_empty() {
                break;
            }
            items.push((path, item));
        }
        Ok(items)
    }

    /// The values at [`Snapshot::paths`].
    pub fn values(&self, space: &Space, limit: usize) -> Result<Vec<Vec<u8>>, StateError> {
        self.rows_of(space, None)?.take(limit).map(|row| Ok(Row::read(&row?.1)?.value.to_vec())).collect()
    }

    /// Shows what a key holds to someone who knows the root and the keys.
    pub fn prove(&self, space: &Space, key: &[u8]) -> Result<Proof, StateError> {
        tree::prove(self, &self.0.keys.path(space, key))
    }

    pub(crate) fn commitment(&self, path: &Path) -> Result<Option<[u8; 32]>, StateError> {
        self.row(path, |row| self.0.keys.commitment(row.space, path, row.value))
    }

    /// The inner node at a place. Leaves are not stored: see [`Snapshot::leaf_below`].
    pub(crate) fn stored_node(&self, place: &Place) -> Result<Option<Node>, StateError> {
        match self.0.recents().find_map(|recent| recent.nodes.get(self.0.commit, place)) {
            Some(found) => found.map(|node| tree::parse(&node)).transpose(),
            None => {
                let node = self.0.base.node(place)?;
                node.map(|node| tree::parse(node.value())).transpose()
            }
        }
    }

    /// The leaf of the first value below a place. Where no node is stored, it is the only one.
    pub(crate) fn leaf_below(&self, place: &Place) -> Result<Option<LeafNode>, StateError> {
        let (first, last) = place.paths();
        let Some(row) = self.rows(first, last)?.next() else { return Ok(None) };
        let (path, row) = row?;
        let Row { space, value, .. } = Row::read(&row)?;
        Ok(Some(tree::leaf(&path, &self.0.keys.commitment(space, &path, value))))
    }

    /// Number of nodes of the tree that are stored.
    #[cfg(test)]
    pub(crate) fn node_count(&self) -> usize {
        let mut places = self.0.base.places();
        for recent in [self.0.older.as_ref(), Some(&self.0.recent)].into_iter().flatten() {
            for (place, node) in recent.nodes.all(self.0.commit) {
                if node.is_some() {
                    places.insert(place)
                } else {
                    places.remove(&place)
                };
            }
        }
        places.len()
    }
}
