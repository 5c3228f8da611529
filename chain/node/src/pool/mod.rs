//! Extrinsics that wait for a block.
//!
//! An extrinsic that is valid on the newest finalised state comes in. Per account the extrinsics form a queue by
//! nonce; those without a gap from the account's next nonce are *ready*, the others *future*. A block takes the ready
//! ones, best priority first. An extrinsic leaves when a finalised block holds it or its nonce, when it turns out to
//! be invalid (then it is banned for a while), when its era ends, when one with the same nonce and a priority more
//! than a tenth higher replaces it, or when the pool is full and a better one comes: future ones go first, then the
//! lowest priority, always the last nonce of an account.
//!
//! The pool is pure: it is told the height and what finalised, and holds no clock.

mod watch;

use bytes::Bytes;
use phala_primitives::{Code, Coded, Hash};
use phala_rpc::ExtrinsicStatus;
use phala_runtime::AccountId;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use tokio::sync::mpsc;
use watch::Watchers;

/// How many blocks an invalid extrinsic stays banned.
const BAN_BLOCKS: u32 = 120;
/// Most banned extrinsics that are remembered.
const MAX_BANS: usize = 8192;
/// Most extrinsics that are offered for one block.
const MAX_OFFER: usize = 8192;

/// How much the pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Extrinsics.
    pub count: usize,
    /// Bytes of extrinsics.
    pub bytes: usize,
    /// Extrinsics of one account.
    pub per_account: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { count: 16_384, bytes: 16 << 20, per_account: 1024 }
    }
}

/// An extrinsic that may go into the next block.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) hash: Hash,
    pub(crate) bytes: Bytes,
    pub(crate) account: AccountId,
    pub(crate) nonce: u32,
    pub(crate) priority: u64,
    /// Last block that may hold it.
    pub(crate) until: u32,
    /// Order of arrival.
    pub(crate) arrival: u64,
}

impl Candidate {
    /// Higher goes first.
    pub(crate) fn rank(&self) -> (u64, Reverse<u64>) {
        (self.priority, Reverse(self.arrival))
    }
}

/// Ready extrinsics of one account, by nonce.
pub(crate) type Queue = Vec<Candidate>;

#[derive(Default)]
struct Account {
    /// Next nonce by the finalised state.
    nonce: u32,
    /// Nonce after the last ready extrinsic.
    ready: u32,
    /// What this account adds to the pool's count of ready ones.
    counted: usize,
    entries: BTreeMap<u32, Candidate>,
}

/// The pool. See the module's documentation.
pub(crate) struct Pool {
    limits: PoolLimits,
    accounts: BTreeMap<AccountId, Account>,
    hashes: BTreeMap<Hash, (AccountId, u32)>,
    expiries: BTreeSet<(u32, Hash)>,
    banned: BTreeMap<Hash, u32>,
    /// Those in blocks that are not final yet, with the block's height.
    in_flight: BTreeMap<Hash, u32>,
    watchers: Watchers,
    bytes: usize,
    ready: usize,
    arrivals: u64,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            hashes: BTreeMap::new(),
            expiries: BTreeSet::new(),
            banned: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            watchers: Watchers::default(),
            bytes: 0,
            ready: 0,
            arrivals: 0,
        }
    }

    pub(crate) fn contains(&self, hash: &Hash) -> bool {
        self.hashes.contains_key(hash)
    }

    /// Whether an extrinsic was found invalid lately.
    pub(crate) fn banned(&self, hash: &Hash) -> bool {
        self.banned.contains_key(hash)
    }

    /// Whether something is ready that no block holds yet.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready > self.in_flight.len()
    }

    /// All extrinsics.
    pub(crate) fn pending(&self) -> Vec<Bytes> {
        self.accounts.values().flat_map(|account| account.entries.values().map(|entry| entry.bytes.clone())).collect()
    }

    /// Next nonce of an account whose next nonce by the finalised state is `nonce`.
    pub(crate) fn next_nonce(&self, account: &AccountId, nonce: u32) -> u32 {
        self.accounts.get(account).map_or(nonce, |account| account.ready.max(nonce))
    }

    /// Puts a valid extrinsic in. `nonce` is the account's next one by the finalised state.
    pub(crate) fn insert(&mut self, mut entry: Candidate, nonce: u32) -> Result<(), Coded> {
        if self.contains(&entry.hash) {
            return Ok(());
        }
        let account = self.accounts.get(&entry.account);
        let replaced = account.and_then(|account| account.entries.get(&entry.nonce));
        if let Some(old) = replaced {
            if entry.priority <= old.priority.saturating_add(old.priority / 10) {
                return Err(Coded::new(
                    Code::BadExtrinsic,
                    "another with this nonce waits; replace it with a higher tip",
                ));
            }
        } else if account.is_some_and(|account| account.entries.len() >= self.limits.per_account) {
            return Err(Coded::new(Code::PoolFull, "too many extrinsics of this account wait"));
        }
        if let Some(old) = replaced.map(|old| old.hash) {
            self.remove(&old, || ExtrinsicStatus::Dropped(Coded::new(Code::BadExtrinsic, "replaced by a better one")));
        }
        self.make_room(&entry, nonce)?;
        entry.arrival = self.arrivals;
        self.arrivals = self.arrivals.saturating_add(1);
        self.bytes = self.bytes.saturating_add(entry.bytes.len());
        self.hashes.insert(entry.hash, (entry.account.clone(), entry.nonce));
        self.expiries.insert((entry.until, entry.hash));
        let name = entry.account.clone();
        let account = self.accounts.entry(name.clone()).or_default();
        account.nonce = account.nonce.max(nonce);
        account.entries.insert(entry.nonce, entry);
        self.refresh(&name);
        Ok(())
    }

    fn make_room(&mut self, new: &Candidate, nonce: u32) -> Result<(), Coded> {
        let full = || Coded::new(Code::PoolFull, "a higher tip may find room");
        if new.bytes.len() > self.limits.bytes || self.limits.count == 0 {
            return Err(full());
        }
        let rank = (new.nonce == self.next_nonce(&new.account, nonce), new.priority);
        while self.hashes.len() >= self.limits.count || self.bytes.saturating_add(new.bytes.len()) > self.limits.bytes {
            let tails = self.accounts.iter().filter(|(name, _)| **name != new.account);
            let worst = tails
                .filter_map(|(_, account)| {
                    let (nonce, tail) = account.entries.last_key_value()?;
                    Some(((*nonce < account.ready, tail.priority), Reverse(tail.arrival), tail.hash))
                })
                .min()
                .filter(|(worst, ..)| *worst < rank);
            let (.., hash) = worst.ok_or_else(full)?;
            self.remove(&hash, || ExtrinsicStatus::Dropped(Coded::new(Code::PoolFull, "a better one took its place")));
        }
        Ok(())
    }

    /// Takes an extrinsic out and tells who watches it.
    fn remove(&mut self, hash: &Hash, status: impl FnOnce() -> ExtrinsicStatus) {
        let Some((name, nonce)) = self.hashes.remove(hash) else { return };
        self.in_flight.remove(hash);
        if let Some(account) = self.accounts.get_mut(&name)
            && let Some(entry) = account.entries.remove(&nonce)
        {
            // What comes after a gap is no longer ready.
            account.ready = account.ready.min(nonce.max(account.nonce));
            self.bytes = self.bytes.saturating_sub(entry.bytes.len());
            self.expiries.remove(&(entry.until, *hash));
        }
        self.watchers.last_word(hash, status);
        self.refresh(&name);
    }

    /// Finds anew what is ready of an account, and tells who watches what became so.
    fn refresh(&mut self, name: &AccountId) {
        let Some(account) = self.accounts.get_mut(name) else { return };
        account.ready = account.ready.max(account.nonce);
        while let Some(entry) = account.entries.get(&account.ready) {
            self.watchers.ready(&entry.hash);
            account.ready = account.ready.saturating_add(1);
        }
        let count = account.ready.saturating_sub(account.nonce) as usize;
        self.ready = self.ready.saturating_sub(account.counted).saturating_add(count);
        account.counted = count;
        if account.entries.is_empty() {
            self.accounts.remove(name);
        }
    }

    /// Watches an extrinsic of the pool.
    pub(crate) fn watch(&mut self, hash: &Hash) -> mpsc::Receiver<ExtrinsicStatus> {
        let place = self.hashes.get(hash);
        let ready = place.and_then(|(name, nonce)| Some(*nonce < self.accounts.get(name)?.ready));
        let now = match ready {
            Some(true) => ExtrinsicStatus::Ready,
            Some(false) => ExtrinsicStatus::Future,
            None => ExtrinsicStatus::Dropped(Coded::new(Code::PoolFull, "a better one took its place")),
        };
        self.watchers.watch(hash, now, ready.is_some())
    }

    /// Ready extrinsics, by account.
    pub(crate) fn queues(&self) -> Vec<Queue> {
        let mut left = MAX_OFFER;
        let mut queues = vec![];
        for account in self.accounts.values() {
            let ready = account.nonce..account.ready.max(account.nonce);
            let queue: Queue = account.entries.range(ready).take(left).map(|(_, entry)| entry.clone()).collect();
            left = left.saturating_sub(queue.len());
            if !queue.is_empty() {
                queues.push(queue);
            }
        }
        queues
    }

    /// A block at this height, not final yet, holds these.
    pub(crate) fn in_block(&mut self, height: u32, hashes: impl Iterator<Item = Hash>) {
        for hash in hashes.filter(|hash| self.hashes.contains_key(hash)) {
            self.in_flight.insert(hash, height);
        }
    }

    /// Takes out and bans what can never be included.
    pub(crate) fn invalid(&mut self, hash: &Hash, reason: &str, height: u32) {
        if self.banned.len() < MAX_BANS {
            self.banned.insert(*hash, height.saturating_add(BAN_BLOCKS));
        }
        self.remove(hash, || ExtrinsicStatus::Invalid(Coded::new(Code::BadExtrinsic, reason)));
    }

    /// A block is final. `included` are hash, signer and nonce of its signed extrinsics, and their index.
    pub(crate) fn finalized(&mut self, height: u32, block: Hash, included: &[(u32, Hash, AccountId, u32)]) {
        for (_, _, signer, nonce) in included {
            if let Some(account) = self.accounts.get_mut(signer) {
                account.nonce = account.nonce.max(nonce.saturating_add(1));
            }
        }
        for (index, hash, ..) in included {
            self.remove(hash, || ExtrinsicStatus::Finalized { block, index: *index });
        }
        for (_, _, signer, _) in included {
            let Some(account) = self.accounts.get(signer) else { continue };
            let past: Vec<_> = account.entries.range(..account.nonce).map(|(_, entry)| entry.hash).collect();
            for hash in past {
                let usurped = || Coded::new(Code::BadExtrinsic, "another with this nonce was included");
                self.remove(&hash, || ExtrinsicStatus::Invalid(usurped()));
            }
            self.refresh(signer);
        }
        while let Some((until, hash)) = self.expiries.first().copied()
            && until <= height
        {
            self.expiries.pop_first();
            self.remove(&hash, || ExtrinsicStatus::Invalid(Coded::new(Code::BadExtrinsic, "its era has ended")));
        }
        self.banned.retain(|_, until| *until > height);
        self.in_flight.retain(|_, at| *at > height);
    }
}

#[cfg(test)]
mod tests;
