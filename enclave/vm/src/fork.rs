//! A query that splits its work.
//!
//! A part is a call of the same contract, on the state that the query started from and with nothing of what the query
//! wrote. It may only read, may not be split again, and ends with the query. It runs on the account of the contract that
//! was asked, in the same queue as all queries; its instance is one of those for callees, so that queries which wait for
//! their parts do not keep these from being started.
//!
//! The engine gives no threads for parts: whoever holds a [`Fork`] runs them where and when they like, also on another
//! replica that holds the same state ([`Engine::part`]).

use crate::{
    BlockInfo, Caller, Engine, Execution, Failure, Limits, World,
    engine::Shared,
    frame::{Frame, Machine, Role},
};
use phala_primitives::{AccountId, Hash};
use std::sync::Arc;

/// One part of a query's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The contract that was asked, on whose account it runs.
    pub account: AccountId,
    /// The contract that is called, by itself.
    pub contract: AccountId,
    /// Who signed the query.
    pub origin: AccountId,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// What the query sees of the log.
    pub block: BlockInfo,
    /// Ticks after which it is stopped.
    pub ticks: u64,
}

/// The right to run parts of a query that waits for them.
#[derive(Clone)]
pub struct Fork {
    shared: Arc<Shared>,
    world: Arc<dyn World>,
    part: Part,
    deadline: u64,
    caller: Caller,
}

impl Fork {
    /// The right of a contract's query. `None`: it is a command, or a part itself.
    pub(crate) fn of(machine: &Machine, contract: AccountId) -> Option<Self> {
        let turn = machine.turn.as_ref().filter(|_| !machine.is_part)?;
        let (account, deadline, caller) = (turn.account(), turn.deadline(), turn.caller().clone());
        let (origin, block) = (machine.origin, machine.block);
        let part = Part { account, contract, origin, data: Vec::new(), block, ticks: 0 };
        let (shared, world) = (machine.shared.clone(), machine.overlay.shared_world());
        Some(Self { shared, world, part, deadline, caller })
    }

    /// The part that this input makes, to be stopped with the query.
    pub fn part(&self, data: Vec<u8>) -> Part {
        Part { data, ticks: self.ticks_left(), ..self.part.clone() }
    }

    /// Runs a part here. Blocks the thread.
    pub fn run(&self, part: Part) -> Result<Execution, Failure> {
        self.run_for(part, &self.caller)
    }

    /// The same for a caller of its own, who acts on behalf of [`Fork::caller`].
    pub fn run_for(&self, part: Part, caller: &Caller) -> Result<Execution, Failure> {
        Engine::of(&self.shared).part(self.world.clone(), part, caller)
    }

    /// What names the state among the cluster's replicas, if there are any.
    pub fn root(&self) -> Option<Hash> {
        self.world.root()
    }

    /// Ticks until the query's time is over.
    pub fn ticks_left(&self) -> u64 {
        self.deadline.saturating_sub(self.shared.scheduler.now())
    }

    /// Queries that run at once on this machine.
    pub fn slots(&self) -> usize {
        self.shared.capacity.query_slots.max(1)
    }

    /// Whoever waits for the query's answer.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Engine {
    /// Runs a part of a query, which may be of another replica that holds the same state. Blocks the thread.
    ///
    /// Errors: as [`Engine::execute`]; `Busy` also if all instances for callees are in use.
    pub fn part(&self, world: Arc<dyn World>, part: Part, caller: &Caller) -> Result<Execution, Failure> {
        let Part { account, contract, origin, data, block, ticks } = part;
        let limits = world.limits().map_err(|error| Failure::early(error.into()))?;
        let turn = self
            .shared()
            .scheduler
            .enter_part(account, limits.contract_queries, ticks, caller)
            .map_err(Failure::early)?;
        self.run_part(world, limits, Frame::of_part(contract, data), origin, block, (turn, ticks))
    }
}

impl Frame {
    /// A contract that calls itself, to read.
    fn of_part(contract: AccountId, data: Vec<u8>) -> Self {
        let (code_hash, input, role) = (Default::default(), Some(data), Role::Call);
        Self { contract, caller: contract, code_hash, value: 0, input, read_only: true, role }
    }
}

/// Parts are bounded like queries.
pub(crate) fn input_limit(limits: &Limits, metered: bool) -> usize {
    if metered { limits.call_bytes } else { limits.message_bytes }
}
