//! Parts of queries, asked by one member of another.
//!
//! A query that splits its work sees one state, and so must its parts. A member that is asked for a part names the root
//! of that state; whoever holds it now keeps it for a while ([`Kept`]), so that further parts find it although the log
//! goes on. Whoever does not refuses, and the part is computed where the query runs.
//!
//! The member that asks believes the answer as a client believes that of a query: on the word of one enclave of the
//! cluster.

use crate::{Replica, world::Layer};
use lru::LruCache;
use parking_lot::Mutex;
use phala_primitives::{AccountId, Code, Coded, Hash};
use phala_session::{Answer, Output, PartQuery};
use phala_state::Snapshot;
use phala_vm::{BlockInfo, Caller, Part};
use std::{num::NonZeroUsize, sync::Arc};

/// Most states that are kept for parts.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(4).unwrap();
/// How long a state is kept after a part asked for it, in milliseconds.
const KEPT_MS: u64 = 10_000;

/// States that parts of queries are about, by their roots, and when they were last asked for.
pub(crate) struct Kept(Mutex<LruCache<Hash, (Snapshot, u64)>>);

impl Default for Kept {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_KEPT)))
    }
}

impl Kept {
    /// The state of this root, if it is kept or is the present one.
    fn find(&self, root: Hash, present: impl FnOnce() -> Snapshot, now_ms: u64) -> Option<Snapshot> {
        let mut kept = self.0.lock();
        expire(&mut kept, now_ms);
        if let Some((snapshot, asked_ms)) = kept.get_mut(&root) {
            *asked_ms = now_ms;
            return Some(snapshot.clone());
        }
        let present = present();
        if present.applied().root != root {
            return None;
        }
        kept.put(root, (present.clone(), now_ms));
        Some(present)
    }

    /// Lets go of states that nobody asks for any more: they keep pages of the store from being used again.
    pub(crate) fn expire(&self, now_ms: u64) {
        expire(&mut self.0.lock(), now_ms);
    }
}

fn expire(kept: &mut LruCache<Hash, (Snapshot, u64)>, now_ms: u64) {
    while kept.peek_lru().is_some_and(|(_, (_, asked_ms))| asked_ms.saturating_add(KEPT_MS) <= now_ms) {
        kept.pop_lru();
    }
}

impl Replica {
    /// Answers a part of another member's query. Blocks the thread for as long as the contract runs.
    ///
    /// Errors: `NotMember`; `WrongState` if this replica does not hold the state; otherwise those of the contract.
    pub fn part(&self, account: &AccountId, query: PartQuery, now_ms: u64, caller: &Caller) -> Result<Answer, Coded> {
        self.ready_epoch()?;
        if !self.entries.checker.is_member(account) {
            return Err(Coded::new(Code::NotMember, "only members ask for parts of queries"));
        }
        let snapshot = self.kept.find(query.root, || self.state.snapshot(), now_ms);
        let snapshot = snapshot.ok_or_else(|| Coded::new(Code::WrongState, format!("of height {}", query.height)))?;
        let world = Arc::new(Layer::for_queries(snapshot));
        let most = world.policy()?.query_ms;
        let part = Part {
            account: query.account,
            contract: query.contract,
            origin: query.origin,
            data: query.data,
            block: BlockInfo { height: query.height, time_ms: query.time_ms, index: 0 },
            ticks: self.ticks(query.patience_ms.min(most)),
        };
        let execution = self.engine.part(world, part, caller).map_err(|failure| failure.coded())?;
        Ok(Answer::Part(Output { flags: execution.flags, data: execution.data }))
    }
}
