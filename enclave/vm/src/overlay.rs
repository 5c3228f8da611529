//! What an execution has written so far, over the [`World`] that it started from.
//!
//! Upon a nested call: `begin`. Upon its end: `commit`, or `rollback`, which undoes by a log of what each write
//! replaced. An entry that was already written since the innermost `begin` needs no new line in the log, so the log
//! grows with the calls and keys, never with the number of writes.
//!
//! Transient storage is kept beside, undone alike, and forgotten in the end. Both count for one limit.

use crate::{WorldError, error::Reason, world::World};
use phala_primitives::{AccountId, Balance, Code, Hash, limits::MIN_BALANCE};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

type Key = (AccountId, Vec<u8>);
type Value = Option<Vec<u8>>;

/// Bytes of what was read that are kept, so that reading before writing costs one access to the store.
const READ_CACHE: usize = 4 << 20;
/// What an entry is counted with besides its bytes.
const ENTRY_BYTES: usize = 128;

struct Written {
    value: Value,
    /// The mark that was innermost when this was written.
    mark: u64,
}

#[derive(Clone, Copy)]
struct Given {
    hash: Hash,
    /// As for what is written.
    mark: u64,
}

#[derive(Clone, Copy)]
struct Owned {
    balance: Balance,
    /// As for what is written.
    mark: u64,
}

/// Where a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Storage,
    Transient,
}

enum Undo {
    Value(Place, Key, Option<Written>),
    Balance(AccountId, Option<Owned>),
    Code(AccountId, Option<Given>),
    Terminated(AccountId),
}

/// A place to roll back to.
pub(crate) struct Mark {
    log: usize,
    outer: u64,
}

/// Effects of an execution that ended well.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) changes: BTreeMap<Key, Value>,
    pub(crate) instantiated: BTreeMap<AccountId, Hash>,
    pub(crate) terminated: BTreeSet<AccountId>,
    pub(crate) balances: BTreeMap<AccountId, Balance>,
}

pub(crate) struct Overlay {
    world: Arc<dyn World>,
    storage: BTreeMap<Key, Written>,
    transient: BTreeMap<Key, Written>,
    code: BTreeMap<AccountId, Given>,
    terminated: BTreeSet<AccountId>,
    balances: BTreeMap<AccountId, Owned>,
    undo: Vec<Undo>,
    reads: BTreeMap<Key, Value>,
    read_bytes: usize,
    /// Bytes in `storage`, `transient` and `undo`.
    held: usize,
    limit: usize,
    mark: u64,
    next_mark: u64,
}

fn size(key: &Key, value: &Value) -> usize {
    ENTRY_BYTES.saturating_add(key.1.len()).saturating_add(value.as_ref().map_or(0, Vec::len))
}

impl Overlay {
    pub(crate) fn new(world: Arc<dyn World>, limit: usize) -> Self {
        Self {
            world,
            storage: BTreeMap::new(),
            transient: BTreeMap::new(),
            code: BTreeMap::new(),
            terminated: BTreeSet::new(),
            balances: BTreeMap::new(),
            undo: Vec::new(),
            reads: BTreeMap::new(),
            read_bytes: 0,
            held: 0,
            limit,
            mark: 0,
            next_mark: 1,
        }
    }

    pub(crate) fn world(&self) -> &dyn World {
        &*self.world
    }

    pub(crate) fn shared_world(&self) -> Arc<dyn World> {
        self.world.clone()
    }

    /// Runs `see` on the value under a key, without copying it.
    pub(crate) fn read<R>(
        &mut self,
        contract: AccountId,
        key: Vec<u8>,
        see: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, WorldError> {
        let key = (contract, key);
        if let Some(written) = self.storage.get(&key) {
            return Ok(see(written.value.as_deref()));
        }
        if let Some(value) = self.reads.get(&key) {
            return Ok(see(value.as_deref()));
        }
        let value = self.world.storage(&contract, &key.1)?;
        let result = see(value.as_deref());
        let bytes = size(&key, &value);
        if self.read_bytes.saturating_add(bytes) <= READ_CACHE {
            self.read_bytes += bytes;
            self.reads.insert(key, value);
        }
        Ok(result)
    }

    /// Writes or removes a value and returns the length of the one before.
    pub(crate) fn write(&mut self, contract: AccountId, key: Vec<u8>, value: Value) -> Result<Option<usize>, Reason> {
        let before = self.read(contract, key.clone(), |value| value.map(<[u8]>::len))?;
        self.put(Place::Storage, (contract, key), value)?;
        Ok(before)
    }

    /// The value under a key of a contract's transient storage.
    pub(crate) fn read_transient(&self, contract: AccountId, key: Vec<u8>) -> Option<&[u8]> {
        self.transient.get(&(contract, key)).and_then(|written| written.value.as_deref())
    }

    /// Writes or removes a value of transient storage and returns the length of the one before.
    pub(crate) fn write_transient(
        &mut self,
        contract: AccountId,
        key: Vec<u8>,
        value: Value,
    ) -> Result<Option<usize>, Reason> {
        let before = self.read_transient(contract, key.clone()).map(<[u8]>::len);
        self.put(Place::Transient, (contract, key), value)?;
        Ok(before)
    }

    fn values(&mut self, place: Place) -> &mut BTreeMap<Key, Written> {
        match place {
            Place::Storage => &mut self.storage,
            Place::Transient => &mut self.transient,
        }
    }

    fn put(&mut self, place: Place, key: Key, value: Value) -> Result<(), Reason> {
        let grown = self.held.saturating_add(size(&key, &value));
        if grown > self.limit {
            return Err(self.full());
        }
        self.held = grown;
        let mark = self.mark;
        match self.values(place).get_mut(&key) {
            Some(written) if written.mark == mark => {
                let replaced = std::mem::replace(&mut written.value, value);
                self.held = self.held.saturating_sub(size(&key, &replaced));
            }
            Some(written) => {
                let replaced = std::mem::replace(written, Written { value, mark });
                self.undo.push(Undo::Value(place, key, Some(replaced)));
            }
            None => {
                self.undo.push(Undo::Value(place, key.clone(), None));
                self.values(place).insert(key, Written { value, mark });
            }
        }
        Ok(())
    }

    /// Hash of the code of a contract that exists now.
    pub(crate) fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
        if self.terminated.contains(contract) {
            return Ok(None);
        }
        match self.code.get(contract) {
            Some(given) => Ok(Some(given.hash)),
            None => self.world.code_hash(contract),
        }
    }

    /// Whether an address is taken: by a contract, or by one that ended in this execution.
    pub(crate) fn is_taken(&self, contract: &AccountId) -> Result<bool, WorldError> {
        Ok(self.terminated.contains(contract) || self.code_hash(contract)?.is_some())
    }

    /// Gives a new contract its code, or an old one other code.
    pub(crate) fn set_code_hash(&mut self, contract: AccountId, hash: Hash) {
        let mark = self.mark;
        match self.code.get_mut(&contract) {
            Some(given) if given.mark == mark => given.hash = hash,
            _ => {
                let before = self.code.insert(contract, Given { hash, mark });
                self.undo.push(Undo::Code(contract, before));
            }
        }
    }

    /// Ends a contract.
    pub(crate) fn terminate(&mut self, contract: AccountId) {
        if self.terminated.insert(contract) {
            self.undo.push(Undo::Terminated(contract));
        }
    }

    /// What an account owns now.
    pub(crate) fn balance(&self, account: &AccountId) -> Result<Balance, WorldError> {
        match self.balances.get(account) {
            Some(owned) => Ok(owned.balance),
            None => self.world.balance(account),
        }
    }

    /// What both own after a transfer, if it is possible: there is enough, and neither is left with dust.
    fn after_transfer(
        &self,
        from: &AccountId,
        to: &AccountId,
        amount: Balance,
    ) -> Result<Option<(Balance, Balance)>, WorldError> {
        let lives = |balance: &Balance| *balance == 0 || *balance >= MIN_BALANCE;
        let left = self.balance(from)?.checked_sub(amount);
        if from == to {
            return Ok(left.and_then(|left| left.checked_add(amount)).map(|all| (all, all)));
        }
        let had = self.balance(to)?;
        let both = left.filter(lives).zip(had.checked_add(amount).filter(lives));
        Ok(both)
    }

    /// Whether so much may go from one to the other.
    pub(crate) fn may_transfer(&self, from: &AccountId, to: &AccountId, amount: Balance) -> Result<bool, WorldError> {
        Ok(amount == 0 || self.after_transfer(from, to, amount)?.is_some())
    }

    /// Moves money. `false`: it is not possible, and nothing happened.
    pub(crate) fn transfer(&mut self, from: AccountId, to: AccountId, amount: Balance) -> Result<bool, Reason> {
        if amount == 0 {
            return Ok(true);
        }
        let Some((left, got)) = self.after_transfer(&from, &to, amount)? else { return Ok(false) };
        self.set_balance(from, left)?;
        self.set_balance(to, got)?;
        Ok(true)
    }

    /// Takes money out of the world. `false` as for transfers.
    pub(crate) fn pay_out(&mut self, from: AccountId, amount: Balance) -> Result<bool, Reason> {
        let left = self.balance(&from)?.checked_sub(amount);
        let Some(left) = left.filter(|left| *left == 0 || *left >= MIN_BALANCE) else { return Ok(false) };
        self.set_balance(from, left)?;
        Ok(true)
    }

    fn set_balance(&mut self, account: AccountId, balance: Balance) -> Result<(), Reason> {
        let mark = self.mark;
        if let Some(owned) = self.balances.get_mut(&account).filter(|owned| owned.mark == mark) {
            owned.balance = balance;
            return Ok(());
        }
        let grown = self.held.saturating_add(ENTRY_BYTES);
        if grown > self.limit {
            return Err(self.full());
        }
        self.held = grown;
        let before = self.balances.insert(account, Owned { balance, mark });
        self.undo.push(Undo::Balance(account, before));
        Ok(())
    }

    fn full(&self) -> Reason {
        Reason::contract(Code::StorageLimit, format!("more than {} bytes of changes in one execution", self.limit))
    }

    pub(crate) fn begin(&mut self) -> Mark {
        let mark = Mark { log: self.undo.len(), outer: self.mark };
        self.mark = self.next_mark;
        self.next_mark += 1;
        mark
    }

    pub(crate) fn commit(&mut self, mark: Mark) {
        self.mark = mark.outer;
    }

    pub(crate) fn rollback(&mut self, mark: Mark) {
        self.mark = mark.outer;
        while self.undo.len() > mark.log {
            match self.undo.pop() {
                Some(Undo::Value(place, key, before)) => self.restore(place, key, before),
                Some(Undo::Balance(account, before)) => self.restore_balance(account, before),
                Some(Undo::Code(contract, Some(given))) => drop(self.code.insert(contract, given)),
                Some(Undo::Code(contract, None)) => drop(self.code.remove(&contract)),
                Some(Undo::Terminated(contract)) => drop(self.terminated.remove(&contract)),
                None => break,
            }
        }
    }

    fn restore_balance(&mut self, account: AccountId, before: Option<Owned>) {
        self.held = self.held.saturating_sub(ENTRY_BYTES);
        match before {
            Some(owned) => drop(self.balances.insert(account, owned)),
            None => drop(self.balances.remove(&account)),
        }
    }

    fn restore(&mut self, place: Place, key: Key, before: Option<Written>) {
        let values = self.values(place);
        let (bytes, undone) = (
            size(&key, &None),
            match before {
                Some(written) => values.insert(key, written),
                None => values.remove(&key),
            },
        );
        let bytes = undone.map_or(0, |written| bytes.saturating_add(written.value.map_or(0, |value| value.len())));
        self.held = self.held.saturating_sub(bytes);
    }

    /// What is to be written in the end. Contracts that ended leave nothing but their name, and those that also began
    /// in this execution not even that.
    pub(crate) fn finish(self) -> Result<Effects, WorldError> {
        let mut effects = Effects::default();
        for contract in &self.terminated {
            if self.world.code_hash(contract)?.is_some() {
                effects.terminated.insert(*contract);
            }
        }
        let lives = |contract: &AccountId| !self.terminated.contains(contract);
        let code = self.code.into_iter().filter(|(contract, _)| lives(contract));
        effects.instantiated = code.map(|(contract, given)| (contract, given.hash)).collect();
        effects.balances = self.balances.into_iter().map(|(account, owned)| (account, owned.balance)).collect();
        effects.changes = self
            .storage
            .into_iter()
            .filter(|((contract, _), _)| lives(contract))
            .map(|(key, written)| (key, written.value))
            .collect();
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl World for Fixed {
        fn storage(&self, _: &AccountId, key: &[u8]) -> Result<Option<Vec<u8>>, WorldError> {
            Ok((key == b"old").then(|| b"world".to_vec()))
        }
        fn code_hash(&self, contract: &AccountId) -> Result<Option<Hash>, WorldError> {
            Ok((contract.0[0] == 1).then_some(Hash::ZERO))
        }
        fn code(&self, _: &Hash) -> Result<Option<Vec<u8>>, WorldError> {
            Ok(None)
        }
    }

    fn get(overlay: &mut Overlay, key: &[u8]) -> Option<Vec<u8>> {
        overlay.read(AccountId([1; 32]), key.to_vec(), |value| value.map(<[u8]>::to_vec)).unwrap()
    }

    fn put(overlay: &mut Overlay, key: &[u8], value: Option<&[u8]>) -> Option<usize> {
        overlay.write(AccountId([1; 32]), key.to_vec(), value.map(<[u8]>::to_vec)).unwrap()
    }

    #[test]
    fn nested_rollbacks_restore_exactly_what_was() {
        let mut overlay = Overlay::new(Arc::new(Fixed), 1 << 20);
        assert_eq!(put(&mut overlay, b"old", Some(b"a")), Some(5));
        let outer = overlay.begin();
        put(&mut overlay, b"old", Some(b"b"));
        let inner = overlay.begin();
        put(&mut overlay, b"old", None);
        put(&mut overlay, b"new", Some(b"x"));
        overlay.commit(inner);
        put(&mut overlay, b"new", Some(b"y"));
        let again = overlay.begin();
        put(&mut overlay, b"new", Some(b"z"));
        overlay.rollback(again);
        assert_eq!(get(&mut overlay, b"new"), Some(b"y".to_vec()));
        assert_eq!(get(&mut overlay, b"old"), None);
        let held = overlay.held;
        overlay.rollback(outer);
        assert_eq!(get(&mut overlay, b"old"), Some(b"a".to_vec()));
        assert_eq!(get(&mut overlay, b"new"), None);
        assert!(overlay.held < held);
        assert_eq!(overlay.finish().unwrap().changes.len(), 1);
    }

    #[test]
    fn transient_values_are_undone_and_counted_like_others_but_never_kept() {
        let mut overlay = Overlay::new(Arc::new(Fixed), 1000);
        let (contract, other) = (AccountId([1; 32]), AccountId([2; 32]));
        let write = |overlay: &mut Overlay, value: &[u8]| {
            overlay.write_transient(contract, b"k".to_vec(), Some(value.to_vec())).unwrap()
        };
        assert_eq!(write(&mut overlay, b"a"), None);
        let (mark, held) = (overlay.begin(), overlay.held);
        assert_eq!(write(&mut overlay, b"bc"), Some(1));
        assert_eq!(overlay.write_transient(contract, b"k".to_vec(), None).unwrap(), Some(2));
        assert_eq!(overlay.read_transient(contract, b"k".to_vec()), None);
        let refused = overlay.write_transient(contract, b"l".to_vec(), Some(vec![0; 700])).unwrap_err();
        assert_eq!(refused.code(), Code::StorageLimit);
        overlay.rollback(mark);
        assert_eq!((overlay.read_transient(contract, b"k".to_vec()), overlay.held), (Some(&b"a"[..]), held));
        assert_eq!(overlay.read_transient(other, b"k".to_vec()), None);
        assert_eq!(get(&mut overlay, b"k"), None, "storage proper is another place");
        assert!(overlay.finish().unwrap().changes.is_empty());
    }

    #[test]
    fn rewriting_holds_no_more_and_much_is_refused() {
        let mut overlay = Overlay::new(Arc::new(Fixed), 1000);
        for _ in 0..100 {
            put(&mut overlay, b"k", Some(&[7; 300]));
        }
        assert_eq!(overlay.undo.len(), 1);
        let refused = overlay.write(AccountId([1; 32]), b"l".to_vec(), Some(vec![0; 600])).unwrap_err();
        assert_eq!(refused.code(), Code::StorageLimit);
    }

    #[test]
    fn replacing_code_again_and_again_holds_no_more() {
        let mut overlay = Overlay::new(Arc::new(Fixed), 1000);
        let (contract, other) = (AccountId([2; 32]), Hash([9; 32]));
        overlay.set_code_hash(contract, other);
        let mark = overlay.begin();
        for number in 0..100 {
            overlay.set_code_hash(contract, Hash([number; 32]));
        }
        assert_eq!(overlay.undo.len(), 2);
        overlay.rollback(mark);
        assert_eq!(overlay.code_hash(&contract).unwrap(), Some(other));
    }

    #[test]
    fn the_ended_are_gone_and_leave_no_changes() {
        let mut overlay = Overlay::new(Arc::new(Fixed), 1 << 20);
        let (old, new) = (AccountId([1; 32]), AccountId([2; 32]));
        overlay.set_code_hash(new, Hash::ZERO);
        overlay.terminate(new);
        let mark = overlay.begin();
        overlay.terminate(old);
        overlay.rollback(mark);
        assert!(overlay.code_hash(&old).unwrap().is_some() && overlay.code_hash(&new).unwrap().is_none());
        assert!(overlay.is_taken(&new).unwrap());
        put(&mut overlay, b"k", Some(b"v"));
        overlay.terminate(old);
        let effects = overlay.finish().unwrap();
        assert!(effects.changes.is_empty() && effects.instantiated.is_empty());
        assert_eq!(effects.terminated, BTreeSet::from([old]));
    }
}
