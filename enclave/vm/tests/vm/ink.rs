//! Unmodified ink! 5.1.1 contracts. The bundles are those of the repository's examples.

use crate::support::*;
use codec::{Decode, Encode};
use phala_primitives::{AccountId, Code, Hash, blake2_256};
use phala_vm::{Entry, Execution, Invocation};

/// The module in a bundle: the text of its field `wasm`.
fn bundle(json: &str) -> Vec<u8> {
    let (_, rest) = json.split_once(r#""wasm":"#).unwrap();
    let digits = rest.trim_start().trim_start_matches("\"0x").split('"').next().unwrap();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

pub(crate) fn flipper() -> Vec<u8> {
    bundle(include_str!("../../../../contracts/fixtures/flipper.contract"))
}

fn psp22() -> Vec<u8> {
    bundle(include_str!("../../../../contracts/fixtures/psp22.contract"))
}

const NEW: [u8; 4] = [0x9b, 0xae, 0x9d, 0x5e];
const FLIP: [u8; 4] = [0x63, 0x3a, 0xa5, 0x51];
const GET: [u8; 4] = [0x2f, 0x86, 0x5b, 0xd9];

fn message(selector: [u8; 4], arguments: impl Encode) -> Vec<u8> {
    [selector.to_vec(), arguments.encode()].concat()
}

/// First bytes of BLAKE2b-256 of its name, which is how ink! selects messages that do not say otherwise.
fn named(name: &str, arguments: impl Encode) -> Vec<u8> {
    message(blake2_256(name.as_bytes()).0[..4].try_into().unwrap(), arguments)
}

/// ink! wraps what a message returns into a `Result` of its own.
fn answer<T: Decode>(execution: &Execution) -> T {
    let result = Result::<T, u8>::decode(&mut execution.data.as_slice()).unwrap();
    result.unwrap_or_else(|error| panic!("language error {error}"))
}

#[test]
fn flipper_keeps_its_bit() {
    let chain = Chain::default();
    let flipper = chain.deploy(1, &flipper(), &message(NEW, true));
    assert!(answer::<bool>(&chain.query(flipper, BOB, &GET).unwrap()));
    let flipped = chain.send(flipper, ALICE, &FLIP).unwrap();
    assert_eq!(flipped.changes.len(), 1);
    assert!(!answer::<bool>(&chain.query(flipper, BOB, &GET).unwrap()));
    assert!(!answer::<bool>(&chain.call(flipper, &GET).unwrap()));
}

#[test]
fn metering_is_the_same_each_time_and_queries_see_their_own_writes() {
    let chain = Chain::default();
    let flipper = chain.deploy(1, &flipper(), &message(NEW, false));
    let (first, second) = (chain.call(flipper, &FLIP).unwrap(), chain.call(flipper, &FLIP).unwrap());
    assert_eq!(first, second);
    assert!(first.gas_used > 100_000 && first.gas_used < 1_000_000, "{}", first.gas_used);
    let exact =
        Invocation { mode: phala_vm::Mode::Command { gas_limit: first.gas_used }, ..Chain::invocation(flipper, &FLIP) };
    assert_eq!(chain.run(exact.clone()).unwrap(), first);
    let short = Invocation { mode: phala_vm::Mode::Command { gas_limit: first.gas_used - 1 }, ..exact };
    assert_eq!(chain.run(short).unwrap_err().code(), Code::OutOfGas);
    let dry = chain.query(flipper, ALICE, &FLIP).unwrap();
    assert_eq!((dry.changes, dry.gas_used), (first.changes, 0));
}

#[test]
fn an_unknown_message_is_the_contracts_own_error() {
    let chain = Chain::default();
    let flipper = chain.deploy(1, &flipper(), &message(NEW, true));
    let unknown = chain.call(flipper, &[1, 2, 3, 4]).unwrap();
    assert!(unknown.reverted());
    assert_eq!(unknown.data, [1, 1]);
}

#[test]
fn deploying_needs_a_free_address_and_known_code() {
    let chain = Chain::default();
    let contract = chain.deploy(1, &flipper(), &message(NEW, true));
    let deploy = |contract, code_hash| {
        let invocation = Chain::invocation(contract, &message(NEW, true));
        chain.run(Invocation { entry: Entry::Deploy { code_hash }, ..invocation })
    };
    assert_eq!(deploy(contract, blake2_256(&flipper())).unwrap_err().code(), Code::ContractExists);
    // Known to the engine from other tests, but not to this world.
    engine().validate(&psp22()).unwrap();
    assert_eq!(deploy(BOB, blake2_256(&psp22())).unwrap_err().code(), Code::NoCode);
    assert_eq!(deploy(BOB, Hash::ZERO).unwrap_err().code(), Code::NoCode);
    assert_eq!(chain.call(BOB, &GET).unwrap_err().code(), Code::NoContract);
}

const TOTAL_SUPPLY: [u8; 4] = [0x16, 0x2d, 0xf8, 0xc2];
const BALANCE_OF: [u8; 4] = [0x65, 0x68, 0x38, 0x2f];
const TRANSFER: [u8; 4] = [0xdb, 0x20, 0xf9, 0xf5];
const APPROVE: [u8; 4] = [0xb2, 0x0f, 0x1b, 0xbd];

fn token(chain: &Chain, number: u8) -> AccountId {
    let arguments = (1_000_u128, Some("Token".to_owned()), Some("TOK".to_owned()), 12_u8);
    chain.deploy(number, &psp22(), &message(NEW, arguments))
}

fn balance(chain: &Chain, token: AccountId, owner: AccountId) -> u128 {
    answer(&chain.query(token, BOB, &message(BALANCE_OF, owner)).unwrap())
}

#[test]
fn tokens_move_with_events_and_errors_revert() {
    let chain = Chain::default();
    let token = token(&chain, 2);
    let sent = chain.send(token, ALICE, &message(TRANSFER, (BOB, 300_u128, Vec::<u8>::new()))).unwrap();
    assert_eq!((sent.flags, sent.events.len()), (0, 1));
    assert_eq!(sent.events[0].contract, token);
    assert!(!sent.events[0].topics.is_empty());
    assert_eq!((balance(&chain, token, ALICE), balance(&chain, token, BOB)), (700, 300));
    let much = chain.send(token, BOB, &message(TRANSFER, (ALICE, 301_u128, Vec::<u8>::new()))).unwrap();
    assert!(much.reverted() && much.changes.is_empty() && much.events.is_empty());
    assert_eq!(answer::<u128>(&chain.query(token, BOB, &TOTAL_SUPPLY).unwrap()), 1_000);
}

#[test]
fn a_vault_calls_its_token() {
    let chain = Chain::default();
    let token = token(&chain, 2);
    let vault = chain.deploy(3, include_bytes!("../fixtures/vault.wasm"), &message(NEW, token));
    chain.send(token, ALICE, &message(APPROVE, (vault, 100_u128))).unwrap();
    let deposited = chain.send(vault, ALICE, &named("deposit", 100_u128)).unwrap();
    assert_eq!(deposited.flags, 0, "{:?}", deposited.data);
    assert_eq!(deposited.events.iter().filter(|event| event.contract == token).count(), deposited.events.len());
    let mine = |caller| answer::<u128>(&chain.query(vault, caller, &named("my_balance", ())).unwrap());
    assert_eq!((mine(ALICE), mine(BOB), balance(&chain, token, vault)), (100, 0, 100));
    // The allowance is used up: the token reverts, then the vault, and nothing of either remains.
    let refused = chain.send(vault, ALICE, &named("deposit", 1_u128)).unwrap();
    assert!(refused.reverted() && refused.changes.is_empty());
    chain.send(vault, ALICE, &named("withdraw", 40_u128)).unwrap();
    assert_eq!((mine(ALICE), balance(&chain, token, ALICE)), (60, 940));
}
