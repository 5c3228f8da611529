//! Contracts that call, create and replace each other.

use crate::support::*;
use phala_primitives::{AccountId, Code};
use phala_vm::{Execution, Failure, Invocation, Mode, child_address};

/// Calls whom its input says, with flags (4 bytes), gas (8), value (16), account (32) and data. Writes `p` before.
/// Returns the status (4 bytes) and the callee's output.
fn router() -> String {
    contract(
        &[RETURN, INPUT, SET, CALL].concat(),
        "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
         (drop (call $set (i32.const 8) (i32.const 1) (i32.const 8) (i32.const 1)))
         (i32.store (i32.const 4) (i32.const 1024))
         (i32.store (i32.const 1020) (call $call (i32.load (i32.const 4096)) (i32.const 4124) (i64.load (i32.const 4100))
            (i32.const 4108) (i32.const 4156) (i32.sub (i32.load (i32.const 0)) (i32.const 60))
            (i32.const 1024) (i32.const 4)))
         (call $return (i32.const 0) (i32.const 1020) (i32.add (i32.load (i32.const 4)) (i32.const 4)))",
        r#"(data (i32.const 8) "p")"#,
    )
}

/// Writes its input under `k`, then by the input's first byte: returns the input, reverts with it, traps, loops.
fn worker() -> String {
    contract(
        &[RETURN, INPUT, SET].concat(),
        "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
         (drop (call $set (i32.const 8) (i32.const 1) (i32.const 4096) (i32.load (i32.const 0))))
         (if (i32.le_u (i32.load8_u (i32.const 4096)) (i32.const 1)) (then
            (call $return (i32.load8_u (i32.const 4096)) (i32.const 4096) (i32.load (i32.const 0)))))
         (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 2)) (then unreachable))
         (loop br 0)",
        r#"(data (i32.const 8) "k")"#,
    )
}

struct Route {
    flags: u32,
    gas: u64,
    value: u128,
    to: AccountId,
}

impl Route {
    fn to(to: AccountId) -> Self {
        Self { flags: 0, gas: 0, value: 0, to }
    }

    fn with(&self, data: &[u8]) -> Vec<u8> {
        let (flags, gas, value) = (self.flags.to_le_bytes(), self.gas.to_le_bytes(), self.value.to_le_bytes());
        [&flags[..], &gas, &value, &self.to.0, data].concat()
    }
}

fn status(execution: &Execution) -> u32 {
    u32::from_le_bytes(execution.data[..4].try_into().unwrap())
}

fn keys(execution: &Execution) -> Vec<(u8, Vec<u8>)> {
    execution.changes.keys().map(|(contract, key)| (contract.0[0], key.clone())).collect()
}

fn pair() -> (Chain, AccountId, AccountId) {
    let chain = Chain::default();
    let (router, worker) = (chain.place(1, &router()), chain.place(2, &worker()));
    (chain, router, worker)
}

#[test]
fn only_what_failed_is_undone() {
    let (chain, router, worker) = pair();
    let both = [(1, b"p".to_vec()), (2, b"k".to_vec())];
    for (kind, expected, output, written) in
        [(0, 0, &[0, 9][..], &both[..]), (1, 2, &[1, 9], &both[..1]), (2, 1, &[], &both[..1])]
    {
        for run in [
            chain.call(router, &Route::to(worker).with(&[kind, 9])).unwrap(),
            chain.query(router, ALICE, &Route::to(worker).with(&[kind, 9])).unwrap(),
        ] {
            assert_eq!((status(&run), keys(&run)), (expected, written.to_vec()));
            // A callee that trapped leaves the room for its output as it was.
            assert!(expected == 1 || run.data[4..] == *output);
        }
    }
}

#[test]
fn a_callee_spends_what_it_is_given() {
    let (chain, router, worker) = pair();
    let given = 5_000_000;
    let run = chain.call(router, &Route { gas: given, ..Route::to(worker) }.with(&[3])).unwrap();
    assert_eq!(status(&run), 1);
    assert!((given..given + 1_000_000).contains(&run.gas_used), "{}", run.gas_used);
    let failure = chain.call(router, &Route::to(worker).with(&[3])).unwrap_err();
    assert_eq!((failure.code(), failure.gas_used), (Code::OutOfGas, GAS));
}

#[test]
fn nobody_is_entered_twice_unless_allowed() {
    let (chain, router, worker) = pair();
    let inner = Route::to(worker).with(&[0]);
    let denied = chain.call(router, &Route::to(router).with(&inner)).unwrap_err();
    assert_eq!(denied.code(), Code::Trapped);
    assert!(denied.to_string().contains("entered again"));
    let allowed = chain.call(router, &Route { flags: 8, ..Route::to(router) }.with(&inner)).unwrap();
    assert_eq!((status(&allowed), &allowed.data[4..8]), (0, &[0, 0, 0, 0][..]));
    // Through another contract as well: router, second router, router.
    let second = chain.place(3, &self::router());
    let through = Route::to(second).with(&Route::to(router).with(&inner));
    assert_eq!(status(&chain.call(router, &through).unwrap()), 1);
}

#[test]
fn depth_is_limited_and_the_reason_is_told() {
    let chain = Chain::default();
    let address = r#"(import "seal0" "address" (func $address (param i32 i32)))"#;
    let body = "(i32.store (i32.const 0) (i32.const 32)) (call $address (i32.const 64) (i32.const 0))
        (if (call $call (i32.const 8) (i32.const 64) (i64.const 0) (i32.const 128) (i32.const 0) (i32.const 0)
            (i32.const -1) (i32.const -1)) (then unreachable))";
    let contract = chain.place(1, &contract(&[CALL, address].concat(), body, ""));
    let failure = chain.call(contract, b"").unwrap_err();
    assert_eq!(failure.code(), Code::Trapped);
    assert!(failure.to_string().contains("P2011"), "{failure}");
    let again = chain.call(contract, b"").unwrap_err();
    assert_eq!(failure, again);
    // The same on a thread with a small stack, where all of the sixteen do not fit.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let there = small.spawn(move || chain.call(contract, b"").unwrap_err()).unwrap().join().unwrap();
    assert_eq!(failure, there);
}

#[test]
fn what_cannot_be_called_or_paid_is_a_status() {
    let (chain, router, worker) = pair();
    assert_eq!(status(&chain.call(router, &Route::to(BOB).with(&[0])).unwrap()), 8);
    let paid = chain.call(router, &Route { value: 1, ..Route::to(worker) }.with(&[0])).unwrap();
    assert_eq!((status(&paid), keys(&paid).len()), (5, 1));
    assert_eq!(
        chain.call(router, &Route { flags: 64, ..Route::to(worker) }.with(&[0])).unwrap_err().code(),
        Code::Trapped
    );
}

#[test]
fn flags_forward_clone_and_tail() {
    let (chain, router, worker) = pair();
    // The worker gets the router's own input, whose first byte is that of the flags: 2 traps, 1 reverts.
    let cloned = chain.call(router, &Route { flags: 2, ..Route::to(worker) }.with(&[7])).unwrap();
    assert_eq!(status(&cloned), 1);
    let forwarded = chain.call(router, &Route { flags: 1, ..Route::to(worker) }.with(&[7])).unwrap();
    let input = Route { flags: 1, ..Route::to(worker) }.with(&[7]);
    assert_eq!((status(&forwarded), &forwarded.data[4..]), (2, &input[..]));
    // A tail call answers in the router's place, and the router's revert flag is the worker's.
    let tail = chain.call(router, &Route { flags: 4, ..Route::to(worker) }.with(&[1, 5])).unwrap();
    assert_eq!((tail.flags, tail.data, tail.changes.len()), (1, vec![1, 5], 0));
}

#[test]
fn a_reading_call_cannot_write() {
    let (chain, router, worker) = pair();
    let run = chain.call(router, &Route { flags: 16, ..Route::to(worker) }.with(&[0])).unwrap();
    assert_eq!((status(&run), keys(&run).len()), (1, 1));
}

#[test]
fn delegated_code_works_on_the_callers_storage() {
    let chain = Chain::default();
    let worker = chain.upload(&wat::parse_str(worker()).unwrap());
    let delegate = r#"(import "seal0" "delegate_call" (func $delegate (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body = "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
        (i32.store (i32.const 1020) (call $delegate (i32.const 2) (i32.const 4100) (i32.const 0) (i32.const 0)
            (i32.const -1) (i32.const 0))) (call $return (i32.const 0) (i32.const 1020) (i32.const 4))";
    let contract = chain.place(5, &contract(&[RETURN, INPUT, delegate].concat(), body, ""));
    let run = chain.call(contract, &[&[0; 4], &worker.0[..]].concat()).unwrap();
    assert_eq!((status(&run), keys(&run)), (0, vec![(5, b"k".to_vec())]));
    assert_eq!(status(&chain.call(contract, &[0; 36]).unwrap()), 7);
}

/// Creates a contract of the code that its input names, twice if the input is longer than the name.
fn factory() -> String {
    let create = r#"(import "seal2" "instantiate" (func $create
        (param i32 i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let once = "(i32.store (i32.const 4) (i32.const 32)) (i32.store (i32.const 1020) (call $create (i32.const 4096)
        (i64.const 0) (i64.const 0) (i32.const -1) (i32.const 64) (i32.const 4096) (i32.const 32) (i32.const 1024)
        (i32.const 4) (i32.const -1) (i32.const 0) (i32.const 8) (i32.const 4)))";
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0)) {once}
        (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 32)) (then {once}))
        (call $return (i32.const 0) (i32.const 1020) (i32.const 36))"
    );
    contract(&[RETURN, INPUT, create].concat(), &body, r#"(data (i32.const 8) "salt")"#)
}

#[test]
fn contracts_create_contracts() {
    let chain = Chain::default();
    let factory = chain.place(6, &factory());
    let code = chain.upload(&wat::parse_str(worker()).unwrap());
    let run = chain.send(factory, ALICE, &code.0).unwrap();
    let child = child_address(&factory, &code, &code.0, b"salt");
    assert_eq!((status(&run), &run.data[4..36]), (0, &child.0[..]));
    assert_eq!(run.instantiated.into_iter().collect::<Vec<_>>(), [(child, code)]);
    assert_eq!(chain.call(child, &[0]).unwrap().data, [0]);
    assert_eq!(chain.call(factory, &code.0).unwrap_err().code(), Code::ContractExists);
    assert_eq!(status(&chain.call(factory, &[0; 32]).unwrap()), 7);
}

#[test]
fn creating_the_same_twice_undoes_the_first() {
    let chain = Chain::default();
    let factory = chain.place(6, &factory());
    let code = chain.upload(&wat::parse_str(worker()).unwrap());
    let failure = chain.call(factory, &[&code.0[..], &[1]].concat()).unwrap_err();
    assert_eq!(failure.code(), Code::ContractExists);
}

#[test]
fn a_constructor_that_fails_leaves_no_contract() {
    let chain = Chain::default();
    let factory = chain.place(6, &factory());
    let bad =
        r#"(module (import "env" "memory" (memory 1)) (func (export "deploy") unreachable) (func (export "call")))"#;
    let code = chain.upload(&wat::parse_str(bad).unwrap());
    let run = chain.call(factory, &[&code.0[..], &[1]].concat()).unwrap();
    assert_eq!((status(&run), run.instantiated.len()), (1, 0));
}

#[test]
fn code_can_be_replaced_and_contracts_end() {
    let chain = Chain::default();
    let replace = r#"(import "seal0" "set_code_hash" (func $replace (param i32) (result i32)))"#;
    let end = r#"(import "seal1" "terminate" (func $end (param i32)))"#;
    let body = "(i32.store (i32.const 0) (i32.const 4096)) (call $input (i32.const 4096) (i32.const 0))
        (if (i32.eqz (i32.load (i32.const 0))) (then (call $end (i32.const 64))))
        (i32.store (i32.const 64) (call $replace (i32.const 4096)))
        (call $return (i32.const 0) (i32.const 64) (i32.const 4))";
    let contract = chain.place(8, &contract(&[RETURN, INPUT, replace, end].concat(), body, ""));
    let ended = chain.call(contract, b"").unwrap();
    assert!(ended.terminated.contains(&contract));
    assert_eq!(status(&chain.call(contract, &[1; 32]).unwrap()), 7);
    let code = chain.upload(&wat::parse_str(worker()).unwrap());
    let replaced = chain.send(contract, ALICE, &code.0).unwrap();
    assert_eq!((status(&replaced), replaced.instantiated.get(&contract)), (0, Some(&code)));
    assert_eq!(chain.call(contract, &[0, 3]).unwrap().data, [0, 3]);
}

#[test]
fn faults_and_time_end_the_whole_chain_of_calls() {
    let (chain, router, worker) = pair();
    chain.set_broken(true);
    let failure: Failure = chain.call(router, &Route::to(worker).with(&[0])).unwrap_err();
    assert_eq!(failure.code(), Code::StorageFailed);
    chain.set_broken(false);
    let engine = phala_vm::Engine::new(phala_vm::Capacity::default()).unwrap();
    let query =
        Invocation { mode: Mode::Query { ticks: 2 }, ..Chain::invocation(router, &Route::to(worker).with(&[3])) };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| engine.execute(chain.0.clone(), query).unwrap_err().code());
        while !running.is_finished() {
            engine.tick();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(running.join().unwrap(), Code::TimeLimit);
    });
}

#[test]
fn thousands_of_calls_in_one_command_give_their_memory_back() {
    let chain = Chain::default();
    let worker = chain.place(2, &worker());
    let body = "(local $i i32) (i32.store (i32.const 0) (i32.const 32)) (call $input (i32.const 64) (i32.const 0))
        (loop (if (call $call (i32.const 0) (i32.const 64) (i64.const 0) (i32.const 128) (i32.const 128) (i32.const 1)
            (i32.const -1) (i32.const -1)) (then unreachable))
            (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000))))";
    let caller = chain.place(1, &contract(&[CALL, INPUT].concat(), body, ""));
    let run = chain.call(caller, &worker.0).unwrap();
    assert_eq!(keys(&run), [(2, b"k".to_vec())]);
}

#[test]
fn transient_storage_lasts_for_one_command_and_is_undone_with_calls() {
    // Counts under `t`, then calls itself with the rest of its input; reverts where the input's first byte is 1.
    let imports = [
        RETURN,
        INPUT,
        CALL,
        r#"(import "seal0" "set_transient_storage" (func $keep (param i32 i32 i32 i32) (result i32)))
        (import "seal0" "get_transient_storage" (func $kept (param i32 i32 i32 i32) (result i32)))
        (import "seal0" "address" (func $address (param i32 i32)))"#,
    ]
    .concat();
    let body = r#"(i32.store (i32.const 0) (i32.const 64)) (call $input (i32.const 64) (i32.const 0))
        (i32.store (i32.const 4) (i32.const 32)) (call $address (i32.const 128) (i32.const 4))
        (i32.store (i32.const 12) (i32.const 1))
        (drop (call $kept (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 12)))
        (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1)))
        (drop (call $keep (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 1)))
        (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1)) (then
            (drop (call $call (i32.const 8) (i32.const 128) (i64.const 0) (i32.const 192) (i32.const 65)
                (i32.sub (i32.load (i32.const 0)) (i32.const 1)) (i32.const -1) (i32.const -1)))))
        (i32.store (i32.const 12) (i32.const 1))
        (drop (call $kept (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 12)))
        (call $return (i32.load8_u (i32.const 64)) (i32.const 16) (i32.const 1))"#;
    let chain = Chain::default();
    let contract = chain.place(1, &contract(&imports, body, r#"(data (i32.const 8) "t")"#));
    for (calls, counted) in [(&[0][..], 1), (&[0, 0], 2), (&[0, 0, 0], 3), (&[0, 0, 1], 2), (&[0, 1, 0], 1)] {
        // Twice: nothing of the first is left.
        for _ in 0..2 {
            let sent = chain.send(contract, ALICE, calls).unwrap();
            assert_eq!((sent.data, sent.changes.len()), (vec![counted], 0), "{calls:?}");
            assert_eq!(chain.query(contract, ALICE, calls).unwrap().data, [counted]);
        }
    }
}
