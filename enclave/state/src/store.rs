//! The store: commits by one writer, snapshots for many readers.

use crate::{
    Item, Snapshot, StateKeys,
    disk::{self, Base},
    recent::Recent,
    row::{Bytes, Row},
    sealed::{Plain, Sealed},
    snapshot::View,
    superblock,
    tree::{self, EMPTY_ROOT},
};
use codec::{Decode, Encode};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use phala_primitives::{Code, Coded, Hash};
use redb::{Database, StorageBackend};
use std::{
    collections::BTreeMap,
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

/// Memory for pages of the database, as soon as so much was written. Among ten million small values it holds all of the
/// tree but the leaves and the nodes above them.
const CACHE: usize = 256 << 20;
/// Changes when what is stored does.
pub(crate) const FORMAT: u32 = 7;
/// Format of files without key epochs.
const WITHOUT_EPOCHS: u32 = 3;
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

impl From<StateError> for Coded {
    fn from(error: StateError) -> Self {
        Self::new(error.code(), error.to_string())
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
    /// With the next [`State::settle`].
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
    /// The caller's.
    pub(crate) note: Vec<u8>,
    /// Whether pieces of it may be missing.
    pub(crate) restoring: bool,
}

impl Meta {
    pub(crate) const EMPTY: Self = Self {
        format: FORMAT,
        applied: Applied { height: 0, root: EMPTY_ROOT, digest: Hash::ZERO },
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

/// The state of a cluster, as one replica holds it.
pub struct State {
    db: Database,
    sealed: Arc<Sealed>,
    keys: StateKeys,
    /// The newest commit, shared by all readers.
    latest: RwLock<Snapshot>,
    durable: AtomicU64,
    writer: Mutex<()>,
    /// What is to be written to the disk, or being written.
    settling: Mutex<Option<Snapshot>>,
    /// Told when a part of that is written; `turn` is held between looking and waiting.
    written: Condvar,
    turn: Mutex<()>,
}

impl State {
    /// What is not on the disk should go there from so much memory on: see [`State::unsettled`]. The more it is, the more
    /// changes of one page are written at once.
    pub const MUCH: usize = 64 << 20;
    /// Commits should wait for the disk at so much: see [`State::make_room`].
    pub const MOST: usize = 160 << 20;

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
            disk::create(&db)?;
        }
        let base = Arc::new(Base::open(&db)?);
        let (meta, recent) = (base.meta.clone(), Arc::default());
        let latest =
            Snapshot(Arc::new(View { keys: keys.clone(), meta, commit: 0, written: 0, recent, older: None, base }));
        if tree::root(&latest)? != latest.applied().root {
            return Err(altered("its root is not that of its tree"));
        }
        let durable = AtomicU64::new(latest.applied().height);
        let (latest, writer, settling) = (RwLock::new(latest), Mutex::default(), Mutex::default());
        let (written, turn) = (Condvar::new(), Mutex::default());
        Ok(Self { db, sealed, keys, latest, durable, writer, settling, written, turn })
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
        self.replace(changed.chain(removed), durability, |before, root| {
            if !follows(before.applied.height) {
                return Err(StateError::Height { applied: before.applied.height, got: height });
            }
            Ok(Meta { format: FORMAT, applied: Applied { height, root, digest }, note, restoring: false })
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
    pub fn advance(&self, to: &Applied, changes: &[Change], note: Vec<u8>) -> Result<(), StateError> {
        self.replace(changes.iter().map(|change| change.write(&self.keys)), Durability::Fast, |before, root| {
            if before.applied.height >= to.height {
                return Err(StateError::Height { applied: before.applied.height, got: to.height });
            }
            if root != to.root {
                return Err(StateError::OtherRoot);
            }
            Ok(Meta { format: FORMAT, applied: *to, note, restoring: false })
        })?;
        Ok(())
    }

    /// Writes values and what `meta` makes of the description before and the tree's root, in one commit.
    pub(crate) fn replace<'a>(
        &self,
        writes: impl Iterator<Item = Write<'a>>,
        durability: Durability,
        meta: impl FnOnce(&Meta, Hash) -> Result<Meta, StateError>,
    ) -> Result<Hash, StateError> {
        let only = self.writer.lock();
        let before = self.snapshot();
        let update = Update::of(&before, writes)?;
        let (root, view) = (update.tree.root, &*before.0);
        let meta = meta(&view.meta, root)?;
        // Nothing fails from here on.
        let commit = view.commit + 1;
        if !meta.restoring {
            view.recent.roots.put(commit, meta.applied.height, Some(root.0));
        }
        update.put(&view.recent, commit);
        *self.latest.write() = Snapshot(Arc::new(View { meta, commit, ..view.clone() }));
        drop(only);
        if durability == Durability::Durable {
            self.settle(|| Ok::<_, StateError>(()))?;
        }
        Ok(root)
    }

    /// Memory that what is not on the disk takes, by estimate, in bytes. Whoever commits keeps it small by
    /// [`State::settle`].
    pub fn unsettled(&self) -> usize {
        let latest = self.snapshot();
        latest.0.recent.size() + latest.0.older.as_ref().map_or(0, |older| older.size())
    }

    /// Writes what was committed until now to the disk. Commits and readers go on meanwhile. `ready` is called before
    /// anything is written, when it is decided what will be.
    pub fn settle<E: From<StateError>>(&self, ready: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        self.settle_alone(self.settling.lock(), ready)
    }

    /// Waits until what is not on the disk takes less than so much memory: for whoever is writing it there, or writes it.
    pub fn make_room<E: From<StateError>>(
        &self,
        most: usize,
        mut ready: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let mut turn = self.turn.lock();
            if self.unsettled() < most {
                return Ok(());
            }
            match self.settling.try_lock() {
                Some(alone) => {
                    drop(turn);
                    self.settle_alone(alone, &mut ready)?;
                }
                // It tells at the end, at the latest.
                None => self.written.wait(&mut turn),
            }
        }
    }

    fn settle_alone<E: From<StateError>>(
        &self,
        mut settling: MutexGuard<'_, Option<Snapshot>>,
        mut ready: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let settled = loop {
            // An attempt that failed left something; newer commits come after that.
            let left = settling.is_some();
            if !left {
                *settling = self.freeze();
            }
            let Some(frozen) = &*settling else { break Ok(()) };
            if let Err(error) = ready().and_then(|()| Ok(self.write(frozen)?)) {
                break Err(error);
            }
            *settling = None;
            if !left {
                break Ok(());
            }
        };
        drop(settling);
        self.tell();
        settled
    }

    /// Wakes who waits for room.
    fn tell(&self) {
        // Who has the turn either waits already or has not looked yet.
        drop(self.turn.lock());
        self.written.notify_all();
    }

    /// Gives further commits a layer of their own, and returns the state that is to be written; `None` if all is.
    fn freeze(&self) -> Option<Snapshot> {
        let _only = self.writer.lock();
        let latest = self.snapshot();
        if latest.0.commit == latest.0.written {
            return None;
        }
        let (recent, older, written) = (Arc::default(), Some(latest.0.recent.clone()), latest.0.commit);
        *self.latest.write() = Snapshot(Arc::new(View { recent, older, written, ..View::clone(&latest.0) }));
        Some(latest)
    }

    /// Writes a state to the disk, and lets readers find it there.
    fn write(&self, frozen: &Snapshot) -> Result<(), StateError> {
        disk::write(&self.db, &frozen.0, || self.tell())?;
        let base = Arc::new(Base::open(&self.db)?);
        let only = self.writer.lock();
        let latest = self.snapshot();
        *self.latest.write() = Snapshot(Arc::new(View { base, older: None, ..View::clone(&latest.0) }));
        drop(only);
        self.durable.store(frozen.applied().height, Ordering::Release);
        Ok(())
    }
}

/// What a commit changes of what is stored.
struct Update {
    /// Rows by space and path.
    values: Vec<(Space, Path, Option<Bytes>)>,
    tree: tree::Update,
}

impl Update {
    fn of<'a>(before: &Snapshot, writes: impl Iterator<Item = Write<'a>>) -> Result<Self, StateError> {
        // Of several for one value the last counts.
        let writes: BTreeMap<Path, Write<'a>> = writes.map(|write| (write.path, write)).collect();
        let (mut values, mut leaves) = (vec![], vec![]);
        for (path, Write { space, value, .. }) in writes {
            let row = match value {
                Some((key, value)) => Some(Row { space: &space, key, value }.write()?),
                // What was not there is not in the tree either.
                None if !before.contains_path(&path)? => continue,
                None => None,
            };
            values.push((space, path, row));
            leaves.push((path, value.map(|(_, value)| before.0.keys.commitment(&space, &path, value))));
        }
        let tree = match leaves.is_empty() {
            true => tree::Update { root: before.applied().root, nodes: BTreeMap::new() },
            false => tree::update(before, leaves)?,
        };
        Ok(Self { values, tree })
    }

    fn put(self, recent: &Recent, commit: u64) {
        for (space, path, row) in self.values {
            recent.grow(row.as_deref());
            recent.spaces.put(commit, (space, path), row.clone());
            recent.values.put(commit, path, row);
        }
        for (place, node) in self.tree.nodes {
            recent.grow(node.as_deref());
            recent.nodes.put(commit, place, node.map(Bytes::from));
        }
    }
}
