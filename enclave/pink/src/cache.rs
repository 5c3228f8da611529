//! What contracts keep in the memory of one worker: gone with its process, and other workers have their own.
//!
//! Each contract has a quota, so that none can push out what others keep; when all quotas together do not fit, what was
//! not used for longest goes first. A value past its time is as good as gone: nothing revives it.

use crate::CacheOp;
use lru::LruCache;
use parking_lot::Mutex;
use phala_primitives::AccountId;
use std::collections::BTreeMap;

/// How long a value lives if nobody says otherwise, in milliseconds: seven days.
const LIFE_MS: u64 = 7 * 24 * 3600 * 1000;
/// What a value is counted with besides its bytes.
const ENTRY: usize = 128;

/// How much a cache keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheLimits {
    /// Bytes of one contract.
    pub contract_bytes: usize,
    /// Bytes of all.
    pub total_bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { contract_bytes: 4 << 20, total_bytes: 64 << 20 }
    }
}

struct Value {
    bytes: Vec<u8>,
    ends_ms: u64,
}

struct Held {
    values: LruCache<(AccountId, Vec<u8>), Value>,
    contracts: BTreeMap<AccountId, usize>,
    total: usize,
}

/// The cache of a worker.
pub struct Cache {
    limits: CacheLimits,
    held: Mutex<Held>,
}

fn size(key: &[u8], value: &[u8]) -> usize {
    ENTRY.saturating_add(key.len()).saturating_add(value.len())
}

impl Held {
    fn forget(&mut self, name: &(AccountId, Vec<u8>)) -> Option<Value> {
        let value = self.values.pop(name)?;
        let bytes = size(&name.1, &value.bytes);
        self.total = self.total.saturating_sub(bytes);
        if let Some(used) = self.contracts.get_mut(&name.0) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.contracts.remove(&name.0);
            }
        }
        Some(value)
    }

    /// Forgets what of a contract is past its time.
    fn expire(&mut self, contract: &AccountId, now_ms: u64) {
        let over = |((owner, _), value): &(&(AccountId, Vec<u8>), &Value)| owner == contract && value.ends_ms <= now_ms;
        let names: Vec<_> = self.values.iter().filter(over).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.forget(&name);
        }
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, held: Mutex::new(Held { values: LruCache::unbounded(), contracts: BTreeMap::new(), total: 0 }) }
    }

    /// Keeps a value for seven days, or as long as [`Cache::expire`] says. `false`: the contract's quota is full.
    pub fn set(&self, contract: AccountId, key: &[u8], value: &[u8], now_ms: u64) -> bool {
        let bytes = size(key, value);
        let name = (contract, key.to_vec());
        let mut held = self.held.lock();
        let fits = |held: &mut Held| {
            let replaced = held.values.peek(&name).map_or(0, |old| size(key, &old.bytes));
            let used = held.contracts.get(&contract).copied().unwrap_or(0).saturating_sub(replaced);
            used.saturating_add(bytes) <= self.limits.contract_bytes
        };
        if !fits(&mut held) {
            held.expire(&contract, now_ms);
            if !fits(&mut held) {
                return false;
            }
        }
        held.forget(&name);
        let value = Value { bytes: value.to_vec(), ends_ms: now_ms.saturating_add(LIFE_MS) };
        held.values.put(name, value);
        *held.contracts.entry(contract).or_default() += bytes;
        held.total += bytes;
        while held.total > self.limits.total_bytes {
            let Some(oldest) = held.values.peek_lru().map(|(name, _)| name.clone()) else { break };
            held.forget(&oldest);
        }
        true
    }

    /// A value that is kept and not past its time.
    pub fn get(&self, contract: AccountId, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
        let name = (contract, key.to_vec());
        let mut held = self.held.lock();
        if held.values.peek(&name)?.ends_ms <= now_ms {
            held.forget(&name);
            return None;
        }
        held.values.get(&name).map(|value| value.bytes.clone())
    }

    /// Lets a value end some seconds from now. One that has ended stays so.
    pub fn expire(&self, contract: AccountId, key: &[u8], seconds: u64, now_ms: u64) {
        let name = (contract, key.to_vec());
        let mut held = self.held.lock();
        let Some(value) = held.values.peek_mut(&name) else { return };
        if value.ends_ms <= now_ms || seconds == 0 {
            held.forget(&name);
        } else {
            value.ends_ms = now_ms.saturating_add(seconds.saturating_mul(1000));
        }
    }

    /// Forgets a value, and returns it if it was not past its time.
    pub fn remove(&self, contract: AccountId, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
        let value = self.held.lock().forget(&(contract, key.to_vec()))?;
        (value.ends_ms > now_ms).then_some(value.bytes)
    }

    /// Carries out what a command asked for. A full quota keeps the old value.
    pub fn apply(&self, contract: AccountId, op: &CacheOp, now_ms: u64) {
        match op {
            CacheOp::Set { key, value } => drop(self.set(contract, key, value, now_ms)),
            CacheOp::Expire { key, seconds } => self.expire(contract, key, *seconds, now_ms),
            CacheOp::Remove { key } => drop(self.remove(contract, key, now_ms)),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(CacheLimits::default())
    }
}
