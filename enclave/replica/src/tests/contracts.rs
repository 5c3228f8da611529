//! Real contracts on four replicas.

use super::cluster::*;
use crate::layout::{CONTRACTS, Contract, ENDED, QUEUES, Queue, decode};
use codec::Encode;
use phala_primitives::{AccountId, Code, Coded, limits::MAX_ENTRY_GAS, records::ContractRecord, storage};
use phala_session::{Action, Outcome};

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().and_then(Coded::known)
}

#[test]
fn a_contract_is_deployed_written_and_read_with_receipts_that_verify() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    assert!(!flipped(&cluster, &user, contract));
    let outcome = cluster.call(&user, 10, contract, &FLIP);
    assert!(outcome.gas_used > 0 && outcome.result.is_ok());
    assert!(flipped(&cluster, &user, contract));
    let other = cluster.deploy(&user, 20, &flipper(), &[&NEW[..], &[1]].concat());
    assert_ne!(other, contract);
    cluster.call(&user, 11, contract, &FLIP);
    assert!(flipped(&cluster, &user, other) && !flipped(&cluster, &user, contract));
}

#[test]
fn tokens_move_and_a_revert_leaves_nothing() {
    let (alice, bob) = (User::new(1), User::new(2));
    let mut cluster = Cluster::new();
    let none: Option<String> = None;
    let token = cluster.deploy(&alice, 1, &psp22(), &(NEW, 1000u128, &none, &none, 12u8).encode());
    let transfer = |to: AccountId, value: u128| ([0xdbu8, 0x20, 0xf9, 0xf5], to, value, Vec::<u8>::new()).encode();
    let balance = |cluster: &Cluster, of: &User| {
        let data = ([0x65u8, 0x68, 0x38, 0x2f], of.id()).encode();
        let output = cluster.query(of, token, &data).unwrap();
        u128::from_le_bytes(output.data[1..17].try_into().unwrap())
    };
    let moved = cluster.call(&alice, 3, token, &transfer(bob.id(), 400));
    assert!(moved.result.as_ref().is_ok_and(|output| !output.reverted()), "{moved:?}");
    assert_eq!((balance(&cluster, &alice), balance(&cluster, &bob)), (600, 400));
    let before = cluster.replicas[0].applied().root;
    let outcome = cluster.call(&bob, 4, token, &transfer(alice.id(), 401));
    assert!(outcome.result.unwrap().reverted());
    assert_eq!((balance(&cluster, &alice), balance(&cluster, &bob)), (600, 400));
    assert_ne!(before, cluster.replicas[0].applied().root, "the outcome itself is state");
}

#[test]
fn failures_are_outcomes_and_change_nothing() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let call = |contract, data: &[u8]| Action::Call { contract, data: data.to_vec() };
    let little = user.command(10, call(contract, &FLIP), 1000, cluster.deadline());
    let outcome = cluster.send(little);
    assert_eq!((code(&outcome), outcome.gas_used), (Some(Code::OutOfGas), 1000));
    let outcome = cluster.call(&user, 11, AccountId([1; 32]), &FLIP);
    assert_eq!(code(&outcome), Some(Code::NoContract));
    let outcome = cluster.call(&user, 12, contract, &[1, 2, 3, 4]);
    assert!(outcome.result.unwrap().reverted(), "no such message");
    let trap =
        r#"(module (import "env" "memory" (memory 2)) (func (export "deploy")) (func (export "call") unreachable))"#;
    let trap = cluster.deploy(&user, 20, &wat::parse_str(trap).unwrap(), &[]);
    assert_eq!(code(&cluster.call(&user, 22, trap, &[])), Some(Code::Trapped));
    assert!(!flipped(&cluster, &user, contract));
    let missing = cluster.query(&user, AccountId([1; 32]), &GET).unwrap_err();
    assert_eq!(missing.known(), Some(Code::NoContract));
}

#[test]
fn what_an_entry_has_no_gas_for_waits_for_the_next() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let endless = r#"(module (import "env" "memory" (memory 2)) (func (export "deploy"))
        (func (export "call") (loop $again (br $again))))"#;
    let endless = cluster.deploy(&user, 20, &wat::parse_str(endless).unwrap(), &[]);
    let mut tickets = vec![];
    for (id, contract, gas) in [(40, endless, MAX_ENTRY_GAS / 2), (41, endless, MAX_ENTRY_GAS / 2), (42, contract, GAS)]
    {
        let action = Action::Call { contract, data: FLIP.to_vec() };
        let command = user.command(id, action, gas, cluster.deadline());
        tickets.push((cluster.replicas[0].submit(command.clone(), cluster.now).unwrap(), command));
    }
    let header = cluster.step(0);
    assert_eq!(header.count, 3);
    let answers: Vec<_> = tickets.iter_mut().map(|(ticket, _)| ticket.try_recv().unwrap()).collect();
    assert!(answers[0].is_some() && answers[1].is_some() && answers[2].is_none());
    assert!(!flipped(&cluster, &user, contract));
    let next = cluster.step(0);
    assert_eq!(next.count, 1);
    let answer = tickets[2].0.try_recv().unwrap().unwrap().unwrap();
    let (outcome, receipt) = cluster.check(&tickets[2].1, answer);
    assert!(outcome.result.is_ok() && flipped(&cluster, &user, contract));
    assert_eq!(receipt.header.height, next.height);
}

#[test]
fn what_a_query_writes_is_discarded() {
    let user = User::new(1);
    let (cluster, contract) = with_flipper(&user);
    let root = cluster.replicas[0].applied().root;
    assert!(cluster.query(&user, contract, &FLIP).is_ok());
    assert!(!flipped(&cluster, &user, contract));
    assert_eq!(cluster.replicas[0].state.snapshot().applied().root, root);
}

#[test]
fn only_what_the_chain_has_placed_here_is_instantiated() {
    let (alice, mallory) = (User::new(1), User::new(66));
    let (mut cluster, contract) = with_flipper(&alice);
    let code_hash = phala_primitives::blake2_256(&flipper());
    let data = [&NEW[..], &[0]].concat();
    let create = |contract, salt: u8, proof| Action::Instantiate {
        contract,
        code_hash,
        salt: vec![salt],
        data: data.clone(),
        proof,
    };
    let mut id = 10;
    let mut refused = |cluster: &mut Cluster, user: &User, action| {
        id += 1;
        let command = user.command(id, action, GAS, cluster.deadline());
        code(&cluster.send(command)).unwrap()
    };

    let (address, _, proof) = cluster.place(&alice, &flipper(), &[1]);
    assert_eq!(address, contract);
    assert_eq!(refused(&mut cluster, &alice, create(contract, 1, proof)), Code::ContractExists);

    let (address, _, proof) = cluster.place(&alice, &flipper(), &[50]);
    assert_eq!(refused(&mut cluster, &mallory, create(address, 50, proof.clone())), Code::NotDeployer);
    assert_eq!(refused(&mut cluster, &alice, create(address, 51, proof.clone())), Code::BadProof);
    assert_eq!(refused(&mut cluster, &alice, create(contract, 1, proof)), Code::BadProof, "of another contract");
    let forged = cluster.chain.fact(&storage::contract(&address), 2);
    assert_eq!(refused(&mut cluster, &alice, create(address, 50, forged)), Code::BadProof, "no quorum");
    let absent = AccountId([5; 32]);
    let proof = cluster.chain.fact(&storage::contract(&absent), 3);
    assert_eq!(refused(&mut cluster, &alice, create(absent, 50, proof)), Code::BadProof);
    let elsewhere = ContractRecord::new(CLUSTER + 1, code_hash, alice.id(), false);
    let proof = cluster.chain.contract(&address, &elsewhere);
    assert_eq!(refused(&mut cluster, &alice, create(address, 50, proof)), Code::WrongAddress);

    let unpaid = Action::Upload { code: psp22(), proof: cluster.chain.code(&flipper()) };
    assert_eq!(refused(&mut cluster, &alice, unpaid), Code::BadProof);
    let junk = b"no module".to_vec();
    let proof = cluster.chain.code(&junk);
    assert_eq!(refused(&mut cluster, &alice, Action::Upload { code: junk, proof }), Code::BadModule);
    let (address, code_hash, proof) = cluster.place(&alice, &psp22(), &[60]);
    let absent = Action::Instantiate { contract: address, code_hash, salt: vec![60], data: vec![], proof };
    assert_eq!(refused(&mut cluster, &alice, absent), Code::NoCode);
}

/// Stores 300 values, one with each call, or ends when the input is not empty.
const ENDING: &str = r#"(module
    (import "seal0" "input" (func $input (param i32 i32)))
    (import "seal2" "set_storage" (func $set (param i32 i32 i32 i32) (result i32)))
    (import "seal1" "terminate" (func $end (param i32)))
    (import "env" "memory" (memory 2))
    (func (export "deploy"))
    (func (export "call") (local $n i32)
        (i32.store (i32.const 0) (i32.const 100))
        (call $input (i32.const 1000) (i32.const 0))
        (if (i32.load (i32.const 0)) (then (call $end (i32.const 64))))
        (loop $more
            (i32.store (i32.const 8) (local.get $n))
            (drop (call $set (i32.const 8) (i32.const 4) (i32.const 8) (i32.const 4)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $n) (i32.const 300))))))"#;

#[test]
fn what_an_ended_contract_stored_is_swept_and_never_seen_again() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let contract = cluster.deploy(&user, 1, &wat::parse_str(ENDING).unwrap(), &[]);
    assert!(cluster.call(&user, 3, contract, &[]).result.is_ok());
    let space = Contract::new(None, user.id()).space(&contract);
    let stored = |cluster: &Cluster| cluster.replicas[2].state.snapshot().paths(&space, 1000).unwrap().len();
    assert_eq!(stored(&cluster), 300);
    assert!(cluster.call(&user, 4, contract, &[1]).result.is_ok());
    assert_eq!(code(&cluster.call(&user, 5, contract, &[])), Some(Code::NoContract));
    assert_eq!(stored(&cluster), 0);
    // Its storage, and who may read its log.
    for _ in 0..2 {
        cluster.step(0);
    }
    let snapshot = cluster.replicas[0].state.snapshot();
    let queue: Queue = decode(&snapshot.get(&QUEUES, &*ENDED).unwrap().unwrap()).unwrap();
    assert_eq!(queue, Queue { first: 2, next: 2 });
    let record: Contract = decode(&snapshot.get(&CONTRACTS, contract.as_ref()).unwrap().unwrap()).unwrap();
    assert_eq!(record, Contract::new(None, user.id()));

    let (address, code_hash, proof) = cluster.place(&user, &wat::parse_str(ENDING).unwrap(), &[1]);
    let create = Action::Instantiate { contract: address, code_hash, salt: vec![1], data: vec![], proof };
    let again = user.command(6, create, GAS, cluster.deadline());
    assert_eq!(address, contract);
    assert!(cluster.send(again).result.is_ok());
    assert!(cluster.call(&user, 7, contract, &[]).result.is_ok());
    assert_eq!(stored(&cluster), 0, "the new one has a space of its own");
}
