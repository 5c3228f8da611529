//! Money: who owns what after calls that pay, fail, and pay again. Random programs are held against a plain model.

use crate::support::*;
use phala_primitives::{AccountId, Balance, Code, PHA, limits::MIN_BALANCE};
use phala_vm::{Entry, Execution, Invocation, child_address};
use std::collections::{BTreeMap, BTreeSet};

/// A contract that does what its input says, see [`Op`].
const PERFORMER: &str = r#"(module
    (import "seal0" "input" (func $input (param i32 i32)))
    (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
    (import "seal1" "call" (func $call (param i32 i32 i64 i32 i32 i32 i32 i32) (result i32)))
    (import "seal0" "transfer" (func $transfer (param i32 i32 i32 i32) (result i32)))
    (import "seal1" "terminate" (func $terminate (param i32)))
    (import "env" "memory" (memory 2))
    (func (export "deploy"))
    (func (export "call") (local $p i32) (local $end i32) (local $op i32) (local $length i32)
        (i32.store (i32.const 0) (i32.const 100000))
        (call $input (i32.const 64) (i32.const 0))
        (local.set $p (i32.const 64))
        (local.set $end (i32.add (i32.const 64) (i32.load (i32.const 0))))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
            (local.set $op (i32.load8_u (local.get $p)))
            (local.set $p (i32.add (local.get $p) (i32.const 1)))
            (if (i32.eq (local.get $op) (i32.const 1)) (then
                (drop (call $transfer (local.get $p) (i32.const 32) (i32.add (local.get $p) (i32.const 32))
                    (i32.const 16)))
                (local.set $p (i32.add (local.get $p) (i32.const 48)))
                (br $next)))
            (if (i32.eq (local.get $op) (i32.const 2)) (then
                (local.set $length (i32.load16_u (i32.add (local.get $p) (i32.const 48))))
                (drop (call $call (i32.const 8) (local.get $p) (i64.const 0) (i32.add (local.get $p) (i32.const 32))
                    (i32.add (local.get $p) (i32.const 50)) (local.get $length) (i32.const -1) (i32.const 0)))
                (local.set $p (i32.add (local.get $p) (i32.add (i32.const 50) (local.get $length))))
                (br $next)))
            (if (i32.eq (local.get $op) (i32.const 3)) (then
                (call $return (i32.const 1) (i32.const 0) (i32.const 0))))
            (if (i32.eq (local.get $op) (i32.const 4)) (then unreachable))
            (call $terminate (local.get $p)))))) "#;

#[derive(Clone, Debug)]
enum Op {
    Transfer(AccountId, Balance),
    Call(AccountId, Balance, Vec<Op>),
    Revert,
    Trap,
    Terminate(AccountId),
}

fn encode(ops: &[Op]) -> Vec<u8> {
    ops.iter()
        .flat_map(|op| match op {
            Op::Transfer(to, amount) => [&[1][..], &to.0, &amount.to_le_bytes()].concat(),
            Op::Call(to, value, ops) => {
                let inner = encode(ops);
                [&[2][..], &to.0, &value.to_le_bytes(), &(inner.len() as u16).to_le_bytes(), &inner].concat()
            }
            Op::Revert => vec![3],
            Op::Trap => vec![4],
            Op::Terminate(to) => [&[5][..], &to.0].concat(),
        })
        .collect()
}

/// What should happen, by copies of the whole ledger.
#[derive(Clone, Default)]
struct Model {
    owned: BTreeMap<AccountId, Balance>,
    contracts: BTreeSet<AccountId>,
}

impl Model {
    fn transfer(&mut self, from: AccountId, to: AccountId, amount: Balance) -> bool {
        let own = |account| self.owned.get(&account).copied().unwrap_or(0);
        let lives = |balance: Balance| balance == 0 || balance >= MIN_BALANCE;
        if amount == 0 || (from == to && own(from) >= amount) {
            return true;
        }
        let Some(left) = own(from).checked_sub(amount) else { return false };
        let got = own(to) + amount;
        if from == to || !lives(left) || !lives(got) {
            return false;
        }
        self.owned.extend([(from, left), (to, got)]);
        true
    }

    /// Whether the callee ran to a good end. Whatever it is, the caller goes on.
    fn call(&mut self, stack: &mut Vec<AccountId>, from: AccountId, to: AccountId, value: Balance, ops: &[Op]) -> bool {
        let before = self.clone();
        if !self.contracts.contains(&to) || !self.transfer(from, to, value) {
            return false;
        }
        stack.push(to);
        let good = self.run(stack, to, ops);
        stack.pop();
        if !good {
            *self = before;
        }
        good
    }

    fn run(&mut self, stack: &mut Vec<AccountId>, this: AccountId, ops: &[Op]) -> bool {
        for op in ops {
            match op {
                Op::Transfer(to, amount) => drop(self.transfer(this, *to, *amount)),
                Op::Call(to, value, ops) => drop(self.call(stack, this, *to, *value, ops)),
                Op::Revert | Op::Trap => return false,
                Op::Terminate(to) => {
                    let entered = stack.iter().filter(|contract| **contract == this).count();
                    let all = self.owned.get(&this).copied().unwrap_or(0);
                    if *to == this || entered > 1 || !self.transfer(this, *to, all) {
                        return false;
                    }
                    self.contracts.remove(&this);
                    return true;
                }
            }
        }
        true
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn account(&mut self) -> AccountId {
        [AccountId([1; 32]), AccountId([2; 32]), AccountId([3; 32]), ALICE, BOB][self.below(5) as usize]
    }

    fn amount(&mut self) -> Balance {
        match self.below(6) {
            0 => 0,
            1 => MIN_BALANCE - 1 + Balance::from(self.below(3)),
            2 => PHA * 3,
            _ => PHA / 4 * Balance::from(self.below(8)),
        }
    }

    fn ops(&mut self, depth: u64) -> Vec<Op> {
        (0..self.below(5))
            .map(|_| match self.below(12) {
                0 => Op::Revert,
                1 => Op::Trap,
                2 => Op::Terminate(self.account()),
                3..=6 => Op::Transfer(self.account(), self.amount()),
                _ if depth == 0 => Op::Transfer(self.account(), self.amount()),
                _ => Op::Call(self.account(), self.amount(), self.ops(depth - 1)),
            })
            .collect()
    }
}

fn paying(value: Balance, contract: AccountId, data: &[u8]) -> Invocation {
    Invocation { value, ..Chain::invocation(contract, data) }
}

#[test]
fn random_calls_move_money_as_the_model_says_and_none_is_made_or_lost() {
    let mut moved = 0;
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let chain = Chain::default();
        let contracts = [1, 2, 3].map(|number| chain.place(number, PERFORMER));
        let mut model = Model { contracts: contracts.into(), ..Model::default() };
        for account in contracts.into_iter().chain([ALICE]) {
            model.owned.insert(account, PHA * 2);
            chain.0.state.lock().balances.insert(account, PHA * 2);
        }
        for _ in 0..6 {
            let (to, value, ops) = (contracts[dice.below(3) as usize], dice.amount(), dice.ops(4));
            let before = model.clone();
            let good = model.call(&mut vec![], ALICE, to, value, &ops);
            let result = chain.run(paying(value, to, &encode(&ops)));
            let query =
                chain.run(Invocation { mode: phala_vm::Mode::Query { ticks: 9 }, ..paying(value, to, &encode(&ops)) });
            assert_eq!(result.as_ref().ok().map(|run| &run.balances), query.as_ref().ok().map(|run| &run.balances));
            match &result {
                Ok(run) if !run.reverted() => chain.apply(run),
                _ => {}
            }
            assert_eq!(good, result.is_ok_and(|run| !run.reverted()), "seed {seed}: {ops:?}");
            let owned = chain.0.state.lock().balances.clone();
            let real = |map: &BTreeMap<AccountId, Balance>| {
                map.iter().filter(|(_, balance)| **balance > 0).map(|(a, b)| (*a, *b)).collect::<Vec<_>>()
            };
            assert_eq!(real(&owned), real(&model.owned), "seed {seed}: {value} to {to}: {ops:?}");
            assert_eq!(owned.values().sum::<Balance>(), PHA * 8);
            moved += u32::from(good && before.owned != model.owned);
        }
    }
    assert!(moved > 300, "only {moved} calls moved anything");
}

/// Calls `f` of one account or hash and an amount, and returns what its status and the functions on balances say.
fn teller(import: &str, call: &str) -> String {
    let imports = [
        RETURN,
        INPUT,
        r#"(import "seal0" "balance" (func $balance (param i32 i32)))
        (import "seal0" "value_transferred" (func $value (param i32 i32)))"#,
        import,
    ];
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
        (i32.store (i32.const 8) (i32.const 32)) (call $value (i32.const 1024) (i32.const 8))
        (i32.store (i32.const 8) (i32.const 32)) (call $balance (i32.const 1040) (i32.const 8))
        (i32.store (i32.const 1072) {call})
        (i32.store (i32.const 8) (i32.const 32)) (call $balance (i32.const 1056) (i32.const 8))
        (call $return (i32.const 0) (i32.const 1024) (i32.const 52))"
    );
    contract(&imports.concat(), &body, "")
}

/// Value transferred, balance before and after, status.
fn told(run: &Execution) -> (Balance, Balance, Balance, u32) {
    let amount = |at: usize| Balance::from_le_bytes(run.data[at..at + 16].try_into().unwrap());
    (amount(0), amount(16), amount(32), u32::from_le_bytes(run.data[48..52].try_into().unwrap()))
}

const TRANSFER: &str = r#"(import "seal0" "transfer" (func $f (param i32 i32 i32 i32) (result i32)))"#;
const PAY: &str = "(call $f (i32.const 4096) (i32.const 32) (i32.const 4128) (i32.const 16))";

fn rich(chain: &Chain, who: &[AccountId]) {
    chain.0.state.lock().balances.extend(who.iter().map(|account| (*account, PHA)));
}

#[test]
fn a_contract_sees_what_it_gets_and_has_and_spends_no_more() {
    let chain = Chain::default();
    let contract = chain.place(1, &teller(TRANSFER, PAY));
    rich(&chain, &[ALICE, contract]);
    let pay = |to: AccountId, amount: Balance| {
        chain.run(paying(PHA / 2, contract, &[&to.0[..], &amount.to_le_bytes()].concat()))
    };
    let (half, all) = (PHA / 2, PHA + PHA / 2);
    for (to, amount, left, status) in [
        (BOB, 0, all, 0),
        (BOB, PHA, half, 0),
        (BOB, all, 0, 0),
        (BOB, all + 1, all, 5),
        (BOB, all - MIN_BALANCE + 1, all, 5),
        (BOB, MIN_BALANCE - 1, all, 5),
        (ALICE, MIN_BALANCE - 1, all - MIN_BALANCE + 1, 0),
        (contract, PHA, all, 0),
        (contract, all + 1, all, 5),
        (BOB, Balance::MAX, all, 5),
    ] {
        let run = pay(to, amount).unwrap();
        assert_eq!(told(&run), (half, all, left, status), "{amount} to {to}");
        assert_eq!(
            run.balances.values().sum::<Balance>() + u128::from(!run.balances.contains_key(&ALICE)) * PHA,
            PHA * 2
        );
    }
    let poor = chain.run(paying(PHA + 1, contract, &[0; 48])).unwrap_err();
    assert_eq!((poor.code(), poor.is_fault(), poor.gas_used), (Code::TooLittle, false, 0));
}

#[test]
fn code_that_is_delegated_to_sees_the_value_of_its_caller_and_moves_none() {
    let chain = Chain::default();
    let import = r#"(import "seal0" "delegate_call" (func $f (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let delegate =
        "(call $f (i32.const 0) (i32.const 4096) (i32.const 4096) (i32.const 48) (i32.const 1024) (i32.const 16))";
    // The callee's whole answer replaces the first 16 bytes of the caller's: what was transferred.
    let inner = contract(
        &[RETURN, r#"(import "seal0" "value_transferred" (func $value (param i32 i32)))"#].concat(),
        "(i32.store (i32.const 8) (i32.const 32)) (call $value (i32.const 16) (i32.const 8))
        (call $return (i32.const 0) (i32.const 16) (i32.const 16))",
        "",
    );
    let hash = chain.upload(&wat::parse_str(inner).unwrap());
    let room = "(i32.store (i32.const 16) (i32.const 16)) (i32.store (i32.const 1072)";
    let contract = chain.place(1, &teller(import, delegate).replacen("(i32.store (i32.const 1072)", room, 1));
    rich(&chain, &[ALICE]);
    let run = chain.run(paying(PHA / 2, contract, &[&hash.0[..], &[0; 16]].concat())).unwrap();
    assert_eq!(told(&run), (PHA / 2, PHA / 2, PHA / 2, 0));
}

#[test]
fn new_contracts_begin_with_what_they_are_given() {
    let chain = Chain::default();
    let import = r#"(import "seal1" "instantiate"
        (func $f (param i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let create = "(call $f (i32.const 4096) (i64.const 0) (i32.const 4128) (i32.const 0) (i32.const 0) (i32.const -1)
        (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0))";
    let code = chain.upload(&wat::parse_str(PERFORMER).unwrap());
    let contract = chain.place(1, &teller(import, create));
    rich(&chain, &[ALICE, contract]);
    let run = |amount: Balance| chain.run(paying(0, contract, &[&code.0[..], &amount.to_le_bytes()].concat())).unwrap();
    let child = child_address(&contract, &code, &[], &[]);
    let good = run(PHA / 4);
    assert_eq!((told(&good).3, good.balances[&child]), (0, PHA / 4));
    let poor = run(PHA * 2);
    assert_eq!((told(&poor).3, poor.instantiated.len(), poor.balances.len()), (5, 0, 0));
    // From outside, and back if the constructor traps.
    let deploy =
        |value| Invocation { entry: Entry::Deploy { code_hash: code }, ..paying(value, AccountId([9; 32]), b"") };
    assert_eq!(chain.run(deploy(PHA)).unwrap().balances[&AccountId([9; 32])], PHA);
    assert_eq!(chain.run(deploy(PHA * 2)).unwrap_err().code(), Code::TooLittle);
}

#[test]
fn who_may_only_read_spends_nothing() {
    let chain = Chain::default();
    let performer = chain.place(1, PERFORMER);
    let reader = |flags: u32| {
        let body = format!(
            "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
            (i32.store (i32.const 1024) (call $call (i32.const {flags}) (i32.const 4096) (i64.const 0) (i32.const 4128)
                (i32.const 4144) (i32.sub (i32.load (i32.const 0)) (i32.const 48)) (i32.const -1) (i32.const 0)))
            (call $return (i32.const 0) (i32.const 1024) (i32.const 4))"
        );
        contract(&[RETURN, INPUT, CALL].concat(), &body, "")
    };
    let (reads, writes) = (chain.place(2, &reader(16)), chain.place(3, &reader(0)));
    rich(&chain, &[performer, reads, writes]);
    let ask = |who, value: Balance, ops: &[Op]| {
        chain.run(paying(0, who, &[&performer.0[..], &value.to_le_bytes(), &encode(ops)].concat()))
    };
    let pay = [Op::Transfer(BOB, PHA / 2)];
    assert_eq!(ask(writes, PHA / 2, &pay).unwrap().data, [0; 4]);
    assert_eq!(ask(reads, 0, &pay).unwrap().data, [1, 0, 0, 0], "the callee traps");
    assert_eq!(ask(reads, PHA / 2, &[]).unwrap_err().code(), Code::Trapped);
    assert!(ask(reads, 0, &[Op::Transfer(BOB, 0)]).unwrap().balances.is_empty());
}
