//! Other code for contracts that live, and commands that are only tried.

use super::cluster::*;
use crate::layout::{CONTRACTS, Contract, decode};
use phala_primitives::{AccountId, Code, Coded, Hash, blake2_256, records::ContractRecord};
use phala_session::{Action, Answer, Outcome, Rehearsal, Rehearsed, Said};

/// Returns what the flipper stores, raw.
const TELL: &str = r#"(module
    (import "seal1" "get_storage" (func $get (param i32 i32 i32 i32) (result i32)))
    (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
    (import "env" "memory" (memory 1))
    (data (i32.const 8) "\40\00\00\00")
    (func (export "deploy"))
    (func (export "call")
        (drop (call $get (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 8)))
        (call $return (i32.const 0) (i32.const 16) (i32.load (i32.const 8)))))"#;

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().and_then(Coded::known)
}

/// The flipper's record, as the chain has it after so many upgrades.
fn record(user: &User, present_code: Hash, version: u32) -> ContractRecord {
    let placed = ContractRecord::new(CLUSTER, blake2_256(&flipper()), user.id(), true);
    ContractRecord { present_code, version, ..placed }
}

fn upgrade(cluster: &Cluster, contract: AccountId, record: &ContractRecord) -> Action {
    let proof = cluster.chain.contract(&contract, record);
    Action::Upgrade { contract, code_hash: record.present_code, proof }
}

#[test]
fn an_upgrade_keeps_the_state_and_an_older_one_changes_nothing() {
    let (user, anyone) = (User::new(1), User::new(2));
    let (mut cluster, contract) = with_flipper(&user);
    cluster.call(&user, 3, contract, &FLIP);
    let (old, new) = (blake2_256(&flipper()), wat::parse_str(TELL).unwrap());
    let mut id = 10;
    let mut send = |cluster: &mut Cluster, who: &User, action| {
        id += 1;
        let command = who.command(id, action, GAS, cluster.deadline());
        cluster.send(command)
    };

    let second = record(&user, blake2_256(&new), 1);
    let action = upgrade(&cluster, contract, &second);
    assert_eq!(code(&send(&mut cluster, &user, action)), Some(Code::NoCode));
    let upload = Action::Upload { code: new.clone(), proof: cluster.chain.code(&new) };
    assert!(send(&mut cluster, &user, upload).result.is_ok());
    // The chain has decided, so it does not matter who says it.
    let action = upgrade(&cluster, contract, &second);
    assert!(send(&mut cluster, &anyone, action.clone()).result.is_ok());
    assert_eq!(cluster.query(&user, contract, &[]).unwrap().data, [1], "the bit that was flipped before");
    assert_eq!(code(&send(&mut cluster, &user, action)), Some(Code::OldVersion));

    let third = record(&user, old, 2);
    let back = upgrade(&cluster, contract, &third);
    assert!(send(&mut cluster, &user, back).result.is_ok());
    assert!(flipped(&cluster, &user, contract));
    // What was decided before stays provable, and must not take the newer decision back.
    for (old, found) in [(&second, Code::OldVersion), (&record(&user, old, 0), Code::OldVersion)] {
        let action = upgrade(&cluster, contract, old);
        assert_eq!(code(&send(&mut cluster, &anyone, action)), Some(found));
    }
    let proof = cluster.chain.contract(&contract, &record(&user, old, 3));
    let other = Action::Upgrade { contract, code_hash: blake2_256(&new), proof };
    assert_eq!(code(&send(&mut cluster, &user, other)), Some(Code::BadProof), "the chain decided on other code");
    let elsewhere = ContractRecord { cluster: CLUSTER + 1, ..record(&user, old, 3) };
    let action = upgrade(&cluster, contract, &elsewhere);
    assert_eq!(code(&send(&mut cluster, &user, action)), Some(Code::WrongAddress));
    let absent = AccountId([9; 32]);
    let action = upgrade(&cluster, absent, &record(&user, old, 3));
    assert_eq!(code(&send(&mut cluster, &user, action)), Some(Code::NoContract));

    let stored = cluster.replicas[0].state.snapshot().get(&CONTRACTS, contract.as_ref()).unwrap().unwrap();
    let expected = Contract { version: 2, ..Contract::new(Some(old), user.id()) };
    assert_eq!(decode::<Contract>(&stored).unwrap(), expected);
}

fn rehearse(cluster: &Cluster, user: &User, code: Option<Vec<u8>>, contract: AccountId, data: &[u8]) -> Rehearsed {
    let rehearsal = Rehearsal { contract, code, data: data.to_vec(), value: 0, gas_limit: GAS };
    match cluster.replicas[0].rehearse(user.id(), &rehearsal, 0).unwrap() {
        Answer::Rehearsed(rehearsed) => rehearsed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rehearsal_tells_what_a_command_uses_and_leaves_nothing() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let before = cluster.replicas[0].applied().root;
    let tried = rehearse(&cluster, &user, None, contract, &FLIP);
    assert!(tried.outcome.result.is_ok() && tried.outcome.gas_used > 0);
    assert_eq!(cluster.replicas[0].applied().root, before);
    assert!(!flipped(&cluster, &user, contract));
    assert_eq!(cluster.call(&user, 5, contract, &FLIP), tried.outcome, "the same gas, the same answer");

    let absent = rehearse(&cluster, &user, None, AccountId([9; 32]), &FLIP);
    assert_eq!(code(&absent.outcome), Some(Code::NoContract));
    let mut little = Rehearsal { contract, code: None, data: FLIP.to_vec(), value: 0, gas_limit: 1000 };
    let Answer::Rehearsed(out) = cluster.replicas[0].rehearse(user.id(), &little, 0).unwrap() else { panic!() };
    assert_eq!((code(&out.outcome), out.outcome.gas_used), (Some(Code::OutOfGas), 1000));
    little.gas_limit = u64::MAX;
    let refused = cluster.replicas[0].rehearse(user.id(), &little, 0).unwrap_err();
    assert_eq!(refused.known(), Some(Code::GasLimitTooHigh));
}

#[test]
fn a_constructor_is_rehearsed_before_its_code_is_anywhere() {
    use codec::Encode;
    let (user, stranger) = (User::new(1), User::new(2));
    let mut cluster = Cluster::new();
    let none: Option<String> = None;
    let data = (NEW, 1000u128, &none, &none, 12u8).encode();
    let (address, _, _) = cluster.place(&user, &psp22(), &[1]);
    let tried = rehearse(&cluster, &user, Some(psp22()), address, &data);
    assert!(tried.outcome.result.is_ok(), "{tried:?}");
    assert!(matches!(tried.said[..], [Said::Event { .. }]), "the first owner is told of the supply");
    let token = cluster.deploy(&user, 1, &psp22(), &data);
    assert_eq!(token, address);
    let transfer = ([0xdbu8, 0x20, 0xf9, 0xf5], stranger.id(), 4u128, Vec::<u8>::new()).encode();
    assert_eq!(rehearse(&cluster, &user, None, token, &transfer).said.len(), 1);
    let zero = ([0xdbu8, 0x20, 0xf9, 0xf5], user.id(), 0u128, Vec::<u8>::new()).encode();
    assert!(rehearse(&cluster, &stranger, None, token, &zero).said.is_empty(), "its log is not for everyone");
    let bad = rehearse(&cluster, &user, Some(psp22()), AccountId([7; 32]), &[1, 2, 3, 4]);
    assert!(bad.outcome.result.is_ok_and(|output| output.reverted()));
}
