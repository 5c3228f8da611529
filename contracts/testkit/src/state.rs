//! What commands change.

use crate::{Said, jobs::Job};
use phala_pink::Effect;
use phala_primitives::AccountId;
use phala_vm::{BlockInfo, Execution, MemoryWorld};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// When time begins: some day in 2023, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// The state of a cluster in memory.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) block: BlockInfo,
    /// What executions see.
    pub(crate) world: Arc<MemoryWorld>,
    pub(crate) owners: BTreeMap<AccountId, AccountId>,
    pub(crate) readers: BTreeSet<(AccountId, Option<AccountId>)>,
    /// Contracts so far; makes addresses differ.
    pub(crate) deployed: u64,
    said: Vec<(AccountId, Said)>,
    /// Requests and timers.
    pub(crate) jobs: Vec<Job>,
    /// Messages to the chain.
    pub(crate) sent: Vec<(AccountId, Effect)>,
}

/// A state to go back to.
#[derive(Clone)]
pub struct Snapshot(pub(crate) Arc<State>);

impl Default for State {
    fn default() -> Self {
        Self {
            block: BlockInfo { height: 1, time_ms: BEGIN_MS, index: 0 },
            world: Arc::default(),
            owners: BTreeMap::new(),
            readers: BTreeSet::new(),
            deployed: 0,
            said: Vec::new(),
            jobs: Vec::new(),
            sent: Vec::new(),
        }
    }
}

impl State {
    /// Forgets a timer of this contract.
    pub(crate) fn cancel(&mut self, contract: AccountId, timer: u64) {
        let same = |job: &Effect| matches!(job, Effect::Timer { id, .. } if *id == timer);
        self.jobs.retain(|job| job.contract != contract || !same(&job.effect));
    }

    /// Keeps what an execution changed.
    pub(crate) fn apply(&mut self, execution: &Execution) {
        Arc::make_mut(&mut self.world).apply(execution);
        for contract in &execution.terminated {
            self.jobs.retain(|job| job.contract != *contract);
        }
        for event in &execution.events {
            self.say(event.contract, Said::Event { topics: event.topics.clone(), data: event.data.clone() });
        }
    }

    pub(crate) fn say(&mut self, contract: AccountId, said: Said) {
        self.said.push((contract, said));
    }

    /// What a contract said.
    pub(crate) fn said(&self, contract: &AccountId) -> Vec<Said> {
        self.said.iter().filter(|(who, _)| who == contract).map(|(_, said)| said.clone()).collect()
    }
}
