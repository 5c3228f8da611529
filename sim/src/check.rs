//! The invariants, and whether a history keeps them.

use crate::{
    history::{Event, Seen},
    plan::{Log, MEMBERS, Villainy},
};
use phala_primitives::Hash;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Time within which everything moves again after the last fault, in milliseconds of the simulation's clock.
pub const BOUND_MS: u64 = 40_000;

/// What must hold in every run. The numbers are those of the system's invariants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum InvariantId {
    /// Two honest nodes never finalise different blocks or entries at one height, and have the same state there.
    Agreement,
    /// A command acknowledged to a client is in every later state of its cluster.
    Durability,
    /// A command executes at most once.
    Once,
    /// A callback that was promised to a client runs exactly once, any other at most once.
    Callback,
    /// A message from a contract to one of another cluster comes exactly once, in the order of those to it.
    Letter,
    /// A reply's receipt verifies against what the chain says of the cluster.
    Receipt,
    /// The cluster is linearizable, in the order of its log: what was acknowledged before something else was asked for
    /// is below it, and a read tells what the entries up to its height make of an account.
    Linear,
    /// The sum of all balances changes only by what events report: here, by fees that are burnt.
    Supply,
    /// What a node has taken as final it never gives up, not even by dying.
    Heights,
    /// Who does what an honest member never does is convicted if it can be proven, and nobody else is blamed.
    Blame,
    /// The same seed and plan give the same run.
    Determinism,
    /// When all faults are over, all nodes move on and all clients are answered, within [`BOUND_MS`].
    Liveness,
}

impl InvariantId {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Agreement,
        Self::Durability,
        Self::Once,
        Self::Callback,
        Self::Letter,
        Self::Receipt,
        Self::Linear,
        Self::Supply,
        Self::Heights,
        Self::Blame,
        Self::Determinism,
        Self::Liveness,
    ];

    /// Number among the system's invariants.
    pub fn id(self) -> &'static str {
        match self {
            Self::Agreement => "I1",
            Self::Durability => "I2",
            Self::Once | Self::Callback | Self::Letter => "I3",
            Self::Receipt | Self::Linear => "I5",
            Self::Supply => "I7",
            Self::Heights => "I8",
            Self::Blame => "B",
            Self::Determinism => "D",
            Self::Liveness => "L",
        }
    }
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: InvariantId,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.invariant.id(), self.invariant, self.detail)
    }
}

/// A transfer, by its log and its number there.
type Name = (Log, u32);
/// A member of a log.
type Place = (Log, u32);

struct Transfer {
    at_ms: u64,
    from: u32,
    to: u32,
    amount: u128,
}

struct Ack {
    at_ms: u64,
    outcome: Hash,
    height: u64,
}

struct Read {
    since_ms: u64,
    account: u32,
    amount: u128,
    height: u64,
}

struct Found {
    times: u32,
    outcome: Hash,
    moved: bool,
}

/// A history, sorted by what the checks ask for.
#[derive(Default)]
struct Book {
    sent: BTreeMap<Name, Transfer>,
    acks: BTreeMap<Name, Ack>,
    found: BTreeMap<(Place, u32), Found>,
    endowed: BTreeMap<Name, u128>,
    fees: BTreeMap<(Place, u32), u128>,
    balances: BTreeMap<(Place, u32), u128>,
    supplies: BTreeMap<Place, u128>,
    asked: BTreeSet<u32>,
    promised: BTreeSet<u32>,
    called: BTreeMap<(u32, u32), u64>,
    /// What the writing contracts have sent and got, and what of it was amiss.
    letters: BTreeMap<Place, [u64; 3]>,
    heights: BTreeMap<Place, Vec<(u64, u64)>>,
    reads: Vec<Read>,
    /// Workers that turned hostile, and those of them that were convicted.
    hostile: BTreeMap<u32, Villainy>,
    convicted: BTreeSet<u32>,
    healed: Option<u64>,
    violations: Vec<Violation>,
}

/// All violations in a history, those of one invariant together.
pub fn check(history: &[Seen]) -> Vec<Violation> {
    let mut book = Book::read(history);
    book.agreement(history);
    book.durability();
    book.once();
    book.linear();
    book.callbacks();
    book.letters();
    book.supply();
    book.never_back();
    book.blame();
    book.liveness();
    book.violations.sort_by_key(|violation| violation.invariant);
    book.violations
}

impl Book {
    fn violated(&mut self, invariant: InvariantId, detail: String) {
        self.violations.push(Violation { invariant, detail });
    }

    fn read(history: &[Seen]) -> Self {
        let mut book = Self::default();
        for (at_ms, event) in history {
            book.note(*at_ms, event);
        }
        book
    }

    fn note(&mut self, at_ms: u64, event: &Event) {
        match event.clone() {
            Event::Final { .. } | Event::Quiet => {}
            Event::Height { log, member, height } => {
                self.heights.entry((log, member)).or_default().push((at_ms, height));
            }
            Event::Endowed { log, account, amount } => {
                self.endowed.insert((log, account), amount);
            }
            Event::Sent { log, number, from, to, amount } => {
                self.sent.insert((log, number), Transfer { at_ms, from, to, amount });
            }
            Event::Acknowledged { log, number, outcome, proven, height } => {
                if !proven {
                    self.violated(InvariantId::Receipt, format!("of transfer {number} ({log:?})"));
                }
                self.acks.insert((log, number), Ack { at_ms, outcome, height });
            }
            Event::Read { since_ms, account, amount, height } => {
                self.reads.push(Read { since_ms, account, amount, height });
            }
            Event::OtherDisk { log, member } => {
                // It cannot hold what was on the one before.
                self.heights.insert((log, member), vec![]);
            }
            Event::Turned { worker, villainy } => {
                self.hostile.insert(worker, villainy);
            }
            Event::Proven { worker } => self.blamed(worker, "proven guilty"),
            Event::Convicted { worker } => {
                self.blamed(worker, "convicted");
                self.convicted.insert(worker);
            }
            Event::Healed => self.healed = Some(at_ms),
            Event::Stuck { what } => self.violated(InvariantId::Liveness, what),
            Event::Found { log, member, number, times, outcome, moved } => {
                self.found.insert(((log, member), number), Found { times, outcome, moved });
            }
            Event::Fees { log, member, account, amount } => {
                self.fees.insert(((log, member), account), amount);
            }
            Event::Balance { log, member, account, amount } => {
                self.balances.insert(((log, member), account), amount);
            }
            Event::Asked { number } => {
                self.asked.insert(number);
            }
            Event::Promised { number } => {
                self.promised.insert(number);
            }
            Event::Called { member, number, times } => {
                self.called.insert((member, number), times);
            }
            Event::Letters { log, member, sent, got, amiss } => {
                self.letters.insert((log, member), [sent, got, amiss]);
            }
            Event::Counted { log, acknowledged, counted } if acknowledged != counted => {
                let detail = format!("{acknowledged} calls were done, and the contract in {log:?} counted {counted}");
                self.violated(InvariantId::Once, detail);
            }
            Event::Counted { .. } => {}
            Event::Supply { log, member, total } => {
                self.supplies.insert((log, member), total);
            }
        }
    }

    fn blamed(&mut self, worker: u32, what: &str) {
        if !self.hostile.contains_key(&worker) {
            self.violated(InvariantId::Blame, format!("worker {worker} is honest and was {what}"));
        }
    }

    fn blame(&mut self) {
        let free = |(worker, villainy): (&u32, &Villainy)| {
            // Two with one key may agree on everything, and what one says with two faces need not ever meet.
            let hidden = matches!(villainy, Villainy::Cloned | Villainy::TwoFaced);
            let free = !hidden && !self.convicted.contains(worker);
            free.then(|| format!("worker {worker} ({villainy:?}) was never convicted"))
        };
        let free: Vec<_> = self.hostile.iter().filter_map(free).collect();
        free.into_iter().for_each(|detail| self.violated(InvariantId::Blame, detail));
    }

    fn agreement(&mut self, history: &[Seen]) {
        let mut known: BTreeMap<(Log, u64), (u32, Hash)> = BTreeMap::new();
        let mut roots: BTreeMap<(Log, u64), (u32, Hash)> = BTreeMap::new();
        for (_, event) in history {
            let Event::Final { log, member, height, digest, root } = event else { continue };
            let seen = [(&mut known, Some(digest), "blocks"), (&mut roots, root.as_ref(), "state roots")];
            for (map, value, what) in seen {
                let Some(value) = value else { continue };
                let (other, first) = *map.entry((*log, *height)).or_insert((*member, *value));
                if first != *value {
                    let detail =
                        format!("members {other} and {member} have different {what} at height {height} ({log:?})");
                    self.violations.push(Violation { invariant: InvariantId::Agreement, detail });
                }
            }
        }
    }

    fn durability(&mut self) {
        let mut lost = vec![];
        for ((log, number), ack) in &self.acks {
            for member in 0..MEMBERS as u32 {
                let found = self.found.get(&((*log, member), *number));
                match found {
                    Some(found) if found.times > 0 && found.outcome == ack.outcome => {}
                    Some(found) if found.times > 0 => lost.push(format!(
                        "transfer {number} ({log:?}) has another outcome at member {member} than was acknowledged"
                    )),
                    _ => lost.push(format!(
                        "transfer {number} ({log:?}) was acknowledged and is not in member {member}'s state"
                    )),
                }
            }
        }
        lost.into_iter().for_each(|detail| self.violated(InvariantId::Durability, detail));
    }

    /// Every transfer at most once in a log, and every balance what the transfers make of it.
    fn once(&mut self) {
        let mut wrong = vec![];
        for ((place, number), found) in &self.found {
            if found.times > 1 {
                wrong.push(format!("transfer {number} is {} times in the log of {place:?}", found.times));
            }
        }
        let accounts: Vec<_> = self.balances.iter().map(|(key, amount)| (*key, *amount)).collect();
        for ((place, account), have) in accounts {
            let Some(due) = self.due(place, account) else {
                wrong.push(format!("account {account} paid more than it had, by transfers at {place:?}"));
                continue;
            };
            if due != have {
                wrong.push(format!("account {account} has {have} and is due {due}, by transfers at {place:?}"));
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Once, detail));
    }

    /// The order of the log agrees with the order in which clients asked and were answered, and reads with the log.
    fn linear(&mut self) {
        let mut wrong = vec![];
        let cluster = || self.acks.range((Log::Cluster, 0)..=(Log::Cluster, u32::MAX));
        // Height below which nothing new can be, at each time: by when it was acknowledged.
        let mut known: Vec<(u64, u64)> = cluster().map(|(_, ack)| (ack.at_ms, ack.height)).collect();
        known.sort_unstable();
        let mut highest = 0;
        for (_, height) in &mut known {
            highest = highest.max(*height);
            *height = highest;
        }
        let floor = |before_ms: u64| {
            let count = known.partition_point(|(at_ms, _)| *at_ms < before_ms);
            count.checked_sub(1).and_then(|last| known.get(last)).map_or(0, |(_, height)| *height)
        };
        for (name, ack) in cluster() {
            let least = self.sent.get(name).map_or(0, |sent| floor(sent.at_ms));
            if ack.height < least {
                wrong.push(format!("transfer {} is in entry {}, below {least}, known before", name.1, ack.height));
            }
        }
        for read in &self.reads {
            let least = floor(read.since_ms);
            if read.height < least {
                wrong.push(format!("a read at {} ms saw entry {}, below {least}", read.since_ms, read.height));
            }
            if let Some(due) = self.due_at(read.account, read.height)
                && due != read.amount
            {
                let Read { account, amount, height, .. } = read;
                wrong.push(format!("account {account} had {due} at entry {height}, and a read told {amount}"));
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Linear, detail));
    }

    /// What an account of the cluster has after the entry of this height, if that is known: where a transfer is that was
    /// never acknowledged, nobody knows.
    fn due_at(&self, account: u32, height: u64) -> Option<u128> {
        let mut amount = self.endowed.get(&(Log::Cluster, account)).copied().unwrap_or(0);
        let (mut gained, mut spent) = (0u128, 0u128);
        for (name, transfer) in self.sent.range((Log::Cluster, 0)..=(Log::Cluster, u32::MAX)) {
            let ack = self.acks.get(name)?;
            let moved = self.found.iter().any(|(((log, _), number), found)| (*log, *number) == *name && found.moved);
            if ack.height > height || !moved {
                continue;
            }
            if transfer.to == account {
                gained = gained.checked_add(transfer.amount)?;
            }
            if transfer.from == account {
                spent = spent.checked_add(transfer.amount)?;
            }
        }
        amount = amount.checked_add(gained)?;
        amount.checked_sub(spent)
    }

    fn callbacks(&mut self) {
        let mut wrong = vec![];
        for member in 0..MEMBERS as u32 {
            for number in &self.asked {
                match (self.called.get(&(member, *number)), self.promised.contains(number)) {
                    (Some(1), _) | (Some(0) | None, false) => {}
                    (Some(0) | None, true) => wrong.push(format!("{number} was promised and not called at {member}")),
                    (Some(times), _) => wrong.push(format!("{number} was called {times} times at {member}")),
                }
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Callback, detail));
    }

    /// Every letter from one cluster to the other came once, and in its order.
    fn letters(&mut self) {
        let mut wrong = vec![];
        for ((log, member), [_, got, amiss]) in &self.letters {
            if *amiss > 0 {
                wrong.push(format!("{amiss} letters were lost, repeated or overtaken at member {member} ({log:?})"));
            }
            let from = if *log == Log::Cluster { Log::Neighbour } else { Log::Cluster };
            for ((_, other), [sent, ..]) in self.letters.range((from, 0)..=(from, u32::MAX)) {
                if sent != got {
                    wrong.push(format!("member {other} ({from:?}) sent {sent} letters, {member} ({log:?}) got {got}"));
                }
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Letter, detail));
    }

    /// What an account has if each transfer that is in the log was executed once.
    fn due(&self, place: Place, account: u32) -> Option<u128> {
        let (mut gained, mut spent) = (self.endowed.get(&(place.0, account)).copied().unwrap_or(0), 0u128);
        for ((log, number), transfer) in self.sent.range((place.0, 0)..=(place.0, u32::MAX)) {
            let moved = self.found.get(&((*log, place.1), *number)).is_some_and(|found| found.moved);
            if moved && transfer.to == account {
                gained = gained.checked_add(transfer.amount)?;
            }
            if moved && transfer.from == account {
                spent = spent.checked_add(transfer.amount)?;
            }
        }
        let fees = self.fees.get(&(place, account)).copied().unwrap_or(0);
        gained.checked_sub(spent)?.checked_sub(fees)
    }

    fn supply(&mut self) {
        let mut wrong = vec![];
        for (place, total) in &self.supplies {
            let own = (*place, 0)..=(*place, u32::MAX);
            let balances: u128 = self.balances.range(own.clone()).map(|(_, amount)| amount).sum();
            let fees: u128 = self.fees.range(own).map(|(_, amount)| amount).sum();
            let endowed: u128 = self.endowed.range((place.0, 0)..=(place.0, u32::MAX)).map(|(_, amount)| amount).sum();
            if balances != *total {
                wrong.push(format!("the balances at {place:?} are {balances} in all, the supply is {total}"));
            }
            if total.checked_add(fees) != Some(endowed) {
                wrong.push(format!("at {place:?} were {endowed}, {fees} are burnt, and {total} are left"));
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Supply, detail));
    }

    fn never_back(&mut self) {
        let mut wrong = vec![];
        for (place, heights) in &self.heights {
            for pair in heights.windows(2) {
                if let [(_, before), (_, after)] = pair
                    && after < before
                {
                    wrong.push(format!("{place:?} was at height {before} and then at {after}"));
                }
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Heights, detail));
    }

    fn liveness(&mut self) {
        let Some(healed_ms) = self.healed else {
            return self.violated(InvariantId::Liveness, "the run did not reach the end of its faults".into());
        };
        let until_ms = healed_ms + BOUND_MS;
        let mut wrong = BTreeSet::new();
        let second = self.heights.keys().any(|(log, _)| *log == Log::Neighbour);
        for log in Log::all(second) {
            let all = self.heights.iter().filter(|((of, _), _)| *of == log).flat_map(|(_, heights)| heights);
            let before = all.filter(|(at, _)| *at <= healed_ms).map(|(_, height)| *height).max().unwrap_or(0);
            for member in 0..MEMBERS as u32 {
                let heights = self.heights.get(&(log, member)).into_iter().flatten();
                if !heights.clone().any(|(at, height)| *at <= until_ms && *height > before + 1) {
                    wrong.insert(format!(
                        "member {member} ({log:?}) did not pass height {before} within {BOUND_MS} ms of the last fault"
                    ));
                }
            }
        }
        for ((log, number), transfer) in &self.sent {
            let due = transfer.at_ms.max(healed_ms) + BOUND_MS;
            if self.acks.get(&(*log, *number)).is_none_or(|ack| ack.at_ms > due) {
                wrong.insert(format!("transfer {number} ({log:?}) was not answered within {BOUND_MS} ms"));
            }
        }
        wrong.into_iter().for_each(|detail| self.violated(InvariantId::Liveness, detail));
    }
}
