//! Whoever takes the cluster's state instead of its log, and a reader, which follows without a vote.
//!
//! The reader's state is held against the members' at every step, and clients read from it what they otherwise read from
//! members. When no member remembers what it lacks, it takes the state in pieces, as a newcomer does.

use crate::{
    chain::{Chain, Stuck, stuck},
    cluster::{CLUSTER, ENGINE},
    disk::{Disk, Entries},
    history::{Event, History},
    plan::{Log, MEMBERS},
    served::Served,
};
use ed25519_dalek::SigningKey;
use futures::future::{Either, join_all, select};
use parking_lot::Mutex;
use phala_consensus::Sim;
use phala_keys::{ClusterKeys, KeyRequest, RecipientKey, SealedKeys};
use phala_primitives::{
    Code, PublicKey,
    records::{Anchor, ClusterRecord},
};
use phala_replica::{Answer, Config, Newcomer, Offer, Replica};
use phala_session::CertificateCache;
use std::{pin::pin, sync::Arc};

/// What the reader is called in the history: members, and the clone of one, have the numbers below.
const READER: u32 = MEMBERS as u32 + 1;
/// How far ahead a state is asked for, and how long it may take to be named.
const AHEAD_MS: u64 = 500;
const NAMED_MS: u64 = 3_000;
/// Pieces that are asked for at once.
const RUN: u16 = 512;
/// Rounds in which members may not remember what the reader lacks, before it takes the state.
const ROUNDS: usize = 8;

/// Takes the newest state that members offer, piece by piece from one or the other. Returns the disk that holds it, and the
/// entry above it of which the log is known to go on. `None`: nobody offers one now.
pub(crate) async fn take(
    sim: &Sim,
    served: &Served,
    newcomer: &Newcomer,
    (epoch, members, shown): (u64, &[PublicKey], &Anchor),
) -> Result<Option<(Disk, Anchor)>, Stuck> {
    let sent = sim.now_ms();
    let question = newcomer.ask_offer(epoch, sent + AHEAD_MS, sent).map_err(stuck)?;
    let mut found: Option<(Offer, Vec<Arc<Replica>>)> = None;
    let givers = served.members_now();
    let answers = join_all(givers.iter().map(|giver| hear(sim, giver, &question))).await;
    for (giver, answer) in givers.into_iter().zip(answers) {
        let Some(answer) = answer else { continue };
        let Ok(offer) = newcomer.offer(&answer, epoch, members, shown) else { continue };
        match &mut found {
            Some((best, givers)) if best.of() == offer.of() => givers.push(giver),
            Some(_) => {}
            None => found = Some((offer, vec![giver])),
        }
    }
    let Some((offer, givers)) = found else { return Ok(None) };
    let disk = Disk::default();
    let restore = newcomer.restore(&offer, disk.clone()).map_err(stuck)?;
    for giver in givers.iter().cycle() {
        let missing = restore.missing().map_err(stuck)?;
        let Some(first) = missing.first() else { break };
        let wanted = *first..first.saturating_add(RUN);
        let question = newcomer.ask_pieces(epoch, &offer, wanted, sim.now_ms()).map_err(stuck)?;
        let Some(answer) = hear(sim, giver, &question).await else { return Ok(None) };
        let pieces = newcomer.pieces(&answer).map_err(stuck)?;
        restore.put(&pieces).map_err(stuck)?;
        sim.sleep_ms(1).await;
    }
    newcomer.finish(&offer, restore).map_err(stuck)?;
    Ok(Some((disk, offer.named_by())))
}

/// What a member answers, as soon as it can.
async fn hear(sim: &Sim, giver: &Replica, question: &[u8]) -> Option<Vec<u8>> {
    let until = sim.now_ms() + NAMED_MS;
    loop {
        match giver.asked(question, sim.now_ms()).ok()? {
            Answer::Now(answer) => return Some(answer),
            Answer::Later(next) => {
                let left = until.checked_sub(sim.now_ms()).filter(|left| *left > 0)?;
                if let Either::Right(_) = select(next, pin!(sim.sleep_ms(left))).await {
                    return None;
                }
            }
        }
    }
}

/// What the key service gave, and to whom.
pub(crate) struct Released {
    pub(crate) sealed: SealedKeys,
    pub(crate) request: KeyRequest,
    pub(crate) recipient: RecipientKey,
}

impl Released {
    fn open(&self) -> Result<ClusterKeys, Stuck> {
        self.sealed.open(&self.request, &self.recipient).map_err(stuck)
    }
}

/// A worker without a vote.
pub(crate) struct Reader {
    pub(crate) sim: Sim,
    pub(crate) chain: Arc<Chain>,
    pub(crate) history: History,
    pub(crate) served: Arc<Served>,
    pub(crate) identity: SigningKey,
    /// Of the epoch in which it started.
    pub(crate) known: (u64, Vec<PublicKey>),
    pub(crate) replica: Mutex<Option<Arc<Replica>>>,
}

impl Reader {
    fn open(&self, disk: Disk) -> Result<Arc<Replica>, Stuck> {
        let keys = self.served.released(Released::open)?;
        let config = Config {
            genesis: self.chain.genesis,
            cluster: CLUSTER,
            identity: Arc::new(self.identity.clone()),
            validators: self.chain.validators(),
            keys,
            certificates: Arc::new(CertificateCache::new(16)),
            engine: ENGINE.clone().map_err(stuck)?,
            cache: Arc::default(),
            tick_ms: 100,
        };
        let replica = Replica::open(config, disk, Arc::new(Entries::default()), Some(&self.known));
        Ok(Arc::new(replica.map_err(stuck)?))
    }

    /// Its state, once it has one.
    pub(crate) fn replica(&self) -> Option<Arc<Replica>> {
        self.replica.lock().clone().filter(|replica| replica.applied().height > 0)
    }

    /// Follows the cluster to the end of the run.
    pub(crate) async fn follow(self: Arc<Self>) {
        let ended = self.steps().await;
        if let Err(error) = ended {
            self.history.add(self.sim.now_ms(), Event::Stuck { what: format!("the reader: {}", error.0) });
        }
    }

    async fn steps(&self) -> Result<(), Stuck> {
        *self.replica.lock() = Some(self.open(Disk::default())?);
        let mut behind = 0;
        loop {
            self.sim.sleep_ms(50 + self.sim.random() % 200).await;
            let Some(record) = self.chain.cluster(CLUSTER) else { continue };
            let Some((_, giver)) = self.served.any(&self.sim, None) else { continue };
            let Some(replica) = self.replica.lock().clone() else { continue };
            let now = self.sim.now_ms();
            if record.epoch > replica.newest_keys() {
                replica.learn(&self.served.released(Released::open)?).map_err(stuck)?;
            }
            // The chain may be ahead of the members.
            if record.epoch > replica.newest_keys() {
                continue;
            }
            let question = replica.ask_changes(record.epoch, now).map_err(stuck)?;
            match giver.asked(&question, now) {
                Ok(Answer::Now(answer)) if self.advance(&replica, &answer)? => behind = 0,
                Ok(Answer::Later(_)) => {}
                Ok(Answer::Now(_)) | Err(_) => behind += 1,
            }
            if behind >= ROUNDS {
                behind = 0;
                self.copy(&replica, &record).await?;
            }
        }
    }

    /// Applies what a member says. Whether it leads on.
    fn advance(&self, replica: &Replica, answer: &[u8]) -> Result<bool, Stuck> {
        let steps = replica.steps(answer).map_err(stuck)?;
        let members = self.served.members(Some(steps.epoch()));
        match replica.advance(&steps, &members) {
            Ok(height) => {
                replica.settle().map_err(stuck)?;
                let applied = replica.applied();
                let (log, member, digest, root) = (Log::Cluster, READER, applied.digest, Some(applied.root));
                self.history.add(self.sim.now_ms(), Event::Final { log, member, height, digest, root });
                Ok(true)
            }
            Err(error) if matches!(error.known(), Some(Code::OtherHistory | Code::BadFinality)) => Ok(false),
            Err(error) => Err(stuck(error)),
        }
    }

    async fn copy(&self, replica: &Replica, record: &ClusterRecord) -> Result<(), Stuck> {
        let members: Vec<_> = record.members.iter().map(|member| member.identity).collect();
        let of = (record.epoch, members.as_slice(), &record.checkpoint.anchor);
        if let Some((disk, _)) = take(&self.sim, &self.served, &replica.newcomer(), of).await? {
            *self.replica.lock() = Some(self.open(disk)?);
        }
        Ok(())
    }
}
