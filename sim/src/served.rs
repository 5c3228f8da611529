//! The cluster as its clients see it: who can be asked, what is told, and what of that proves that somebody lies.

use crate::{
    chain::{Stuck, stuck},
    cluster::CLUSTER,
    copies::Released,
    lies,
    plan::{Log, MEMBERS},
};
use codec::DecodeAll;
use ed25519_dalek::SigningKey;
use parking_lot::Mutex;
use phala_consensus::Sim;
use phala_primitives::{
    Block, ClusterId, EntryHeader, Finality, Hash, PublicKey,
    misbehaviour::{Claim, Misbehaviour, WrongResult},
};
use phala_replica::Replica;
use phala_session::Answer;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// As fine as a share is given.
const PARTS: u64 = 1 << 20;

/// A receipt that a client was given.
type Told = (PublicKey, Claim, [u8; 64]);

/// What clients see of a cluster.
#[derive(Default)]
pub(crate) struct Served {
    /// Its number.
    pub(crate) id: ClusterId,
    replicas: Mutex<BTreeMap<usize, Arc<Replica>>>,
    members: Mutex<BTreeMap<u64, Vec<PublicKey>>>,
    /// The newest keys, for the reader.
    released: Mutex<Option<Released>>,
    /// The identity that each replica has now.
    identities: Mutex<BTreeMap<usize, PublicKey>>,
    /// Those that make up what they tell.
    inventors: Mutex<BTreeMap<usize, (Hash, SigningKey)>>,
    told: Mutex<Vec<Told>>,
    /// For each epoch and height, the entry with which a quorum confirmed the state there.
    certified: Mutex<BTreeMap<(u64, u64), (EntryHeader, Finality)>>,
    proofs: Mutex<Vec<Misbehaviour>>,
    /// By how much the clocks of replicas are wrong, in milliseconds.
    clocks: Mutex<BTreeMap<usize, i64>>,
    /// Replicas whose disks are full.
    failing: Mutex<BTreeSet<usize>>,
    /// Share of commands that come twice, in parts of [`PARTS`].
    twice: AtomicU64,
    /// The worker behind every identity that ever was.
    workers: Mutex<BTreeMap<PublicKey, u32>>,
}

impl Served {
    /// A cluster that does not answer yet.
    pub(crate) fn of(id: ClusterId) -> Self {
        Self { id, ..Self::default() }
    }

    /// What its log is called.
    pub(crate) fn log(&self) -> Log {
        if self.id == CLUSTER { Log::Cluster } else { Log::Neighbour }
    }

    /// A replica can be asked from now on.
    pub(crate) fn open(&self, member: usize, identity: PublicKey, replica: Arc<Replica>) {
        self.identities.lock().insert(member, identity);
        self.replicas.lock().insert(member, replica);
    }

    /// This is an identity of that worker.
    pub(crate) fn name(&self, identity: PublicKey, worker: u32) {
        self.workers.lock().insert(identity, worker);
    }

    /// Has a share of commands come twice, from 0 to 1.
    pub(crate) fn repeat(&self, share: f64) {
        self.twice.store((share * PARTS as f64) as u64, Ordering::SeqCst);
    }

    /// Whether this one comes twice.
    pub(crate) fn comes_twice(&self, sim: &Sim) -> bool {
        let twice = self.twice.load(Ordering::SeqCst);
        twice > 0 && sim.random() % PARTS < twice
    }

    /// What a replica's clock shows.
    pub(crate) fn clock(&self, member: u32, now_ms: u64) -> u64 {
        let by = self.clocks.lock().get(&(member as usize)).copied().unwrap_or(0);
        now_ms.saturating_add_signed(by)
    }

    /// Sets a replica's clock wrong by so many milliseconds.
    pub(crate) fn set_clock(&self, member: usize, by_ms: i64) {
        self.clocks.lock().insert(member, by_ms);
    }

    /// A replica will stop, and is right to.
    pub(crate) fn expect_fault(&self, member: usize) {
        self.failing.lock().insert(member);
    }

    /// Whether a replica is right to stop.
    pub(crate) fn may_fail(&self, member: u32) -> bool {
        self.failing.lock().contains(&(member as usize))
    }

    /// A replica is gone, and what it was besides.
    pub(crate) fn close(&self, member: usize) {
        self.failing.lock().remove(&member);
        self.replicas.lock().remove(&member);
        self.inventors.lock().remove(&member);
    }

    /// The key service gives the reader the keys of a new epoch.
    pub(crate) fn release(&self, keys: Released) {
        *self.released.lock() = Some(keys);
    }

    /// The newest keys, opened.
    pub(crate) fn released<T>(&self, open: impl FnOnce(&Released) -> Result<T, Stuck>) -> Result<T, Stuck> {
        self.released.lock().as_ref().ok_or_else(|| stuck("no keys for the reader")).and_then(open)
    }

    /// An epoch begins.
    pub(crate) fn begin(&self, epoch: u64, members: Vec<PublicKey>) {
        self.members.lock().insert(epoch, members);
    }

    /// A replica makes up what it tells from now on.
    pub(crate) fn invent(&self, member: usize, genesis: Hash, identity: SigningKey) {
        self.inventors.lock().insert(member, (genesis, identity));
    }

    /// Whether a replica makes up what it tells.
    pub(crate) fn invents(&self, member: u32) -> bool {
        self.inventors.lock().contains_key(&(member as usize))
    }

    /// What a replica makes of the true answer. Clients keep what it signed.
    pub(crate) fn tell(&self, member: usize, answer: Answer, command: &Hash) -> Answer {
        let answer = match self.inventors.lock().get(&member) {
            Some((genesis, identity)) => lies::answer(answer, command, genesis, identity),
            None => answer,
        };
        let claim = match &answer {
            Answer::Query { receipt, .. } => Some((Claim::Query(receipt.claim.clone()), receipt.signature)),
            Answer::Command { receipt, .. } => {
                Some((Claim::Command(Box::new(receipt.claim(command))), receipt.signature))
            }
            _ => None,
        };
        if let Some(identity) = self.identities.lock().get(&member)
            && let Some((claim, signature)) = claim
        {
            self.told.lock().push((*identity, claim, signature));
        }
        answer
    }

    /// An entry is final, and with it what it says of a state.
    pub(crate) fn certify(&self, block: &Block, finality: &Finality) {
        if let Ok(header) = EntryHeader::decode_all(&mut &*block.header) {
            let key = (header.epoch, header.executed.height);
            self.certified.lock().entry(key).or_insert_with(|| (header, finality.clone()));
        }
    }

    /// There is proof against somebody. Returns the worker.
    pub(crate) fn prove(&self, proof: Misbehaviour) -> Option<u32> {
        let worker = self.workers.lock().get(&proof.identity()).copied();
        self.proofs.lock().push(proof);
        worker
    }

    /// What convicts an identity: votes, or a receipt that contradicts a quorum.
    pub(crate) fn proof(&self, guilty: &PublicKey) -> Option<Misbehaviour> {
        if let Some(votes) = self.proofs.lock().iter().find(|proof| proof.identity() == *guilty) {
            return Some(votes.clone());
        }
        let (told, certified) = (self.told.lock(), self.certified.lock());
        told.iter()
            .filter(|(identity, ..)| identity == guilty)
            .find_map(|(identity, claim, signature)| {
                let (_, epoch, height) = claim.place();
                let (header, finality) = certified.get(&(epoch, height))?;
                let other = height > 0 && header.executed.state_root != claim.state_root();
                let (header, finality) = (header.clone(), finality.clone());
                other.then(|| WrongResult {
                    identity: *identity,
                    claim: claim.clone(),
                    signature: *signature,
                    header,
                    finality,
                })
            })
            .map(|result| Misbehaviour::Result(Box::new(result)))
    }

    /// A replica that is up, by chance, but not the one named if there is another.
    pub(crate) fn any(&self, sim: &Sim, but: Option<usize>) -> Option<(usize, Arc<Replica>)> {
        let replicas = self.replicas.lock();
        let mut all: Vec<_> = replicas.iter().collect();
        if all.len() > 1 {
            all.retain(|(member, _)| Some(**member) != but);
        }
        let at = usize::try_from(sim.random() % all.len().max(1) as u64).unwrap_or(0);
        all.get(at).map(|(member, replica)| (**member, (*replica).clone()))
    }

    /// All members that are up; not the clone of one.
    pub(crate) fn members_now(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().range(..MEMBERS).map(|(_, replica)| replica.clone()).collect()
    }

    /// This replica, if it is up.
    pub(crate) fn get(&self, member: usize) -> Option<Arc<Replica>> {
        self.replicas.lock().get(&member).cloned()
    }

    /// The identities that vote in an epoch, as the chain has them; in the newest, if none is named.
    pub(crate) fn members(&self, epoch: Option<u64>) -> Vec<PublicKey> {
        let members = self.members.lock();
        let newest = members.last_key_value().map(|(epoch, _)| *epoch);
        epoch.or(newest).and_then(|epoch| members.get(&epoch).cloned()).unwrap_or_default()
    }

    /// All replicas; fails if one is not up.
    pub(crate) fn all(&self) -> Result<Vec<Arc<Replica>>, Stuck> {
        let all: Vec<_> = self.replicas.lock().values().cloned().collect();
        if all.len() == MEMBERS { Ok(all) } else { Err(stuck("a replica does not run")) }
    }
}
