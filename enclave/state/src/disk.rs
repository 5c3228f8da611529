//! The state as it lies in the database.

use crate::{
    Path, Space, StateError,
    place::Place,
    recent::{self, over},
    row::{Bytes, Row, Rows},
    snapshot::View,
    store::{FORMAT, Meta, altered},
};
use codec::{Decode, Encode};
use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use std::ops::Bound;

/// Rows of values and nodes that lie deep in the tree, in the order of the tree: what changes together lies together.
const ROWS: TableDefinition<'static, Key, &'static [u8]> = TableDefinition::new("rows");
/// The other nodes by place, one byte for each nibble. They are few: most of them stay in memory.
const NODES: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("nodes");
/// Nibbles from which on a node lies deep.
const DEEP: usize = 5;
const META: TableDefinition<'static, (), &'static [u8]> = TableDefinition::new("meta");
/// In which buckets a space has values.
const SPACES: TableDefinition<'static, (Space, Bucket), ()> = TableDefinition::new("spaces");
const ROOTS: TableDefinition<'static, u64, [u8; 32]> = TableDefinition::new("roots");
/// Heights whose roots are remembered.
const REMEMBERED: u64 = 1 << 16;

/// Rows in one transaction.
const PART: usize = 4096;

/// Path of a value and [`VALUE`], or place of a node: nibbles and their number.
type Key = [u8; 33];
const VALUE: u8 = u8::MAX;

/// The first [`BITS`] bits of paths. In a large space a bucket has many values, and in a large state a bucket has few.
type Bucket = [u8; 3];
/// So many that a state of ten million values has a page of rows in each.
const BITS: u32 = 18;

fn key(path: &Path, what: u8) -> Key {
    let mut key = [what; 33];
    key[..32].copy_from_slice(path);
    key
}

fn path(key: &Key) -> Path {
    let mut path = [0; 32];
    path.copy_from_slice(&key[..32]);
    path
}

fn bucket(path: &Path) -> Bucket {
    let [a, b, c, ..] = *path;
    [a, b, c & (u8::MAX << (24 - BITS))]
}

/// The first path of a bucket.
fn begin(bucket: Bucket) -> Path {
    let mut path = [0; 32];
    path[..3].copy_from_slice(&bucket);
    path
}

/// The last path of a bucket.
fn end(bucket: Bucket) -> Path {
    let mut path = [u8::MAX; 32];
    path[..3].copy_from_slice(&bucket);
    path[2] |= u8::MAX >> (BITS - 16);
    path
}

/// A value's row, where it lies.
type Found = Result<(Path, AccessGuard<'static, &'static [u8]>), StateError>;

/// What lies on the disk, for readers.
pub(crate) struct Base {
    pub(crate) meta: Meta,
    rows: ReadOnlyTable<Key, &'static [u8]>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    spaces: ReadOnlyTable<(Space, Bucket), ()>,
    roots: ReadOnlyTable<u64, [u8; 32]>,
}

impl Base {
    pub(crate) fn open(db: &Database) -> Result<Self, StateError> {
        let txn = db.begin_read()?;
        let stored = txn.open_table(META)?.get(())?.map(|row| row.value().to_vec());
        let stored = stored.ok_or_else(|| altered("it has no description"))?;
        let format = u32::decode(&mut stored.as_slice()).map_err(|_| altered("its description is cut"))?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        let meta = Meta::decode(&mut stored.as_slice()).map_err(|_| altered("its description is malformed"))?;
        let (rows, nodes) = (txn.open_table(ROWS)?, txn.open_table(NODES)?);
        let (spaces, roots) = (txn.open_table(SPACES)?, txn.open_table(ROOTS)?);
        Ok(Self { meta, rows, nodes, spaces, roots })
    }

    /// The row of a value.
    pub(crate) fn row(&self, path: &Path) -> Result<Option<AccessGuard<'static, &'static [u8]>>, StateError> {
        Ok(self.rows.get(key(path, VALUE))?)
    }

    /// Rows of values between two paths, in order.
    pub(crate) fn rows(&self, first: Bound<Path>, last: Path) -> Result<impl Rows, StateError> {
        Ok(self.values(first, last)?.map(|found| found.map(|(path, row)| (path, row.value().into()))))
    }

    fn values(&self, first: Bound<Path>, last: Path) -> Result<impl Iterator<Item = Found>, StateError> {
        let first = match first {
            Bound::Included(first) => Bound::Included(key(&first, 0)),
            Bound::Excluded(first) => Bound::Excluded(key(&first, VALUE)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let rows = self.rows.range::<Key>((first, Bound::Included(key(&last, VALUE))))?;
        Ok(rows.filter_map(|row| match row {
            Ok((key, row)) => (key.value()[32] == VALUE).then(|| Ok((path(&key.value()), row))),
            Err(error) => Some(Err(error.into())),
        }))
    }

    /// Rows of the values of a space that come after a path, or all, in order.
    pub(crate) fn rows_of(&self, space: &Space, after: Option<Path>) -> Result<impl Rows, StateError> {
        let space = *space;
        let buckets = self.spaces.range((space, after.as_ref().map_or([0; 3], bucket))..=(space, [u8::MAX; 3]))?;
        let values = move |bucket: Bucket| {
            let first = begin(bucket);
            let after = after.filter(|after| *after >= first);
            self.values(after.map_or(Bound::Included(first), Bound::Excluded), end(bucket))
        };
        let all = buckets.flat_map(move |found| {
            let found = found.map_err(StateError::from).and_then(|found| values(found.0.value().1));
            let (values, error) = found.map_or_else(|error| (None, Some(Err(error))), |values| (Some(values), None));
            values.into_iter().flatten().chain(error)
        });
        // Those of other spaces are not copied: they may be large.
        let of_space = move |found: Found| -> Result<_, StateError> {
            let (path, row) = found?;
            let here = *Row::read(row.value())?.space == space;
            Ok(here.then(|| (path, row.value().into())))
        };
        Ok(all.filter_map(move |found| of_space(found).transpose()))
    }

    /// A node as it is stored.
    pub(crate) fn node(&self, place: &Place) -> Result<Option<AccessGuard<'static, &'static [u8]>>, StateError> {
        Ok(if place.depth() < DEEP { self.nodes.get(place.bytes().as_slice())? } else { self.rows.get(place.key())? })
    }

    /// Root of the state after the entry of a height.
    pub(crate) fn root_at(&self, height: u64) -> Result<Option<[u8; 32]>, StateError> {
        Ok(self.roots.get(height)?.map(|root| root.value()))
    }

    /// Places of all nodes.
    #[cfg(test)]
    pub(crate) fn places(&self) -> std::collections::BTreeSet<Place> {
        use redb::ReadableTable;
        let deep = self.rows.iter().unwrap().map(|row| row.unwrap().0.value()).filter(|key| key[32] != VALUE);
        let place = |nibbles: &[u8]| nibbles.iter().fold(Place::ROOT, |place, nibble| place.child(*nibble));
        let nibbles = |key: Key| -> Vec<u8> { key[..32].iter().flat_map(|byte| [byte >> 4, byte & 15]).collect() };
        let deep = deep.map(|key| place(&nibbles(key)[..usize::from(key[32])]));
        deep.chain(self.nodes.iter().unwrap().map(|row| place(row.unwrap().0.value()))).collect()
    }
}

fn begin_write(db: &Database, durability: Durability) -> Result<WriteTransaction, StateError> {
    let mut txn = db.begin_write()?;
    txn.set_durability(durability).map_err(|error| StateError::Disk(error.to_string()))?;
    // In one phase, the header may be written before what it leads to. Who is killed in between leaves a database
    // that finds out by reading what is not there; but a block that was never written cannot be opened.
    txn.set_two_phase_commit(true);
    Ok(txn)
}

/// Makes an empty state.
pub(crate) fn create(db: &Database) -> Result<(), StateError> {
    let txn = begin_write(db, Durability::Immediate)?;
    txn.open_table(ROWS)?;
    txn.open_table(NODES)?;
    txn.open_table(SPACES)?;
    txn.open_table(ROOTS)?;
    txn.open_table(META)?.insert((), Meta::EMPTY.encode().as_slice())?;
    txn.commit()?;
    Ok(())
}

/// Writes what a state has above its base, and waits for the disk. Readers see nothing of it before. After each
/// part the layer counts as smaller, and `written` is called.
///
/// There is a transaction for each part of the rows, so that the pages that it changes stay in memory until it is
/// committed. All become durable with the last, which says what state it is.
pub(crate) fn write(db: &Database, view: &View, written: impl Fn()) -> Result<(), StateError> {
    let (recent, commit) = (&view.recent, view.commit);
    let values = recent.values.all(commit).map(|(path, row)| (key(&path, VALUE), Some(row)));
    let deep = recent.nodes.all(commit).filter(|(place, _)| place.depth() >= DEEP);
    let deep = deep.map(|(place, node)| Ok::<_, StateError>((place.key(), node)));
    // In the order of the table, so that each of its pages is changed once.
    let mut changes = over(values, deep).peekable();
    while changes.peek().is_some() {
        let txn = begin_write(db, Durability::None)?;
        let size = write_rows(&txn, changes.by_ref().take(PART))?;
        txn.commit()?;
        recent.shrink(size);
        written();
    }
    let txn = begin_write(db, Durability::Immediate)?;
    let mut nodes = txn.open_table(NODES)?;
    for (place, node) in recent.nodes.all(commit).filter(|(place, _)| place.depth() < DEEP) {
        match node {
            Some(node) => nodes.insert(place.bytes().as_slice(), &node[..])?,
            None => nodes.remove(place.bytes().as_slice())?,
        };
    }
    drop(nodes);
    if view.base.meta.restoring && !view.meta.restoring {
        // Of whatever lay here before.
        txn.delete_table(ROOTS)?;
    }
    let mut roots = txn.open_table(ROOTS)?;
    for (height, root) in recent.roots.all(commit) {
        if let Some(root) = root {
            roots.insert(height, root)?;
        }
        roots.remove(height.saturating_sub(REMEMBERED))?;
    }
    drop(roots);
    txn.open_table(META)?.insert((), view.meta.encode().as_slice())?;
    txn.commit()?;
    Ok(())
}

/// Writes values and nodes, and in which buckets spaces have values. Returns what they take in memory.
fn write_rows(
    txn: &WriteTransaction,
    changes: impl Iterator<Item = Result<(Key, Option<Bytes>), StateError>>,
) -> Result<usize, StateError> {
    let (mut rows, mut spaces) = (txn.open_table(ROWS)?, txn.open_table(SPACES)?);
    let mut size = 0;
    for change in changes {
        let change = change?;
        size += recent::size(change.1.as_deref());
        match change {
            (key, Some(row)) => {
                if rows.insert(key, &row[..])?.is_none() && key[32] == VALUE {
                    let found = (*Row::read(&row)?.space, bucket(&path(&key)));
                    if spaces.get(found)?.is_none() {
                        spaces.insert(found, ())?;
                    }
                }
            }
            (key, None) => {
                let space = rows.remove(key)?.map(|row| Row::read(row.value()).map(|row| *row.space));
                if let (Some(space), VALUE) = (space, key[32]) {
                    let (space, bucket) = (space?, bucket(&path(&key)));
                    if !has_values(&rows, &space, bucket)? {
                        spaces.remove((space, bucket))?;
                    }
                }
            }
        }
    }
    Ok(size)
}

fn has_values(
    rows: &impl ReadableTable<Key, &'static [u8]>,
    space: &Space,
    bucket: Bucket,
) -> Result<bool, StateError> {
    for row in rows.range(key(&begin(bucket), 0)..=key(&end(bucket), VALUE))? {
        let (key, row) = row?;
        if key.value()[32] == VALUE && Row::read(row.value())?.space == space {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_the_paths_that_begin_like_it() {
        for (begin, last) in [([0, 0, 0], [0, 0, 0x3f]), ([7, 1, 0x40], [7, 1, 0x7f]), ([255, 255, 0xc0], [255; 3])] {
            let mut path = [0x55; 32];
            path[..3].copy_from_slice(&begin);
            assert_eq!((bucket(&path), &end(begin)[..3]), (begin, &last[..]));
            assert!([super::begin(begin), end(begin)].iter().all(|path| bucket(path) == begin));
            assert_eq!((&super::begin(begin)[3..], &end(begin)[3..]), (&[0; 29][..], &[255; 29][..]));
        }
    }
}
