//! The application as marshal sees it: paces proposals, gathers their ancestry, and hands both to the caller's task.

use crate::{
    Application, Pacing,
    block::{Digest, Item, Rules},
    caller::Call,
    eager::Seen,
};
use commonware_consensus::{
    Block as _, Heightable as _,
    marshal::ancestry::Ancestry,
    simplex::{scheme::ed25519::Scheme, types::Context},
};
use commonware_cryptography::{Digested, Digestible as _, ed25519};
use commonware_macros::select;
use commonware_runtime::{Clock, Metrics, Spawner};
use futures::{StreamExt as _, future::pending};
use parking_lot::Mutex;
use phala_primitives::{Position, Verdict};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a judgement of `Later` rests when no block becomes final meanwhile.
const RETRY: Duration = Duration::from_millis(25);

#[derive(Clone)]
pub(crate) struct Glue {
    pub(crate) app: Arc<dyn Application>,
    pub(crate) rules: Rules,
    pub(crate) seen: Seen,
    pub(crate) calls: mpsc::UnboundedSender<Call>,
    pub(crate) taken: watch::Receiver<u64>,
    pub(crate) pacing: Pacing,
    /// When the last proposal was made or first seen here.
    pub(crate) last: Arc<Mutex<SystemTime>>,
}

type Ctx = Context<Digest, ed25519::PublicKey>;

impl Glue {
    fn at(context: &Ctx) -> Position {
        let mut leader = [0; 32];
        leader.copy_from_slice(context.leader.as_ref());
        // The clock is read when the call is made.
        Position { epoch: context.round.epoch().get(), view: context.round.view().get(), leader, now_ms: 0 }
    }

    /// Blocks from the child of the last that the application has taken, or from that itself, up to the parent.
    async fn gather(&self, ancestry: &mut impl Ancestry<Item>) -> Vec<Digested<Item>> {
        let mut blocks = Vec::new();
        while let Some(block) = ancestry.next().await {
            let height = block.height().get();
            blocks.push(block);
            if height <= self.taken.borrow().saturating_add(1) {
                break;
            }
        }
        blocks.reverse();
        blocks
    }

    /// Waits until it is time to propose.
    async fn pace(&self, clock: &impl Clock) {
        let last = *self.last.lock();
        clock.sleep_until(last + self.pacing.min_interval).await;
        let idle = clock.sleep_until(last + self.pacing.heartbeat);
        select! {
            _ = self.app.ready() => {},
            _ = idle => {},
        }
    }
}

impl<E: Spawner + Metrics + Clock> commonware_consensus::Application<E> for Glue {
    type SigningScheme = Scheme;
    type Context = Ctx;
    type Block = Item;
    type Input = ();

    async fn propose(
        &mut self,
        (clock, context): (E, Ctx),
        mut ancestry: impl Ancestry<Item>,
        _: (),
    ) -> Option<Digested<Item>> {
        tracing::trace!(view = %context.round.view(), "asked to propose");
        self.pace(&clock).await;
        let blocks = self.gather(&mut ancestry).await;
        let parent = blocks.last()?.clone();
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Propose { at: Self::at(&context), ancestry: blocks, reply }).ok()?;
        let block = answer.await.ok()??;
        *self.last.lock() = clock.current();
        let block = self.rules.admit(block);
        let fits = block
            .as_ref()
            .is_some_and(|b| b.parent() == parent.digest() && b.height().previous() == Some(parent.height()));
        if !fits {
            tracing::error!("the application proposed a block that it would refuse itself, or on another parent");
            return None;
        }
        block.inspect(|block| self.seen.insert(block))
    }

    async fn verify(&mut self, (clock, context): (E, Ctx), mut ancestry: impl Ancestry<Item>) -> bool {
        tracing::trace!(view = %context.round.view(), "asked to verify");
        let Some(block) = ancestry.next().await else { return pending().await };
        self.seen.insert(&block);
        *self.last.lock() = clock.current();
        let blocks = self.gather(&mut ancestry).await;
        let at = Self::at(&context);
        loop {
            let mut taken = self.taken.clone();
            taken.mark_unchanged();
            let (reply, answer) = oneshot::channel();
            let call = Call::Verify { at, ancestry: blocks.clone(), block: block.clone(), reply };
            let sent = self.calls.send(call).is_ok();
            match (sent, answer.await) {
                (true, Ok(Verdict::Accept)) => return true,
                (true, Ok(Verdict::Reject)) => return false,
                (true, Ok(Verdict::Later)) => {}
                // The log is stopping: a vote must not be told from a missing answer.
                _ => return pending().await,
            }
            select! {
                _ = taken.changed() => {},
                _ = clock.sleep(RETRY) => {},
            }
        }
    }
}
