//! A replica as the application of its cluster's log, as the worker does it, with two additions: it tells the history
//! what it takes as final, and it takes chance out of the ciphertexts.

use crate::{
    history::{Event, History},
    lies,
    plan::MEMBERS,
    served::Served,
};
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use codec::{DecodeAll, Encode};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use phala_consensus::{Application, LogHandle, Recipient, Sim};
use phala_keys::Key;
use phala_primitives::{
    Block, Coded, EntryHeader, Finality, Position, PublicKey, Shape, Verdict, blake2_256,
    misbehaviour::{DoubleVote, Misbehaviour},
};
use phala_replica::Replica;
use std::sync::Arc;

/// How late a message may come a second time, in milliseconds.
const LATE_MS: u64 = 3_000;

/// Encrypts bodies again, under a nonce that follows from what they hold. A replica draws the nonce from the machine,
/// which no seed governs: the same seed would give other digests, and with them another run.
struct Sealer(LessSafeKey);

impl Sealer {
    /// `key` is that of the epoch's entries.
    fn new(key: &Key) -> Option<Self> {
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.expose()).ok()?)))
    }

    fn again(&self, block: &Block) -> Option<Block> {
        let mut header = EntryHeader::decode_all(&mut &*block.header).ok()?;
        let aad = || Aad::from(("phala/entry/v1", header.cluster, header.epoch, header.height).encode());
        let (nonce, text) = block.body.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let length = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad(), &mut text).ok()?.len();
        text.truncate(length);
        let place = (header.view, header.parent, header.time_ms);
        let hash = blake3::hash(&(place, &text).encode());
        let (nonce, _) = hash.as_bytes().split_first_chunk::<NONCE_LEN>()?;
        let tag = self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), aad(), &mut text).ok()?;
        let body = [&nonce[..], &text, tag.as_ref()].concat();
        header.body_hash = blake2_256(&body);
        Some(Block { header: header.encode().into(), body: body.into() })
    }
}

/// A replica in an epoch's log.
pub(crate) struct ReplicaApp {
    replica: Arc<Replica>,
    genesis: Block,
    sealer: Sealer,
    log: RwLock<Option<LogHandle>>,
    member: u32,
    sim: Sim,
    history: History,
    served: Arc<Served>,
}

impl ReplicaApp {
    /// An application for a replica that has entered its epoch, whose log has this key.
    pub(crate) fn new(
        replica: Arc<Replica>,
        key: &Key,
        member: usize,
        sim: &Sim,
        history: &History,
        served: &Arc<Served>,
    ) -> Result<Arc<Self>, Coded> {
        let genesis = replica.genesis()?;
        let sealer = Sealer::new(key).ok_or(phala_primitives::Code::Internal)?;
        let (log, member) = (RwLock::default(), member as u32);
        let (sim, history, served) = (sim.clone(), history.clone(), served.clone());
        Ok(Arc::new(Self { replica, genesis, sealer, log, member, sim, history, served }))
    }

    /// A place by the replica's own clock.
    fn at(&self, at: Position) -> Position {
        Position { now_ms: self.served.clock(self.member, at.now_ms), ..at }
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

impl Application for ReplicaApp {
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
        let block = self.sealer.again(&self.replica.propose(self.at(at), ancestry)?)?;
        if self.served.invents(self.member) { lies::block(&block) } else { Some(block) }
    }

    fn verify(&self, at: Position, ancestry: &[Block], block: &Block) -> Verdict {
        // To one with another state, the others' states are wrong.
        if self.served.invents(self.member) {
            return Verdict::Reject;
        }
        self.replica.verify(self.at(at), ancestry, block)
    }

    fn misbehaved(&self, proof: DoubleVote) {
        // A clone that keeps silent sees what it would have said beside what its original says, and tells nobody.
        if self.member as usize == MEMBERS {
            return;
        }
        if let Some(worker) = self.served.prove(Misbehaviour::Votes(proof)) {
            self.history.add(self.sim.now_ms(), Event::Proven { worker });
        }
    }

    fn finalized(&self, block: Block, finality: Finality) {
        self.served.certify(&block, &finality);
        let taken = self.replica.finalized(&block, &finality);
        let (now, log, member) = (self.sim.now_ms(), self.served.log(), self.member);
        let applied = self.replica.applied();
        // What lies behind the end of an epoch's log is no entry.
        if let Some(shape) = self.inspect(&block).filter(|shape| shape.height <= applied.height) {
            let root = (applied.height == shape.height && applied.digest == block.digest()).then_some(applied.root);
            self.history.add(now, Event::Final { log, member, height: shape.height, digest: block.digest(), root });
            self.history.add(now, Event::Height { log, member, height: applied.height });
        }
        let taken = taken.and_then(|()| self.replica.settle()).and_then(|()| self.replica.reseal().map(drop));
        if let Err(error) = taken {
            if !self.served.may_fail(member) {
                self.history.add(now, Event::Stuck { what: format!("replica {member} stopped: {error}") });
            }
            if let Some(log) = &*self.log.read() {
                log.stop();
            }
        }
    }

    fn received(&self, _from: PublicKey, message: Bytes) {
        let now = self.served.clock(self.member, self.sim.now_ms());
        self.replica.received(&message, now);
        if self.served.comes_twice(&self.sim) {
            let (replica, sim) = (self.replica.clone(), self.sim.clone());
            self.sim.spawn(async move {
                sim.sleep_ms(sim.random() % LATE_MS).await;
                replica.received(&message, sim.now_ms());
            });
        }
    }
}
