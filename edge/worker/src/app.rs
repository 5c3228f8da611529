//! Joins a replica, which knows no network, to the log of its cluster.

use crate::{entries::EntryFile, service::ChainHead};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use phala_consensus::{Application, LogHandle, Recipient};
use phala_primitives::{Block, Coded, Finality, Position, PublicKey, Shape, Verdict, misbehaviour::DoubleVote};
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

    fn prune(&self, below: u64) -> io::Result<()> {
        EntryFile::prune(self, below)
    }

    fn sync(&self) -> io::Result<()> {
        EntryFile::sync(self)
    }
}

/// A replica as the application of its cluster's log.
pub(crate) struct LogApp {
    replica: Arc<Replica>,
    head: Arc<ChainHead>,
    genesis: Block,
    log: RwLock<Option<LogHandle>>,
    blame: Box<dyn Fn(DoubleVote) + Send + Sync>,
}

impl LogApp {
    /// An application for a replica that has entered its epoch. `blame` is told of members that vote against
    /// themselves, and must not block.
    pub(crate) fn new(
        replica: Arc<Replica>,
        head: Arc<ChainHead>,
        blame: impl Fn(DoubleVote) + Send + Sync + 'static,
    ) -> Result<Self, Coded> {
        let genesis = replica.genesis()?;
        Ok(Self { replica, head, genesis, log: RwLock::new(None), blame: Box::new(blame) })
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
        self.replica.inspect(block)
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        self.replica.ready()
    }

    fn propose(&self, at: Position, ancestry: &[Block]) -> Option<Block> {
        // A leader that has lost the chain does not know whether the log is to end. Others may lead.
        self.head.fresh().ok()?;
        self.replica.propose(at, ancestry)
    }

    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        self.replica.verify(at, ancestry, block)
    }

    fn finalized(&self, block: Block, finality: Finality) {
        if let Err(error) = self.replica.finalized(&block, &finality) {
            // A replica that cannot keep what is final must not vote on: the others do without it.
            tracing::error!(%error, "leaves the log of its cluster");
            if let Some(log) = &*self.log.read() {
                log.stop();
            }
        }
    }

    fn misbehaved(&self, proof: DoubleVote) {
        (self.blame)(proof);
    }

    fn received(&self, _from: PublicKey, message: Bytes) {
        self.replica.received(&message, crate::service::now_ms());
    }
}
