//! The store: commits by one writer, snapshots for many readers.

use crate::{
    Item, Outline, StateKeys,
    outline::paths_of,
    sealed::{Plain, Sealed},
    superblock,
    tree::{self, EMPTY_ROOT, Nodes, Proof, Tree},
};
use codec::{Decode, Encode};
use jmt::KeyHash;
use parking_lot::{Mutex, RwLock};
use phala_primitives::{Code, Hash};
use redb::{Database, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Part of the key space: a contract's address, or one of the replica's own.
pub type Space = [u8; 32];
/// Where a value lies: the keyed hash of its space and key, the same at all replicas.
pub type Path = [u8; 32];
/// What a commit writes; `None` removes.
pub type Changes = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// Memory for pages of the database.
const CACHE: usize = 24 << 20;
/// Changes when what is stored does.
const FORMAT: u32 = 5;
/// Format of files without key epochs.
const WITHOUT_EPOCHS: u32 = 3;
/// [`Row`] by path.
const VALUES: TableDefinition<'static, [u8; 32], &'static [u8]> = TableDefinition::new("values");
const NODES: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("nodes");
const META: TableDefinition<'static, (), &'static [u8]> = TableDefinition::new("meta");
/// Space and path of every value, so that a space can be emptied.
const PATHS: TableDefinition<'static, [u8; 64], ()> = TableDefinition::new("paths");
const ROOTS: TableDefinition<'static, u64, [u8; 32]> = TableDefinition::new("roots");
/// Heights whose roots are remembered.
const REMEMBERED: u64 = 1 << 16;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file holds something that this store did not write, or wrote earlier.
    #[error("the state was altered, rolled back in part, or belongs to another cluster: {0}")]
    Altered(String),
    /// Changes of entries lead to another state than they should: this one does not lie below it.
    #[error("the changes lead to another root")]
    OtherRoot,
    /// The file was written by another version of this program.
    #[error("the state has format {0}, this program reads {FORMAT}")]
    Format(u32),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// A commit does not follow the one before it.
    #[error("height {got} does not follow {applied}")]
    Height {
        /// Height of the last commit.
        applied: u64,
        /// Height that was offered.
        got: u64,
    },
    /// The tree's library refused an update.
    #[error("the state tree failed: {0}")]
    Tree(String),
}

impl StateError {
    /// The code of the error.
    pub fn code(&self) -> Code {
        match self {
            Self::Format(_) => Code::UnknownFormat,
            Self::OtherRoot => Code::OtherHistory,
            Self::Altered(_) | Self::Disk(_) => Code::StorageFailed,
            Self::Height { .. } | Self::Tree(_) => Code::Internal,
        }
    }
}

pub(crate) fn altered(what: &str) -> StateError {
    StateError::Altered(what.into())
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::Altered(error.to_string()),
            _ => Self::Disk(error.to_string()),
        }
    }
}

impl From<redb::Error> for StateError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::Corrupted(what) => Self::Altered(what),
            other => Self::Disk(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for StateError {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(DatabaseError StorageError TransactionError TableError CommitError);

impl From<anyhow::Error> for StateError {
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|error| match error.downcast::<redb::StorageError>() {
            Ok(error) => error.into(),
            Err(error) => Self::Tree(error.to_string()),
        })
    }
}

/// The entry that a state is the result of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Applied {
    /// Height of the entry, 0 before the first.
    pub height: u64,
    /// Root of the state after it.
    pub root: Hash,
    /// Digest of the entry, zero before the first.
    pub digest: Hash,
}

/// How soon a commit has to survive the death of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// With the next durable commit.
    #[default]
    Fast,
    /// When `commit` returns: synced to the disk.
    Durable,
}

/// One commit: what one log entry changes.
#[derive(Debug, Default)]
pub struct Commit {
    /// Height of the entry: one more than the last, or anything above 0 on an empty store.
    pub height: u64,
    /// Digest of the entry.
    pub digest: Hash,
    /// What to write.
    pub changes: Changes,
    /// Values to remove besides, by space and [`Snapshot::paths`].
    pub removals: Vec<(Space, Path)>,
    /// Kept beside the state and not part of its root: see [`Snapshot::note`].
    pub note: Vec<u8>,
    /// Whether to wait for the disk.
    pub durability: Durability,
}

/// One value that changed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// It is there now.
    Set(Item),
    /// It is gone.
    Remove {
        /// Its space.
        space: Space,
        /// Its path.
        path: Path,
    },
}

impl Change {
    fn write(&self, keys: &StateKeys) -> Write<'_> {
        match self {
            Self::Set(item) => item.write(keys),
            Self::Remove { space, path } => Write::remove(*space, *path),
        }
    }
}

impl Item {
    /// What puts it there.
    pub(crate) fn write(&self, keys: &StateKeys) -> Write<'_> {
        Write::of(keys, &self.space, &self.key, Some(&self.value))
    }
}

#[derive(Clone, Encode, Decode)]
pub(crate) struct Meta {
    pub(crate) format: u32,
    pub(crate) applied: Applied,
    /// Version of the tree; `None` as long as nothing was ever written.
    pub(crate) version: Option<u64>,
    /// The caller's.
    pub(crate) note: Vec<u8>,
    /// Whether pieces of it may be missing.
    pub(crate) restoring: bool,
}

impl Meta {
    const EMPTY: Self = Self {
        format: FORMAT,
        applied: Applied { height: 0, root: EMPTY_ROOT, digest: Hash::ZERO },
        version: None,
        note: vec![],
        restoring: false,
    };
}

/// One value to be written.
pub(crate) struct Write<'a> {
    pub(crate) space: Space,
    pub(crate) path: Path,
    /// Its key and itself; `None` removes it.
    pub(crate) value: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Write<'a> {
    fn of(keys: &StateKeys, space: &Space, key: &'a [u8], value: Option<&'a [u8]>) -> Self {
        Self { space: *space, path: keys.path(space, key), value: value.map(|value| (key, value)) }
    }

    pub(crate) fn remove(space: Space, path: Path) -> Self {
        Self { space, path, value: None }
    }
}

/// A row of the values: space, length of the key (u16, little endian), key, value. The key is there for whoever goes
/// through a space, such as to take it to another cluster, where its paths are others.
struct Row<'a> {
    space: &'a Space,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, StateError> {
        let parts = || {
            let (space, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            Some(Self { space, key, value })
        };
        parts().ok_or_else(|| altered("a value is cut"))
    }

    fn write(&self, row: &mut Vec<u8>) -> Result<(), StateError> {
        let length = u16::try_from(self.key.len()).map_err(|_| StateError::Tree("a key is too long".into()))?;
        row.clear();
        row.extend_from_slice(self.space);
        row.extend_from_slice(&length.to_le_bytes());
        row.extend_from_slice(self.key);
        row.extend_from_slice(self.value);
        Ok(())
    }
}

/// The state at one height. Cheap to share, safe to read from many threads; it keeps the pages of its height from
/// being reused, so it should not be kept for long.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

struct View {
    keys: StateKeys,
    meta: Meta,
    values: ReadOnlyTable<[u8; 32], &'static [u8]>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    paths: ReadOnlyTable<[u8; 64], ()>,
    roots: ReadOnlyTable<u64, [u8; 32]>,
}

fn of_space(space: &Space, path: &Path) -> [u8; 64] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(space);
    both[32..].copy_from_slice(path);
    both
}

impl Snapshot {
    fn open(db: &Database, keys: &StateKeys) -> Result<Self, StateError> {
        let txn = db.begin_read()?;
        let stored = txn.open_table(META)?.get(())?.map(|row| row.value().to_vec());
        let stored = stored.ok_or_else(|| altered("it has no description"))?;
        let format = u32::decode(&mut stored.as_slice()).map_err(|_| altered("its description is cut"))?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        let meta = Meta::decode(&mut stored.as_slice()).map_err(|_| altered("its description is malformed"))?;
        let (values, nodes) = (txn.open_table(VALUES)?, txn.open_table(NODES)?);
        let (paths, roots) = (txn.open_table(PATHS)?, txn.open_table(ROOTS)?);
        Ok(Self(Arc::new(View { keys: keys.clone(), meta, values, nodes, paths, roots })))
    }

    /// The entry that this is the state after.
    pub fn applied(&self) -> Applied {
        self.0.meta.applied
    }

    /// The value of a key, if it has one.
    pub fn get(&self, space: &Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.at(&self.0.keys.path(space, key))
    }

    fn at(&self, path: &Path) -> Result<Option<Vec<u8>>, StateError> {
        self.0.values.get(path)?.map(|row| Ok(Row::read(row.value())?.value.to_vec())).transpose()
    }

    /// What the state looks like from afar.
    pub fn outline(&self) -> Result<Outline, StateError> {
        Outline::read(&self.0.nodes)
    }

    /// All values of a piece of the state, in order of their paths.
    pub fn piece(&self, piece: u16) -> Result<Vec<Item>, StateError> {
        let (first, last) = paths_of(piece);
        let mut items = vec![];
        for row in self.0.values.range(first..=last)? {
            let (_, stored) = row?;
            let Row { space, key, value } = Row::read(stored.value())?;
            items.push(Item { space: *space, key: key.to_vec(), value: value.to_vec() });
        }
        Ok(items)
    }

    /// Whether a key has a value.
    pub fn contains(&self, space: &Space, key: &[u8]) -> Result<bool, StateError> {
        Ok(self.0.values.get(self.0.keys.path(space, key))?.is_some())
    }

    /// What the last commit noted.
    pub fn note(&self) -> &[u8] {
        &self.0.meta.note
    }

    /// Root of the state after the entry of this height; `None` if that is long ago or yet to come.
    pub fn root_at(&self, height: u64) -> Result<Option<Hash>, StateError> {
        Ok(self.0.roots.get(height)?.map(|root| Hash(root.value())))
    }

    /// The first values of a space, at most `limit`, in an order that is the same at all replicas.
    pub fn paths(&self, space: &Space, limit: usize) -> Result<Vec<Path>, StateError> {
        let (first, last) = (of_space(space, &[0; 32]), of_space(space, &[255; 32]));
        let mut paths = vec![];
        for row in self.0.paths.range(first..=last)?.take(limit) {
            let mut path = [0; 32];
            path.copy_from_slice(&row?.0.value()[32..]);
            paths.push(path);
        }
        Ok(paths)
    }

    /// Values of a space that come after a path, or from the first, with their paths, in the order of these: until they
    /// have so many bytes, but one at least.
    pub fn items(&self, space: &Space, after: Option<&Path>, bytes: usize) -> Result<Vec<(Path, Item)>, StateError> {
        let from =
            after.map_or(Bound::Included(of_space(space, &[0; 32])), |path| Bound::Excluded(of_space(space, path)));
        let (mut items, mut size) = (vec![], 0);
        for row in self.0.paths.range::<[u8; 64]>((from, Bound::Included(of_space(space, &[255; 32]))))? {
            let mut path = [0; 32];
            path.copy_from_slice(&row?.0.value()[32..]);
            let stored = self.0.values.get(&path)?.ok_or_else(|| altered("a value is missing"))?;
            let Row { space, key, value } = Row::read(stored.value())?;
            size += key.len() + value.len();
            if size > bytes && !items.is_empty() {
                break;
            }
            items.push((path, Item { space: *space, key: key.to_vec(), value: value.to_vec() }));
        }
        Ok(items)
    }

    /// The values at [`Snapshot::paths`].
    pub fn values(&self, space: &Space, limit: usize) -> Result<Vec<Vec<u8>>, StateError> {
        let mut values = vec![];
        for path in self.paths(space, limit)? {
            values.extend(self.at(&path)?);
        }
        Ok(values)
    }

    /// Shows what a key holds to someone who knows the root and the keys.
    pub fn prove(&self, space: &Space, key: &[u8]) -> Result<Option<Proof>, StateError> {
        let Some(version) = self.0.meta.version else { return Ok(None) };
        let leaf = |path: &[u8; 32]| self.commitment(path);
        let nodes = Nodes { nodes: &self.0.nodes, leaf: &leaf };
        let path = self.0.keys.path(space, key);
        let (_, proof) = Tree::new(&nodes).get_with_proof(KeyHash(path), version)?;
        Ok(Some(Proof(proof)))
    }

    fn commitment(&self, path: &[u8; 32]) -> Result<Option<[u8; 32]>, StateError> {
        let Some(row) = self.0.values.get(path)? else { return Ok(None) };
        let Row { space, value, .. } = Row::read(row.value())?;
        Ok(Some(self.0.keys.commitment(space, path, value)))
    }

    /// Number of nodes of the tree that are stored.
    #[cfg(test)]
    pub(crate) fn node_count(&self) -> u64 {
        use redb::ReadableTableMetadata;
        self.0.nodes.len().unwrap()
    }
}

/// The state of a cluster, as one replica holds it.
pub struct State {
    db: Database,
    sealed: Arc<Sealed>,
    keys: StateKeys,
    /// The newest commit, shared by all readers.
    latest: RwLock<Snapshot>,
    durable: AtomicU64,
    writer: Mutex<()>,
}

impl State {
    /// Opens the store in a file of the host, or makes one if the file is empty. The whole content is checked.
    pub fn open(backend: impl StorageBackend, keys: StateKeys) -> Result<Self, StateError> {
        let state = Self::open_any(backend, keys)?;
        if state.snapshot().0.meta.restoring {
            return Err(altered("it was not restored to its end"));
        }
        Ok(state)
    }

    /// As [`State::open`], but it may be one that is not restored to its end.
    pub(crate) fn open_any(backend: impl StorageBackend, keys: StateKeys) -> Result<Self, StateError> {
        if superblock::is_without_epochs(&backend)? {
            return Err(StateError::Format(WITHOUT_EPOCHS));
        }
        let sealed = Arc::new(Sealed::open(backend, &keys)?);
        let plain = Plain(sealed.clone());
        let fresh = plain.len()? == 0;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(!fresh);
        let db = builder.create_with_backend(plain)?;
        if fresh {
            Self::create(&db)?;
        }
        let latest = Snapshot::open(&db, &keys)?;
        Self::check_root(&latest)?;
        let durable = AtomicU64::new(latest.applied().height);
        Ok(Self { db, sealed, keys, latest: RwLock::new(latest), durable, writer: Mutex::new(()) })
    }

    fn create(db: &Database) -> Result<(), StateError> {
        let mut txn = db.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.open_table(VALUES)?;
        txn.open_table(NODES)?;
        txn.open_table(PATHS)?;
        txn.open_table(ROOTS)?;
        txn.open_table(META)?.insert((), Meta::EMPTY.encode().as_slice())?;
        txn.commit()?;
        Ok(())
    }

    fn check_root(latest: &Snapshot) -> Result<(), StateError> {
        let Some(version) = latest.0.meta.version else { return Ok(()) };
        let leaf = |path: &[u8; 32]| latest.commitment(path);
        let nodes = Nodes { nodes: &latest.0.nodes, leaf: &leaf };
        let root = Tree::new(&nodes).get_root_hash(version)?;
        if root.0 != latest.applied().root.0 {
            return Err(altered("its root is not that of its tree"));
        }
        Ok(())
    }

    /// The entry that the newest state is the result of.
    pub fn applied(&self) -> Applied {
        self.latest.read().applied()
    }

    /// The newest state.
    pub fn snapshot(&self) -> Snapshot {
        self.latest.read().clone()
    }

    /// Height up to which the state survives the death of the process.
    pub fn durable_height(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Keys of the store.
    pub fn keys(&self) -> &StateKeys {
        &self.keys
    }

    /// Seals what is written from now on under the key of a newer epoch. What is there already is sealed anew by
    /// [`State::reseal`].
    pub fn rekey(&self, epoch: u64, value: &[u8; 32]) -> Result<(), StateError> {
        Ok(self.sealed.rekey(epoch, value)?)
    }

    /// Seals some of what is from earlier key epochs anew, and returns whether there is more to do; when there is not, the
    /// keys of these epochs are not needed any more. `needed` is an epoch whose keys the caller needs for what leads on from
    /// this state: see [`oldest_epoch`](crate::oldest_epoch).
    pub fn reseal(&self, needed: u64) -> Result<bool, StateError> {
        Ok(self.sealed.reseal(needed)?)
    }

    /// Applies one entry and returns the new root. On an error nothing has changed.
    pub fn commit(&self, commit: Commit) -> Result<Hash, StateError> {
        let Commit { height, digest, changes, removals, note, durability } = commit;
        let changed = changes.iter().map(|((space, key), value)| Write::of(&self.keys, space, key, value.as_deref()));
        let removed = removals.iter().map(|(space, path)| Write::remove(*space, *path));
        let follows = |last: u64| if last == 0 { height > 0 } else { last.checked_add(1) == Some(height) };
        self.replace(changed.chain(removed), durability, |before, version, root| {
            if !follows(before.applied.height) {
                return Err(StateError::Height { applied: before.applied.height, got: height });
            }
            Ok(Meta { format: FORMAT, applied: Applied { height, root, digest }, version, note, restoring: false })
        })
    }

    /// What a commit would change, for [`State::advance`] elsewhere.
    pub fn changes(&self, commit: &Commit) -> Vec<Change> {
        let changed = commit.changes.iter().map(|((space, key), value)| match value {
            Some(value) => Change::Set(Item { space: *space, key: key.clone(), value: value.clone() }),
            None => Change::Remove { space: *space, path: self.keys.path(space, key) },
        });
        let removed = commit.removals.iter().map(|(space, path)| Change::Remove { space: *space, path: *path });
        changed.chain(removed).collect()
    }

    /// Applies what entries up to one changed, in the order in which they did, if it leads to this very root.
    /// On an error nothing has changed.
    pub fn advance(
        &self,
        to: &Applied,
        changes: &[Change],
        note: Vec<u8>,
        durability: Durability,
    ) -> Result<(), StateError> {
        // A value that changed twice has one place in the tree.
        let writes = changes.iter().map(|change| change.write(&self.keys));
        let last: BTreeMap<Path, Write<'_>> = writes.map(|write| (write.path, write)).collect();
        self.replace(last.into_values(), durability, |before, version, root| {
            if before.applied.height >= to.height {
                return Err(StateError::Height { applied: before.applied.height, got: to.height });
            }
            if root != to.root {
                return Err(StateError::OtherRoot);
            }
            Ok(Meta { format: FORMAT, applied: *to, version, note, restoring: false })
        })?;
        Ok(())
    }

    /// Writes values and what `meta` makes of the description before, the tree's version and its root, in one commit.
    pub(crate) fn replace<'a>(
        &self,
        writes: impl Iterator<Item = Write<'a>>,
        durability: Durability,
        meta: impl FnOnce(&Meta, Option<u64>, Hash) -> Result<Meta, StateError>,
    ) -> Result<Hash, StateError> {
        let _only = self.writer.lock();
        let before = self.snapshot();
        let mut txn = self.db.begin_write()?;
        txn.set_durability(match durability {
            Durability::Fast => redb::Durability::None,
            Durability::Durable => redb::Durability::Immediate,
        })
        .map_err(|error| StateError::Disk(error.to_string()))?;
        // In one phase, the header may be written before what it leads to. Who is killed in between leaves a database
        // that finds out by reading what is not there; but a block that was never written cannot be opened.
        txn.set_two_phase_commit(true);
        let (root, version) = self.write(&txn, &before, writes)?;
        let meta = meta(&before.0.meta, version, root)?;
        let height = meta.applied.height;
        if !meta.restoring {
            if before.0.meta.restoring {
                // Of whatever lay here before.
                txn.delete_table(ROOTS)?;
            }
            let mut roots = txn.open_table(ROOTS)?;
            roots.insert(height, meta.applied.root.0)?;
            roots.remove(height.saturating_sub(REMEMBERED))?;
        }
        txn.open_table(META)?.insert((), meta.encode().as_slice())?;
        txn.commit()?;
        *self.latest.write() = Snapshot::open(&self.db, &self.keys)?;
        if durability == Durability::Durable {
            self.durable.store(height, Ordering::Release);
        }
        Ok(root)
    }

    /// Writes values and the tree above them; returns its root and version.
    fn write<'a>(
        &self,
        txn: &redb::WriteTransaction,
        before: &Snapshot,
        writes: impl Iterator<Item = Write<'a>>,
    ) -> Result<(Hash, Option<u64>), StateError> {
        let mut leaves = vec![];
        let (mut values, mut paths) = (txn.open_table(VALUES)?, txn.open_table(PATHS)?);
        let mut row = vec![];
        for Write { space, path, value } in writes {
            match value {
                Some((key, value)) => {
                    Row { space: &space, key, value }.write(&mut row)?;
                    if values.insert(path, row.as_slice())?.is_none() {
                        paths.insert(of_space(&space, &path), ())?;
                    }
                }
                None => {
                    // What was not there is not in the tree either.
                    if values.remove(path)?.is_none() {
                        continue;
                    }
                    paths.remove(of_space(&space, &path))?;
                }
            }
            let leaf = value.map(|(_, value)| self.keys.commitment(&space, &path, value).to_vec());
            leaves.push((KeyHash(path), leaf));
        }
        if leaves.is_empty() {
            return Ok((before.applied().root, before.0.meta.version));
        }
        let version = before.0.meta.version.map_or(0, |version| version + 1);
        let leaf = |path: &[u8; 32]| before.commitment(path);
        let nodes = Nodes { nodes: &before.0.nodes, leaf: &leaf };
        let (root, batch) = Tree::new(&nodes).put_value_set(leaves, version)?;
        tree::apply(&mut txn.open_table(NODES)?, &batch.node_batch, &batch.stale_node_index_batch)?;
        Ok((Hash(root.0), Some(version)))
    }
}
