//! Joins a replica, which knows no network, to the log of its cluster.

use crate::entries::EntryFile;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use phala_consensus::{Application, Block, LogHandle, Position, Recipient, Shape, Verdict};
use phala_primitives::{Coded, Finality, PublicKey};
use phala_replica::{EntryLog, Replica};
use std::{io, sync::Arc};

impl EntryLog for EntryFile {
    fn append(&self, height: u64, entry: &[u8]) -> io::Result<()> {
        EntryFile::append(self, height, entry)
    }

    fn read(&self, height: u64) -> io::Result<Option<Vec<u8>>> {
        EntryFile::read(self, height)
    }

    fn range(&self) -> Option<(u64, u64)> {
        EntryFile::range(self)
    }

    fn truncate(&self, from: u64) -> io::Result<()> {
        EntryFile::truncate(self, from)
    }

    fn sync(&self) -> io::Result<()> {
        EntryFile::sync(self)
    }
}

/// A replica as the application of its cluster's log.
pub(crate) struct LogApp {
    replica: Arc<Replica>,
    genesis: Block,
    log: RwLock<Option<LogHandle>>,
}

fn to_replica(block: &Block) -> phala_replica::Block {
    phala_replica::Block { header: block.header.clone(), body: block.body.clone() }
}

fn from_replica(block: phala_replica::Block) -> Block {
    Block { header: block.header, body: block.body }
}

fn position(at: Position) -> phala_replica::Position {
    phala_replica::Position { epoch: at.epoch, view: at.view, leader: at.leader, now_ms: at.now_ms }
}

impl LogApp {
    /// An application for a replica that has entered its epoch.
    pub(crate) fn new(replica: Arc<Replica>) -> Result<Self, Coded> {
        let genesis = from_replica(replica.genesis()?);
        Ok(Self { replica, genesis, log: RwLock::new(None) })
    }

    /// Lets the replica send to the other members, and stop taking part if it fails.
    pub(crate) fn attach(&self, log: LogHandle) {
        let sender = log.clone();
        self.replica.on_forward(move |message| {
            sender.send(Recipient::All, message);
        });
        *self.log.write() = Some(log);
    }
}

impl Application for LogApp {
    fn genesis(&self) -> Block {
        self.genesis.clone()
    }

    fn inspect(&self, block: &Block) -> Option<Shape> {
        let shape = self.replica.inspect(&to_replica(block))?;
        Some(Shape { height: shape.height, parent: shape.parent })
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        self.replica.ready()
    }

    fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block> {
        let ancestry: Vec<_> = ancestry.iter().map(to_replica).collect();
        self.replica.propose(position(at), &ancestry).map(from_replica)
    }

    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        let ancestry: Vec<_> = ancestry.iter().map(to_replica).collect();
        match self.replica.verify(position(at), &ancestry, &to_replica(block)) {
            phala_replica::Verdict::Accept => Verdict::Accept,
            phala_replica::Verdict::Reject => Verdict::Reject,
            phala_replica::Verdict::Later => Verdict::Later,
        }
    }

    fn finalized(&self, block: Block, finality: Finality) {
        if let Err(error) = self.replica.finalized(&to_replica(&block), &finality) {
            // A replica that cannot keep what is final must not vote on: the others do without it.
            tracing::error!(%error, "leaves the log of its cluster");
            if let Some(log) = &*self.log.read() {
                log.stop();
            }
        }
    }

    fn received(&self, _from: PublicKey, message: Bytes) {
        self.replica.received(&message, crate::service::now_ms());
    }
}
