//! Work that contracts asked for and that comes back to them later: requests to the outside, and timers.
//!
//! A **request** is written into the state by the command that asks for it. One member performs it; who, follows from
//! its id and from how long it has been waiting, so that another takes over if nothing comes of it. The member sends
//! what came of it as a command of its own ([`Action::Deliver`]), which only members may send. The first that is
//! executed takes the request out of the state and calls the contract back, in one commit: whatever happens to
//! members, a request may be performed more than once, but its callback runs exactly once.
//!
//! A **timer** is due at a time. The first entry of that time or later calls the contract back, before its commands. One
//! with a period is due again at the first time after that entry that its period gives, counted from when it was first
//! due: it does not drift, and calls that it missed are left out. So when it is due follows from the time of the last
//! entry, and a call writes nothing into the state. Only a timer that an entry had no room for is written as late, by
//! that entry, and again by the one that calls it.
//!
//! The table here holds what the state holds, so that finding what is due costs nothing; it is filled from the state
//! when a replica opens, and changes with it.
//!
//! [`Action::Deliver`]: phala_session::Action::Deliver

use crate::{
    layout::{REQUESTS, TIMERS, decode},
    world::Layer,
};
use codec::{Decode, Encode};
use phala_pink::{Callback, Effect, HttpRequest};
use phala_primitives::{AccountId, Code, Coded};
use phala_state::Snapshot;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most requests and timers of all contracts that wait. How many a contract may have, the cluster's policy says.
pub const MAX_JOBS: usize = 16_384;
/// Shortest time between two calls of one timer, in milliseconds.
pub const MIN_PERIOD_MS: u64 = 10;
/// How much longer than a request may take a member has for it, before it is another's turn, in milliseconds.
const TURN_MS: u64 = 2_000;

/// A request that waits for somebody to perform it.
#[derive(Clone, Encode, Decode)]
pub struct Wanted {
    /// Its name in this cluster.
    pub id: u64,
    /// Whose it is.
    pub contract: AccountId,
    /// The request.
    pub request: HttpRequest,
    /// Longest time for an answer, in milliseconds.
    pub timeout_ms: u64,
    /// Time of the entry that asked for it.
    pub asked_ms: u64,
    /// What to call then.
    pub(crate) callback: Callback,
}

impl Wanted {
    fn turn_ms(&self) -> u64 {
        self.timeout_ms.saturating_add(TURN_MS)
    }

    /// The turn at a time, counted from the first.
    fn turn(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.asked_ms).checked_div(self.turn_ms()).unwrap_or(0)
    }

    /// Whose turn that is: a place among the members.
    fn place(&self, turn: u64, members: u64) -> Option<u64> {
        self.id.wrapping_add(turn).checked_rem(members)
    }
}

/// A timer that waits.
#[derive(Clone, Encode, Decode)]
pub(crate) struct Timer {
    pub(crate) id: u64,
    pub(crate) contract: AccountId,
    /// A time at which it is due. In the state, of a timer with a period, the first one since this was written.
    pub(crate) due_ms: u64,
    /// Time between calls; 0 for a timer that calls once.
    pub(crate) period_ms: u64,
    pub(crate) callback: Callback,
    /// Whether the entry of that time had no room for it.
    late: bool,
}

impl Timer {
    /// The first time after this one at which it is due.
    fn next_ms(&self, time_ms: u64) -> u64 {
        match time_ms.checked_sub(self.due_ms).and_then(|late| late.checked_div(self.period_ms)) {
            Some(missed) => self.due_ms.saturating_add(self.period_ms.saturating_mul(missed.saturating_add(1))),
            None => self.due_ms,
        }
    }
}

/// What waits of one contract.
#[derive(Default)]
struct Own {
    requests: BTreeSet<u64>,
    timers: BTreeSet<u64>,
}

impl Own {
    fn len(&self) -> usize {
        self.requests.len() + self.timers.len()
    }
}

/// A request, and when it is next this member's turn; `None` while it is no member.
struct Asked {
    wanted: Arc<Wanted>,
    turn_ms: Option<u64>,
}

/// What waits.
#[derive(Default)]
pub(crate) struct Jobs {
    requests: BTreeMap<u64, Asked>,
    timers: BTreeMap<u64, Timer>,
    /// Timers by when they are due.
    due: BTreeSet<(u64, u64)>,
    contracts: BTreeMap<AccountId, Own>,
    /// This member's place among so many.
    member: Option<(u64, u64)>,
    /// Requests by when it is next this member's turn.
    turns: BTreeSet<(u64, u64)>,
}

impl Jobs {
    /// What the state holds, after an entry of this time.
    pub(crate) fn load(snapshot: &Snapshot, time_ms: u64) -> Result<Self, Coded> {
        let mut jobs = Self::default();
        for bytes in snapshot.values(&REQUESTS, MAX_JOBS)? {
            jobs.keep_request(decode(&bytes)?);
        }
        for bytes in snapshot.values(&TIMERS, MAX_JOBS)? {
            let timer: Timer = decode(&bytes)?;
            let due_ms = if timer.late { timer.due_ms } else { timer.next_ms(time_ms) };
            jobs.keep_timer(Timer { due_ms, ..timer });
        }
        Ok(jobs)
    }

    fn keep_request(&mut self, wanted: Wanted) {
        let (id, from_ms) = (wanted.id, wanted.asked_ms);
        self.contracts.entry(wanted.contract).or_default().requests.insert(id);
        self.requests.insert(id, Asked { wanted: Arc::new(wanted), turn_ms: None });
        self.expect_turn(id, from_ms);
    }

    fn keep_timer(&mut self, timer: Timer) {
        self.contracts.entry(timer.contract).or_default().timers.insert(timer.id);
        self.due.insert((timer.due_ms, timer.id));
        self.timers.insert(timer.id, timer);
    }

    fn leave(&mut self, contract: &AccountId, id: u64) {
        if let Some(own) = self.contracts.get_mut(contract) {
            let _ = own.requests.remove(&id) || own.timers.remove(&id);
            if own.len() == 0 {
                self.contracts.remove(contract);
            }
        }
    }

    /// Which member this is, and of how many, in an epoch.
    pub(crate) fn member(&self) -> Option<(u64, u64)> {
        self.member
    }

    /// Says which member this is: its place, and how many there are.
    pub(crate) fn set_member(&mut self, place: u64, members: u64) {
        self.member = Some((place, members));
        let all: Vec<_> = self.requests.values().map(|asked| (asked.wanted.id, asked.wanted.asked_ms)).collect();
        all.into_iter().for_each(|(id, from_ms)| self.expect_turn(id, from_ms));
    }

    /// Notes when this member's turn for a request next begins, or has begun, at that time or later.
    fn expect_turn(&mut self, id: u64, from_ms: u64) {
        let (Some((place, members)), Some(asked)) = (self.member, self.requests.get_mut(&id)) else { return };
        if let Some(before) = asked.turn_ms.take() {
            self.turns.remove(&(before, id));
        }
        let wanted = &asked.wanted;
        let now = wanted.turn(from_ms);
        let others = (0..members).find(|others| wanted.place(now.saturating_add(*others), members) == Some(place));
        let Some(others) = others else { return };
        let begins = wanted.asked_ms.saturating_add(wanted.turn_ms().saturating_mul(now.saturating_add(others)));
        let at_ms = begins.max(from_ms);
        asked.turn_ms = Some(at_ms);
        self.turns.insert((at_ms, id));
    }

    /// Requests that this member should perform now. Each is told once in each of its turns.
    pub(crate) fn take_turns(&mut self, now_ms: u64) -> Vec<Arc<Wanted>> {
        let mut mine = vec![];
        while let Some((at_ms, id)) = self.turns.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.turns.remove(&(at_ms, id));
            let Some(asked) = self.requests.get_mut(&id) else { continue };
            asked.turn_ms = None;
            let wanted = asked.wanted.clone();
            let turn = wanted.turn(now_ms);
            let over = wanted.asked_ms.saturating_add(wanted.turn_ms().saturating_mul(turn.saturating_add(1)));
            if self.member.is_some_and(|(place, members)| wanted.place(turn, members) == Some(place)) {
                mine.push(wanted);
            }
            self.expect_turn(id, over);
        }
        mine
    }

    /// When this member's next turn begins.
    pub(crate) fn next_turn(&self) -> Option<u64> {
        self.turns.first().map(|(at_ms, _)| *at_ms)
    }

    /// Whether a request still waits, and it is this member's turn.
    pub(crate) fn is_mine(&self, id: u64, now_ms: u64) -> bool {
        let (Some((place, members)), Some(asked)) = (self.member, self.requests.get(&id)) else { return false };
        asked.wanted.place(asked.wanted.turn(now_ms), members) == Some(place)
    }

    /// Timers by when they are due, and requests.
    #[cfg(test)]
    pub(crate) fn table(&self) -> (BTreeSet<(u64, u64)>, BTreeSet<u64>) {
        (self.due.clone(), self.requests.keys().copied().collect())
    }

    /// When the next timer is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether what an execution asks for fits; a contract may have `most`.
    pub(crate) fn has_room<'a>(
        &self,
        effects: impl Iterator<Item = (&'a AccountId, &'a Effect)>,
        most: usize,
    ) -> Result<(), Coded> {
        let mut more: BTreeMap<&AccountId, usize> = BTreeMap::new();
        for (contract, effect) in effects {
            if matches!(effect, Effect::Request { .. } | Effect::Timer { .. }) {
                *more.entry(contract).or_default() += 1;
            }
        }
        let all = self.requests.len() + self.timers.len() + more.values().sum::<usize>();
        let full =
            |(contract, more): (&&AccountId, &usize)| self.contracts.get(*contract).map_or(0, Own::len) + more > most;
        if !more.is_empty() && (all > MAX_JOBS || more.iter().any(full)) {
            return Err(Coded::new(Code::QueueFull, "of requests and timers that wait"));
        }
        Ok(())
    }

    /// Takes over what an execution asked for, at the time of its entry.
    pub(crate) fn take(&mut self, layer: &Layer, contract: AccountId, effect: Effect, now_ms: u64) {
        match effect {
            Effect::Request { id, request, timeout_ms, callback } => {
                let wanted = Wanted { id, contract, request, timeout_ms, asked_ms: now_ms, callback };
                layer.write(&REQUESTS, &id.to_be_bytes(), &wanted);
                self.keep_request(wanted);
            }
            Effect::Timer { id, delay_ms, period_ms, callback } => {
                let period_ms = if period_ms == 0 { 0 } else { period_ms.max(MIN_PERIOD_MS) };
                let due_ms = now_ms.saturating_add(delay_ms.max(1));
                let timer = Timer { id, contract, due_ms, period_ms, callback, late: false };
                layer.write(&TIMERS, &id.to_be_bytes(), &timer);
                self.keep_timer(timer);
            }
            // A contract cancels its own only.
            Effect::CancelTimer { id } if self.timers.get(&id).is_some_and(|timer| timer.contract == contract) => {
                self.remove_timer(layer, id);
            }
            _ => {}
        }
    }

    fn remove_timer(&mut self, layer: &Layer, id: u64) -> Option<Timer> {
        let timer = self.timers.remove(&id)?;
        self.due.remove(&(timer.due_ms, id));
        self.leave(&timer.contract, id);
        layer.set(&TIMERS, id.to_be_bytes().to_vec(), None);
        Some(timer)
    }

    /// Takes a request out, to call back.
    pub(crate) fn answered(&mut self, layer: &Layer, id: u64) -> Option<Arc<Wanted>> {
        let Asked { wanted, turn_ms } = self.requests.remove(&id)?;
        if let Some(at_ms) = turn_ms {
            self.turns.remove(&(at_ms, id));
        }
        self.leave(&wanted.contract, id);
        layer.set(&REQUESTS, id.to_be_bytes().to_vec(), None);
        Some(wanted)
    }

    /// Takes the first timer that is due, to call back, and sets it anew if it has a period.
    pub(crate) fn fire(&mut self, layer: &Layer, now_ms: u64) -> Option<Timer> {
        let (due_ms, id) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms)?;
        let timer = self.timers.get_mut(&id)?;
        if timer.period_ms == 0 {
            return self.remove_timer(layer, id);
        }
        let called = timer.clone();
        timer.due_ms = timer.next_ms(now_ms);
        if std::mem::take(&mut timer.late) {
            layer.write(&TIMERS, &id.to_be_bytes(), &*timer);
        }
        self.due.remove(&(due_ms, id));
        self.due.insert((timer.due_ms, id));
        Some(called)
    }

    /// Writes down which timers are due and were not called by an entry of this time.
    pub(crate) fn keep_late(&mut self, layer: &Layer, now_ms: u64) {
        for (_, id) in self.due.range(..=(now_ms, u64::MAX)) {
            let Some(timer) = self.timers.get_mut(id).filter(|timer| !timer.late && timer.period_ms > 0) else {
                continue;
            };
            timer.late = true;
            layer.write(&TIMERS, &id.to_be_bytes(), &*timer);
        }
    }

    /// Takes out all that waits of a contract.
    pub(crate) fn pack(&mut self, layer: &Layer, contract: &AccountId) -> (Vec<Wanted>, Vec<Timer>) {
        let Some(Own { requests, timers }) = self.contracts.remove(contract) else { return Default::default() };
        let requests = requests.into_iter().filter_map(|id| self.answered(layer, id));
        let requests = requests.map(|wanted| (*wanted).clone()).collect();
        (requests, timers.into_iter().filter_map(|id| self.remove_timer(layer, id)).collect())
    }

    /// Puts a request of a contract back that was taken out. Whoever performed it before, nobody was told.
    pub(crate) fn unpack_request(&mut self, layer: &Layer, wanted: Wanted, now_ms: u64) {
        let wanted = Wanted { asked_ms: now_ms, ..wanted };
        layer.write(&REQUESTS, &wanted.id.to_be_bytes(), &wanted);
        self.keep_request(wanted);
    }

    /// Puts a timer back that was taken out. One with a period leaves out the calls that it missed.
    pub(crate) fn unpack_timer(&mut self, layer: &Layer, timer: Timer, now_ms: u64) {
        let due_ms = if timer.period_ms > 0 { timer.next_ms(now_ms) } else { timer.due_ms };
        let timer = Timer { due_ms, late: false, ..timer };
        layer.write(&TIMERS, &timer.id.to_be_bytes(), &timer);
        self.keep_timer(timer);
    }

    /// Forgets all of a contract that has ended.
    pub(crate) fn end(&mut self, layer: &Layer, contract: &AccountId) {
        let Some(Own { requests, timers }) = self.contracts.remove(contract) else { return };
        requests.into_iter().for_each(|id| drop(self.answered(layer, id)));
        timers.into_iter().for_each(|id| drop(self.remove_timer(layer, id)));
    }
}
