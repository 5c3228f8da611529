//! Blocks, certificates and trie nodes on disk, in one redb database.
//!
//! All that a finalised block changes is written in ONE transaction, so that a crash leaves the state after one block
//! or after the next, never between.
//!
//! Trie nodes lie under `prefix ++ hash`, where the prefix is the node's path: so a node occurs once, and needs no
//! count of references. What a block removes from the trie is only put on a journal, with the block's height as the
//! node's doom; when the block is `keep` heights old, the nodes whose doom is still that height are deleted. A node
//! that is inserted again before then loses its doom. Nodes of the genesis state are pinned: light clients start from
//! it. With `keep = None` nothing is deleted and every state can be read (an archive).

use crate::{error::NodeError, trie::Delta};
use codec::{Decode, DecodeAll, Encode};
use phala_primitives::{Finality, Hash};
use phala_rpc::BlockId;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const FORMAT: u32 = 1;
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const HEADERS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("headers");
const BODIES: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("bodies");
const FINALITY: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("finality");
const HASHES: TableDefinition<u32, [u8; 32]> = TableDefinition::new("hashes");
const NODES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("nodes");
const PINNED: TableDefinition<&[u8], ()> = TableDefinition::new("pinned");
const DOOMED: TableDefinition<&[u8], u32> = TableDefinition::new("doomed");
const JOURNAL: TableDefinition<u32, &[u8]> = TableDefinition::new("journal");

/// Trie nodes as of when this was opened.
pub(crate) type NodeTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A finalised block, ready to be written.
pub(crate) struct Commit<'a> {
    pub(crate) number: u32,
    pub(crate) hash: Hash,
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) finality: &'a Finality,
    pub(crate) delta: &'a Delta,
}

/// The database. See the module's documentation.
pub(crate) struct Store {
    database: Database,
    keep: Option<u32>,
}

impl Store {
    /// Opens or makes the database in a folder, or in memory if there is none. `cache` is in bytes.
    pub(crate) fn open(folder: Option<&Path>, keep: Option<u32>, cache: usize) -> Result<Self, NodeError> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache);
        let database = match folder {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(NodeError::Folder)?;
                builder.create(folder.join("chain.redb"))
            }
            None => builder.create_with_backend(redb::backends::InMemoryBackend::new()),
        };
        Ok(Self { database: database.map_err(redb::Error::from)?, keep })
    }

    /// Checks the format and returns the genesis hash, or `None` if the store is new.
    pub(crate) fn genesis(&self) -> Result<Option<Hash>, NodeError> {
        let Some(found) = self.meta::<u32>("format")? else { return Ok(None) };
        if found != FORMAT {
            return Err(NodeError::Format { found, expected: FORMAT });
        }
        self.hash(0)
    }

    fn meta<T: Decode>(&self, name: &str) -> Result<Option<T>, NodeError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let table = match read.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(redb::Error::from)?,
        };
        let value = table.get(name).map_err(redb::Error::from)?;
        value.map(|value| decoded(value.value(), "meta")).transpose()
    }

    /// Writes a block and all that it changes.
    pub(crate) fn commit(&self, commit: &Commit<'_>) -> Result<(), NodeError> {
        Ok(self.write(commit)?)
    }

    fn write(&self, commit: &Commit<'_>) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let key = commit.hash.0;
            write.open_table(HEADERS)?.insert(key, commit.header)?;
            write.open_table(BODIES)?.insert(key, commit.body)?;
            write.open_table(FINALITY)?.insert(key, commit.finality.encode().as_slice())?;
            write.open_table(HASHES)?.insert(commit.number, key)?;
            let mut meta = write.open_table(META)?;
            meta.insert("format", FORMAT.encode().as_slice())?;
            meta.insert("head", commit.number.encode().as_slice())?;
            self.write_nodes(&write, commit)?;
        }
        write.commit()?;
        Ok(())
    }

    fn write_nodes(&self, write: &redb::WriteTransaction, commit: &Commit<'_>) -> Result<(), redb::Error> {
        let (mut nodes, mut doomed) = (write.open_table(NODES)?, write.open_table(DOOMED)?);
        let (mut pinned, mut journal) = (write.open_table(PINNED)?, write.open_table(JOURNAL)?);
        for (key, value) in &commit.delta.inserted {
            nodes.insert(key.as_slice(), value.as_slice())?;
            doomed.remove(key.as_slice())?;
            if commit.number == 0 {
                pinned.insert(key.as_slice(), ())?;
            }
        }
        let Some(keep) = self.keep else { return Ok(()) };
        let mut removed = vec![];
        for key in &commit.delta.removed {
            if pinned.get(key.as_slice())?.is_none() {
                doomed.insert(key.as_slice(), commit.number)?;
                removed.push(key);
            }
        }
        journal.insert(commit.number, removed.encode().as_slice())?;
        let Some(due) = commit.number.checked_sub(keep) else { return Ok(()) };
        let Some(keys) = journal.remove(due)?.map(|keys| keys.value().to_vec()) else { return Ok(()) };
        for key in Vec::<Vec<u8>>::decode(&mut keys.as_slice()).unwrap_or_default() {
            if doomed.get(key.as_slice())?.is_some_and(|doom| doom.value() == due) {
                doomed.remove(key.as_slice())?;
                nodes.remove(key.as_slice())?;
            }
        }
        Ok(())
    }

    /// The newest finalised block; there is one as soon as the genesis is written.
    pub(crate) fn head(&self) -> Result<BlockId, NodeError> {
        let number = self.meta::<u32>("head")?.ok_or(NodeError::Damaged("no head"))?;
        let hash = self.hash(number)?.ok_or(NodeError::Damaged("no hash of the head"))?;
        Ok(BlockId { number, hash })
    }

    /// Hash of the block at a height.
    pub(crate) fn hash(&self, number: u32) -> Result<Option<Hash>, NodeError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let table = read.open_table(HASHES).map_err(redb::Error::from)?;
        Ok(table.get(number).map_err(redb::Error::from)?.map(|hash| Hash(hash.value())))
    }

    fn bytes(
        &self,
        table: TableDefinition<'static, [u8; 32], &'static [u8]>,
        hash: &Hash,
    ) -> Result<Option<Vec<u8>>, NodeError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let table = read.open_table(table).map_err(redb::Error::from)?;
        Ok(table.get(hash.0).map_err(redb::Error::from)?.map(|bytes| bytes.value().to_vec()))
    }

    /// Encoded header of a block.
    pub(crate) fn header(&self, hash: &Hash) -> Result<Option<Vec<u8>>, NodeError> {
        self.bytes(HEADERS, hash)
    }

    /// Encoded body of a block.
    pub(crate) fn body(&self, hash: &Hash) -> Result<Option<Vec<u8>>, NodeError> {
        self.bytes(BODIES, hash)
    }

    /// Certificate over this very block, if it has one: some are final only through a descendant's.
    pub(crate) fn finality(&self, hash: &Hash) -> Result<Option<Finality>, NodeError> {
        self.bytes(FINALITY, hash)?.map(|bytes| decoded(&bytes, "finality")).transpose()
    }

    /// Trie nodes as of now.
    pub(crate) fn nodes(&self) -> Result<NodeTable, NodeError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        Ok(read.open_table(NODES).map_err(redb::Error::from)?)
    }

    /// Whether the state after the block at this height is kept, when the head is at `head`.
    pub(crate) fn keeps(&self, number: u32, head: u32) -> bool {
        number == 0 || self.keep.is_none_or(|keep| head.saturating_sub(number) < keep)
    }
}

fn decoded<T: Decode>(bytes: &[u8], what: &'static str) -> Result<T, NodeError> {
    T::decode_all(&mut &*bytes).map_err(|_| NodeError::Damaged(what))
}
