//! Commands that wait for the log.
//!
//! Accounts take turns: the n-th waiting command of each comes before the n+1-th of any, so that an account that sends
//! many does not make others wait. HTTP requests for a contract's hooks take turns as an account of that contract's own,
//! whichever member brings them, and of all of them less may wait than of the others. A command leaves when it was executed, or a while after its deadline.

use crate::check::{Key, is_hook, key};
use codec::Encode;
use futures::channel::oneshot;
use phala_primitives::{AccountId, Code, Coded, Hash};
use phala_session::{Answer, SignedCommand};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::Waker,
};

/// Most commands that wait.
pub const MAX_POOL_COMMANDS: usize = 8192;
/// Most commands of one account that wait.
pub const MAX_POOL_PER_ACCOUNT: usize = 1024;
/// Most bytes that wait.
pub const MAX_POOL_BYTES: usize = 32 << 20;
/// Most HTTP requests of one contract's hooks that wait.
pub const MAX_POOL_PER_HOOK: usize = 64;
/// Most of all contracts' hooks, and the most bytes of them.
const MAX_POOL_HOOKS: usize = 1024;
const MAX_POOL_HOOK_BYTES: usize = 8 << 20;
/// Most clients that wait for one command.
const MAX_TICKETS: usize = 8;
/// How long after its deadline a command is given up, in milliseconds: longer than clocks differ.
const GRACE_MS: u64 = 5_000;
/// How long a command of an own client waits for a proposal before it is forwarded again, in milliseconds.
const RESEND_MS: u64 = 500;

/// What those who wait for a command get.
pub(crate) type Reply = Result<Answer, Coded>;

/// A command that waits.
pub(crate) struct Pending {
    pub(crate) command: Arc<SignedCommand>,
    pub(crate) hash: Hash,
    pub(crate) size: usize,
    turn: (u64, u64),
    /// Height of the entry that was proposed with it.
    proposed: Option<u64>,
    tickets: Vec<oneshot::Sender<Reply>>,
    sent_ms: u64,
}

#[derive(Default)]
struct Account {
    waiting: usize,
    last_turn: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Pool {
    commands: BTreeMap<Key, Pending>,
    order: BTreeMap<(u64, u64), Key>,
    accounts: BTreeMap<AccountId, Account>,
    bytes: usize,
    /// HTTP requests among the commands, and their bytes.
    hooks: (usize, usize),
    arrivals: u64,
    /// Commands that no proposal holds.
    free: usize,
    /// What proposals hold, by height.
    held: BTreeMap<u64, Vec<Key>>,
    /// Whoever waits for a free command.
    wakers: Vec<Waker>,
    /// Whether an entry is wanted even without commands.
    urgent: bool,
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Pending> {
        self.commands.get(key)
    }

    /// Wants an entry, with commands or without.
    pub(crate) fn urge(&mut self) {
        self.urgent = true;
        self.wake();
    }

    /// Notes that an entry was proposed.
    pub(crate) fn calm(&mut self) {
        self.urgent = false;
    }

    /// Whether there is something that no proposal holds; otherwise `waker` is woken when there is.
    pub(crate) fn poll_free(&mut self, waker: &Waker) -> bool {
        let ready = self.free > 0 || self.urgent;
        if !ready && !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
        ready
    }

    /// Adds a checked command. `false`: it waits already.
    pub(crate) fn insert(&mut self, command: SignedCommand, hash: Hash, now_ms: u64) -> Result<bool, Coded> {
        let key = key(&command);
        if let Some(pending) = self.commands.get(&key) {
            let same = pending.hash == hash || is_hook(&command);
            return if same { Ok(false) } else { Err(crate::check::id_taken()) };
        }
        let (size, hook) = (command.encoded_size(), is_hook(&command));
        let waiting = self.accounts.get(&key.0).map_or(0, |account| account.waiting);
        let (hooks, bytes) = self.hooks;
        if hook && (waiting >= MAX_POOL_PER_HOOK || hooks >= MAX_POOL_HOOKS || bytes + size > MAX_POOL_HOOK_BYTES) {
            return Err(Code::HookBusy.into());
        }
        if waiting >= MAX_POOL_PER_ACCOUNT {
            return Err(Coded::new(Code::QueueFull, format!("{MAX_POOL_PER_ACCOUNT} of this account")));
        }
        if self.commands.len() >= MAX_POOL_COMMANDS || self.bytes.saturating_add(size) > MAX_POOL_BYTES {
            return Err(Code::QueueFull.into());
        }
        let now = self.order.first_key_value().map_or(0, |((turn, _), _)| *turn);
        let account = self.accounts.entry(key.0).or_insert(Account { waiting: 0, last_turn: now });
        let turn = (account.last_turn.max(now) + 1, self.arrivals);
        account.waiting += 1;
        account.last_turn = turn.0;
        self.arrivals += 1;
        self.bytes += size;
        if hook {
            self.hooks = (hooks + 1, bytes + size);
        }
        self.order.insert(turn, key);
        let command = Arc::new(command);
        self.commands
            .insert(key, Pending { command, hash, size, turn, proposed: None, tickets: vec![], sent_ms: now_ms });
        self.free += 1;
        self.wake();
        Ok(true)
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// A ticket for a command that waits.
    pub(crate) fn ticket(&mut self, key: &Key) -> Result<oneshot::Receiver<Reply>, Coded> {
        let pending = self.commands.get_mut(key).ok_or(Code::Internal)?;
        pending.tickets.retain(|ticket| !ticket.is_canceled());
        if pending.tickets.len() >= MAX_TICKETS {
            return Err(Coded::new(Code::Busy, "too many wait for this command"));
        }
        let (sender, receiver) = oneshot::channel();
        pending.tickets.push(sender);
        Ok(receiver)
    }

    /// Commands in their order, without those in `excluded`.
    pub(crate) fn waiting<'a>(&'a self, excluded: &'a BTreeSet<Key>) -> impl Iterator<Item = (&'a Key, &'a Pending)> {
        let keys = self.order.values().filter(|key| !excluded.contains(key));
        keys.filter_map(|key| self.commands.get_key_value(key))
    }

    /// Notes that an entry of this height was proposed with these commands.
    pub(crate) fn proposed<'a>(&mut self, height: u64, keys: impl Iterator<Item = &'a Key>) {
        let held = self.held.entry(height).or_default();
        for key in keys {
            let Some(pending) = self.commands.get_mut(key) else { continue };
            self.free -= usize::from(pending.proposed.is_none());
            pending.proposed = Some(height);
            held.push(*key);
        }
    }

    /// Notes that the entry of this height is final: what other proposals of the height held is free again.
    pub(crate) fn finalized(&mut self, height: u64) {
        let above = self.held.split_off(&height.saturating_add(1));
        for key in std::mem::replace(&mut self.held, above).into_values().flatten() {
            let Some(pending) = self.commands.get_mut(&key) else { continue };
            if pending.proposed.is_some_and(|at| at <= height) {
                pending.proposed = None;
                self.free += 1;
            }
        }
        if self.free > 0 {
            self.wake();
        }
    }

    /// Takes a command out with those who wait for it.
    pub(crate) fn remove(&mut self, key: &Key) -> Vec<oneshot::Sender<Reply>> {
        let Some(pending) = self.commands.remove(key) else { return vec![] };
        self.order.remove(&pending.turn);
        self.bytes -= pending.size;
        if is_hook(&pending.command) {
            self.hooks = (self.hooks.0 - 1, self.hooks.1 - pending.size);
        }
        self.free -= usize::from(pending.proposed.is_none());
        if let Some(account) = self.accounts.get_mut(&key.0) {
            account.waiting -= 1;
            if account.waiting == 0 {
                self.accounts.remove(&key.0);
            }
        }
        pending.tickets
    }

    /// Gives up commands whose deadline has long passed.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let over = |pending: &Pending| pending.command.command.deadline_ms.saturating_add(GRACE_MS) <= now_ms;
        let keys: Vec<Key> = self.commands.iter().filter(|(_, pending)| over(pending)).map(|(key, _)| *key).collect();
        for key in keys {
            for ticket in self.remove(&key) {
                // Whoever waited may be gone.
                let _ = ticket.send(Err(Coded::new(Code::NoQuorum, "its deadline has passed")));
            }
        }
    }

    /// Commands that a client of this replica waits for and that were not proposed for a while: to be sent again.
    pub(crate) fn overdue(&mut self, now_ms: u64) -> Vec<Arc<SignedCommand>> {
        let mut overdue = vec![];
        for pending in self.commands.values_mut() {
            let waits = pending.proposed.is_none() && !pending.tickets.is_empty();
            if waits && pending.sent_ms.saturating_add(RESEND_MS) <= now_ms {
                pending.sent_ms = now_ms;
                overdue.push(pending.command.clone());
            }
        }
        overdue
    }
}
