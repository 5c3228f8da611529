//! From one epoch of the cluster to the next, while the worker serves.
//!
//! The chain plans an epoch when a member has started anew. Upon a plan to seal, the members finish the log with an entry
//! that names the next members, and one of them brings that entry to the chain, which starts the epoch; the old log runs
//! on until then, so that whoever is behind gets the rest of it from the others. Upon a plan to report, the log cannot go
//! on: this member leaves it for good, and tells the chain how far it got. Either way it enters the new epoch as soon as
//! it sees it on the chain and has got its keys, with the entries up to its floor from its peers, if it has missed any.
//! Commands that wait are ordered in the new epoch; queries are answered all the time.

use crate::{
    service::{Service, now_ms},
    start::{Keys, Start, blocking},
};
use codec::Encode;
use phala_client::{Call, Chain};
use phala_primitives::{
    Code, Coded,
    records::{self, ClusterRecord, Plan},
    storage,
};
use phala_replica::{Held, Replica};
use std::{sync::Arc, time::Duration};

/// How often a connection to the chain is tried again.
const RECONNECT: Duration = Duration::from_millis(500);
/// How often the keys of a new epoch are asked for before the chain is looked at again, and the time between.
const KEY_TRIES: usize = 10;
const KEYS_AGAIN: Duration = Duration::from_millis(100);
/// How long the entry that finishes the log may take before the chain is looked at again.
const SEALING: Duration = Duration::from_secs(2);
/// Heads of the chain after which the epoch is looked at, whether or not one was planned.
const LOOK: u32 = 8;
/// Heads that a member leaves to the one before it to bring the last entry to the chain.
const TURN: usize = 3;
/// How long it is one member's turn to show the chain a newer entry, in milliseconds: as long as two looks.
const CHECKPOINT_TURN_MS: u64 = 16_000;
/// Entries that the consensus of the epoch keeps for members that lag.
const BACKFILL: u64 = 1 << 16;
/// Blocks after which the chain is shown a newer entry. It costs nothing by then.
const CHECKPOINT: u32 = 12;

/// What came of a look at the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advance {
    /// It is a member of the present epoch.
    Stays,
    /// It was drained or replaced.
    Left,
}

/// Where this member stands in the epoch that it is in.
struct Seat<'a> {
    start: &'a Start,
    chain: &'a Arc<Chain>,
    keys: &'a Keys,
    service: &'a Arc<Service>,
    record: ClusterRecord,
    /// Heads since the log was seen to be finished.
    finished: usize,
    /// Whether it left the log and told the chain.
    reported: bool,
    /// Whether an epoch has begun of which it has no keys yet.
    lacks_keys: bool,
}

/// Follows the cluster through its epochs, until this worker is no member any more.
pub(crate) async fn follow(
    start: &Start,
    chain: &Arc<Chain>,
    keys: &Keys,
    record: ClusterRecord,
    service: &Arc<Service>,
) -> Result<(), Coded> {
    let mut seat = Seat { start, chain, keys, service, record, finished: 0, reported: false, lacks_keys: false };
    let mut planned = None;
    loop {
        let Ok(mut heads) = chain.heads().await else {
            tokio::time::sleep(RECONNECT).await;
            continue;
        };
        for count in 0u32.. {
            // A node that cannot be read now is asked at its next head.
            let plan = match chain.read::<Plan>(&storage::plan(start.cluster)).await {
                Ok(plan) => plan,
                Err(error) => {
                    tracing::debug!(%error, "the plan for the next epoch is not known");
                    None
                }
            };
            // What was planned has happened, or was given up; the next plan may follow in the same block.
            let asks_again = seat.reported || seat.lacks_keys;
            let due = plan != planned || (plan.is_none() && count % LOOK == 0) || asks_again;
            if due && seat.advance().await? == Advance::Left {
                return Ok(());
            }
            planned = plan;
            if let Some(plan) = &planned
                && let Err(error) = seat.act(plan).await
            {
                tracing::info!(%error, "the way to the next epoch is tried again");
            }
            if heads.next().await.is_err() {
                break;
            }
        }
    }
}

impl Seat<'_> {
    fn replica(&self) -> &Arc<Replica> {
        self.service.replica()
    }

    /// Does this member's part of a plan.
    async fn act(&mut self, plan: &Plan) -> Result<(), Coded> {
        match plan {
            Plan::Seal { members } => {
                let cluster = self.start.cluster;
                self.replica().seal(records::seal(cluster, self.record.epoch.saturating_add(1), members));
                let Some(held) = self.sealed().await? else { return Ok(()) };
                let place = self.record.members.iter().position(|member| member.worker == self.start.worker());
                let turn = if self.service.leads() { 0 } else { place.unwrap_or(0).saturating_add(1) * TURN };
                self.finished = self.finished.saturating_add(1);
                if self.finished <= turn {
                    return Ok(());
                }
                let call = Call::close(cluster, &held.proof.ok_or(Code::StorageFailed)?.encode());
                self.chain.submit(&self.start.config.account, &call).await.map(|_| ())
            }
            Plan::Report if !self.reported => self.report().await,
            Plan::Report => Ok(()),
        }
    }

    /// The entry that finished the log, if it comes within a while.
    async fn sealed(&self) -> Result<Option<Held>, Coded> {
        let replica = self.replica();
        let wait = async {
            loop {
                let next = replica.reached(replica.applied().height.saturating_add(1))?;
                if let Some(held) = replica.sealed()? {
                    return Ok(Some(held));
                }
                // Cancelled only with the replica.
                let _ = next.await;
            }
        };
        tokio::time::timeout(SEALING, wait).await.unwrap_or(Ok(None))
    }

    /// Leaves the log, which too few members are left to finish, and tells the chain how far this one got.
    async fn report(&mut self) -> Result<(), Coded> {
        self.leave().await;
        self.start.report(self.chain, self.replica()).await?;
        self.reported = true;
        Ok(())
    }

    async fn leave(&self) {
        if let Ok(log) = self.service.log() {
            log.stop();
            log.stopped().await;
        }
    }

    /// Goes on in the chain's epoch, if that is a newer one. Otherwise, when it is this member's turn, shows the chain how
    /// far the log has got.
    async fn advance(&mut self) -> Result<Advance, Coded> {
        let Ok(Some(record)) = self.chain.cluster(self.start.cluster).await else { return Ok(Advance::Stays) };
        if record.epoch > self.record.epoch {
            return self.enter(record).await;
        }
        self.prune(&record).await?;
        if !self.reported
            && let Err(error) = self.checkpoint(&record).await
        {
            tracing::info!(%error, "the checkpoint stays as it is");
        }
        Ok(Advance::Stays)
    }

    /// Lets go of old entries that the chain has seen the like of.
    async fn prune(&self, record: &ClusterRecord) -> Result<(), Coded> {
        let (replica, shown) = (self.replica().clone(), record.checkpoint.anchor.height);
        let below = blocking(move || replica.prune(shown)).await?;
        self.service.log()?.prune(below.saturating_sub(BACKFILL));
        Ok(())
    }

    async fn checkpoint(&self, record: &ClusterRecord) -> Result<(), Coded> {
        let replica = self.replica();
        let due = self.chain.head().0 >= record.checkpoint.block.saturating_add(CHECKPOINT);
        if !due || !replica.is_turn(0, CHECKPOINT_TURN_MS, now_ms()) {
            return Ok(());
        }
        let Some(proof) = replica.anchor()?.proof else { return Ok(()) };
        let height = proof.0.height;
        if height > record.checkpoint.anchor.height {
            let call = Call::checkpoint(self.start.cluster, &proof.encode());
            self.chain.submit(&self.start.config.account, &call).await?;
            tracing::info!(worker = %self.start.worker(), height, "showed the chain how far the log has got");
        }
        Ok(())
    }

    async fn enter(&mut self, record: ClusterRecord) -> Result<Advance, Coded> {
        if !record.members.iter().any(|member| member.worker == self.start.worker()) {
            self.leave().await;
            self.replica().leave();
            return Ok(Advance::Left);
        }
        if !record.members.iter().any(|member| member.identity == self.keys.public()) {
            return Err(Coded::new(Code::NotMember, format!("of epoch {}: start the worker again", record.epoch)));
        }
        let replica = self.replica().clone();
        if let Err(error) = self.learn(&replica, record.epoch).await {
            tracing::info!(epoch = record.epoch, %error, "gets no keys of the new epoch yet");
            self.lacks_keys = true;
            return Ok(Advance::Stays);
        }
        self.leave().await;
        self.start.take_seat(self.chain, &record, &replica).await?;
        let log = self.start.join(self.chain, self.keys, &record, &replica).await?;
        self.service.enter(log);
        tracing::info!(worker = %self.start.worker(), epoch = record.epoch, "goes on in another epoch");
        (self.record, self.finished, self.reported, self.lacks_keys) = (record, 0, false, false);
        Ok(Advance::Stays)
    }

    /// Gets the keys of a new epoch. The key service may see it begin a moment later.
    async fn learn(&self, replica: &Arc<Replica>, epoch: u64) -> Result<(), Coded> {
        let mut tries = 0;
        loop {
            let learned = self.start.learn(self.keys, replica, epoch).await;
            tries += 1;
            if learned.is_ok() || tries >= KEY_TRIES {
                return learned;
            }
            tokio::time::sleep(KEYS_AGAIN).await;
        }
    }
}
