//! Who runs next: start-time fair queueing between contracts, as a machine without threads and clock.
//!
//! Each contract has a *virtual time*, which grows by the ticks that it had a slot, divided by its weight. Upon a free
//! slot, it goes to the waiting contract of the least *rank*: its virtual time and, on top, one tick for each slot that
//! it holds already, because these ticks are not yet counted. Among the queries of a contract, and among contracts of
//! one rank, the first come is the first served, but that those who were pre-empted come after those who just arrived.
//!
//! The *clock* is the least virtual time of all contracts that run or wait, and never goes back. No contract is behind
//! it, so that idleness is no credit. A contract that is ahead of it when its last query ends is remembered until the
//! clock has passed it, so that a query at a time is no way around the queue. A contract that has fewer queries than it
//! may run at once falls behind the others without any claim; therefore the clock follows the greatest virtual time at
//! a distance of [`MAX_LAG`], and whoever comes anew holds up the others for no longer than that.
//!
//! Three things are handed out besides slots. A query that was started keeps its *seat* (an instance) until it ends,
//! also while it waits; callees and parts of queries take further instances; and instances take linear memory. Of each, a
//! contract gets another one only while fewer are its
//! own than are free. So a contract alone may take half, a second one a third of that which it could take alone, and
//! there is one left for whoever has none, unless very many contracts take all they can.

use phala_primitives::AccountId;
use std::collections::{BTreeMap, VecDeque};

/// What a tick adds to the virtual time of a contract of weight 1.
const TICK: u64 = 1 << 20;
/// How far the virtual times of contracts that run or wait may lie apart.
const MAX_LAG: u64 = 32 * TICK;
/// Contracts without queries that are remembered.
const MAX_RESTING: usize = 1024;

/// One query's place in the queue. Later ones are greater.
pub(super) type Ticket = u64;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Queries that run at once.
    pub(super) slots: usize,
    /// Queries that were started and have not ended.
    pub(super) seats: usize,
    /// Instances of callees.
    pub(super) nested: usize,
    /// Queries, those that wait included.
    pub(super) queries: usize,
    /// Bytes of linear memory that count.
    pub(super) memory: usize,
}

/// Why there is no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarce {
    /// The contract holds as much as it may.
    Contract,
    /// What is free is for others.
    All,
}

/// Why a query is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many queries as may be.
    Queries(usize),
    /// There are as many of this contract as may be.
    ContractQueries(usize),
}

/// Why a query waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It has not run yet.
    Start,
    /// It comes back from outside.
    Resume,
    /// It was pre-empted.
    Turn,
}

/// How long a query has run, as far as it has to give its slot away to equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// Nothing that was counted: only to those who just arrived, lest equals replace each other time and again.
    Nothing,
    /// A tick fell: to other contracts.
    Part,
    /// A whole tick passed: to queries of its own contract as well. Most queries are shorter, and would have to wait for
    /// all others shortly before their end.
    Whole,
}

struct Waiting {
    ticket: Ticket,
    why: Wait,
}

/// A contract with queries.
struct Account {
    /// Virtual time; the clock's if that is later.
    time: u64,
    weight: u64,
    under_way: usize,
    running: usize,
    seats: usize,
    nested: usize,
    memory: usize,
    /// Those that need a seat to run.
    fresh: VecDeque<Waiting>,
    /// Those that have one.
    seated: VecDeque<Waiting>,
}

impl Account {
    fn active(&self) -> bool {
        self.running > 0 || !self.fresh.is_empty() || !self.seated.is_empty()
    }

    fn now(&self, clock: u64) -> u64 {
        self.time.max(clock)
    }

    /// Virtual time that `ticks` are.
    fn worth(&self, ticks: u64) -> u64 {
        TICK.saturating_mul(ticks) / self.weight
    }

    /// Virtual time with those ticks that have begun on `running` slots.
    fn rank(&self, clock: u64, running: usize) -> u64 {
        self.now(clock).saturating_add(self.worth(running as u64))
    }

    /// The query that runs next if the contract gets a slot, and there are so many seats.
    fn next(&self, free_seats: usize) -> Option<&Waiting> {
        let fresh = self.fresh.front().filter(|_| self.seats < free_seats);
        match (self.seated.front(), fresh) {
            (Some(seated), Some(fresh)) if fresh.ticket < seated.ticket => Some(fresh),
            (seated, fresh) => seated.or(fresh),
        }
    }
}

pub(super) struct Fair {
    bounds: Bounds,
    accounts: BTreeMap<AccountId, Account>,
    /// Virtual times of contracts without queries that were ahead of the clock.
    resting: BTreeMap<AccountId, u64>,
    weights: BTreeMap<AccountId, u64>,
    clock: u64,
    last: Ticket,
    under_way: usize,
    running: usize,
    seats: usize,
    nested: usize,
    memory: usize,
    waiting: usize,
}

impl Fair {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            accounts: BTreeMap::new(),
            resting: BTreeMap::new(),
            weights: BTreeMap::new(),
            clock: 0,
            last: 0,
            under_way: 0,
            running: 0,
            seats: 0,
            nested: 0,
            memory: 0,
            waiting: 0,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sets what a contract's share is from now on, in relation to the 1 that others have.
    pub(super) fn set_weight(&mut self, contract: AccountId, weight: u32) {
        let weight = u64::from(weight).clamp(1, TICK);
        if let Some(account) = self.accounts.get_mut(&contract) {
            account.weight = weight;
        }
        match weight {
            1 => drop(self.weights.remove(&contract)),
            _ => drop(self.weights.insert(contract, weight)),
        }
    }

    /// Lets a query in, if the contract has fewer than `most`. Whoever was let in leaves again.
    pub(super) fn admit(&mut self, contract: AccountId, most: usize) -> Result<(), Refused> {
        let Bounds { queries, .. } = self.bounds;
        if self.accounts.get(&contract).is_some_and(|account| account.under_way >= most) {
            return Err(Refused::ContractQueries(most));
        }
        if self.under_way >= queries {
            return Err(Refused::Queries(queries));
        }
        self.under_way = self.under_way.saturating_add(1);
        let (resting, weights) = (&mut self.resting, &self.weights);
        let account = self.accounts.entry(contract).or_insert_with(|| Account {
            time: resting.remove(&contract).unwrap_or(0),
            weight: weights.get(&contract).copied().unwrap_or(1),
            under_way: 0,
            running: 0,
            seats: 0,
            nested: 0,
            memory: 0,
            fresh: VecDeque::new(),
            seated: VecDeque::new(),
        });
        account.under_way = account.under_way.saturating_add(1);
        Ok(())
    }

    /// Takes note that a query ended that neither runs nor waits. `seated` if it was ever started; `nested` are the
    /// instances of callees that it did not give back.
    pub(super) fn leave(&mut self, contract: &AccountId, seated: bool, nested: usize) {
        let Some(account) = self.accounts.get_mut(contract) else { return };
        self.under_way = self.under_way.saturating_sub(1);
        self.seats = self.seats.saturating_sub(usize::from(seated));
        self.nested = self.nested.saturating_sub(nested);
        account.under_way = account.under_way.saturating_sub(1);
        account.seats = account.seats.saturating_sub(usize::from(seated));
        account.nested = account.nested.saturating_sub(nested);
        if account.under_way == 0 {
            let time = account.time;
            self.accounts.remove(contract);
            self.rest(*contract, time);
        }
        self.advance();
    }

    fn rest(&mut self, contract: AccountId, time: u64) {
        if time <= self.clock {
            return;
        }
        if self.resting.len() >= MAX_RESTING {
            let clock = self.clock;
            self.resting.retain(|_, time| *time > clock);
        }
        // Whoever comes after so many that each used a tick of late is forgiven one.
        if self.resting.len() < MAX_RESTING {
            self.resting.insert(contract, time);
        }
    }

    /// Puts a query into the queue.
    pub(super) fn enqueue(&mut self, contract: &AccountId, why: Wait) -> Ticket {
        self.last = self.last.saturating_add(1);
        let ticket = self.last;
        if let Some(account) = self.accounts.get_mut(contract) {
            // What the clock passed while the contract slept is gone for good.
            account.time = account.time.max(self.clock);
            let queue = if why == Wait::Start { &mut account.fresh } else { &mut account.seated };
            queue.push_back(Waiting { ticket, why });
            self.waiting = self.waiting.saturating_add(1);
        }
        self.advance();
        ticket
    }

    /// Takes a query out of the queue.
    pub(super) fn withdraw(&mut self, contract: &AccountId, ticket: Ticket) {
        let Some(account) = self.accounts.get_mut(contract) else { return };
        let before = account.fresh.len().saturating_add(account.seated.len());
        account.fresh.retain(|waiting| waiting.ticket != ticket);
        account.seated.retain(|waiting| waiting.ticket != ticket);
        let after = account.fresh.len().saturating_add(account.seated.len());
        self.waiting = self.waiting.saturating_sub(before.saturating_sub(after));
        self.advance();
    }

    /// Gives a free slot to whom it belongs. To be called until there is none to give or none to take.
    pub(super) fn grant(&mut self) -> Option<Ticket> {
        if self.running >= self.bounds.slots {
            return None;
        }
        let (free, clock) = (self.free_seats(), self.clock);
        let place = |account: &Account| {
            let next = account.next(free)?;
            Some((account.rank(clock, account.running), next.why == Wait::Turn, next.ticket))
        };
        let places = self.accounts.iter().filter_map(|(contract, account)| Some((place(account)?, *contract)));
        let ((_, _, ticket), contract) = places.min()?;
        let account = self.accounts.get_mut(&contract)?;
        account.running = account.running.saturating_add(1);
        self.running = self.running.saturating_add(1);
        self.waiting = self.waiting.saturating_sub(1);
        if account.fresh.front().is_some_and(|waiting| waiting.ticket == ticket) {
            account.fresh.pop_front();
            account.seats = account.seats.saturating_add(1);
            self.seats = self.seats.saturating_add(1);
        } else {
            account.seated.pop_front();
        }
        Some(ticket)
    }

    /// Counts time on a slot.
    pub(super) fn charge(&mut self, contract: &AccountId, ticks: u64) {
        if let Some(account) = self.accounts.get_mut(contract)
            && ticks > 0
        {
            account.time = account.now(self.clock).saturating_add(account.worth(ticks));
            self.advance();
        }
    }

    /// Takes a slot back.
    pub(super) fn release(&mut self, contract: &AccountId) {
        if let Some(account) = self.accounts.get_mut(contract) {
            account.running = account.running.saturating_sub(1);
            self.running = self.running.saturating_sub(1);
            self.advance();
        }
    }

    /// Whether a running query of the contract has to give its slot away.
    pub(super) fn outranked(&self, contract: &AccountId, ran: Ran) -> bool {
        let Some(own) = self.accounts.get(contract).filter(|_| self.waiting > 0) else { return false };
        let (free, rank) = (self.free_seats(), own.rank(self.clock, own.running.saturating_sub(1)));
        self.accounts.iter().any(|(other, account)| {
            let Some(next) = account.next(free) else { return false };
            if other == contract {
                return ran == Ran::Whole;
            }
            let theirs = account.rank(self.clock, account.running);
            theirs < rank || (theirs == rank && (ran != Ran::Nothing || next.why != Wait::Turn))
        })
    }

    /// Whether some running query has to give its slot away to one that just arrived.
    pub(super) fn anyone_outranked(&self) -> bool {
        self.accounts.iter().any(|(contract, account)| account.running > 0 && self.outranked(contract, Ran::Nothing))
    }

    /// Takes an instance for a callee, if there is one to be had.
    pub(super) fn nest(&mut self, contract: &AccountId) -> bool {
        let free = self.bounds.nested.saturating_sub(self.nested);
        let Some(account) = self.accounts.get_mut(contract).filter(|account| account.nested < free) else {
            return false;
        };
        account.nested = account.nested.saturating_add(1);
        self.nested = self.nested.saturating_add(1);
        true
    }

    /// Gives a callee's instance back.
    pub(super) fn unnest(&mut self, contract: &AccountId) {
        if let Some(account) = self.accounts.get_mut(contract) {
            account.nested = account.nested.saturating_sub(1);
            self.nested = self.nested.saturating_sub(1);
        }
    }

    /// Linear memory that counts, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Takes linear memory, of which the contract may have `most` bytes.
    pub(super) fn grow(&mut self, contract: &AccountId, bytes: usize, most: usize) -> Result<(), Scarce> {
        let free = self.bounds.memory.saturating_sub(self.memory);
        let account = self.accounts.get_mut(contract).ok_or(Scarce::All)?;
        let held = account.memory.saturating_add(bytes);
        if held > most {
            return Err(Scarce::Contract);
        }
        if bytes > free || account.memory >= free {
            return Err(Scarce::All);
        }
        account.memory = held;
        self.memory = self.memory.saturating_add(bytes);
        Ok(())
    }

    /// Gives linear memory back.
    pub(super) fn shrink(&mut self, contract: &AccountId, bytes: usize) {
        if let Some(account) = self.accounts.get_mut(contract) {
            account.memory = account.memory.saturating_sub(bytes);
            self.memory = self.memory.saturating_sub(bytes);
        }
    }

    fn free_seats(&self) -> usize {
        self.bounds.seats.saturating_sub(self.seats)
    }

    fn advance(&mut self) {
        let times = || self.accounts.values().filter(|account| account.active()).map(|account| account.time);
        if let (Some(least), Some(most)) = (times().min(), times().max()) {
            self.clock = self.clock.max(least).max(most.saturating_sub(MAX_LAG));
        }
    }
}
