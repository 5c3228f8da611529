//! Bundles of the repository on the testkit.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use phala_testkit::{Chain, Contract, Effect, HttpError};
use std::path::PathBuf;

const URL: &str = "https://api.example.com/price";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn oracle(chain: &Chain) -> Contract {
    chain.respond(URL, 200, r#"{"price": 41.5}"#);
    chain.deploy(fixture("oracle.contract"), "new", &[URL, "price"]).unwrap()
}

/// A quote as an argument.
fn quote(oracle: &Contract) -> String {
    let text = oracle.query("fetch", &[URL]).unwrap().text;
    text.strip_prefix("Ok(").unwrap().strip_suffix(')').unwrap().to_owned()
}

#[test]
fn tokens_move_between_accounts() {
    let chain = Chain::new().unwrap();
    let token = chain.deploy(fixture("psp22.contract"), "new", &["1000", "Some(\"Gold\")", "None", "12"]).unwrap();
    let sent = token.call("PSP22::transfer", &["//Bob", "10", "[]"]).unwrap();
    assert!(!sent.is_err && sent.gas > 0);
    assert_eq!(token.query("PSP22::balance_of", &["//Bob"]).unwrap().text, "10");
    let refused = token.by("//Bob").unwrap().call("PSP22::transfer", &["//Alice", "11", "[]"]).unwrap();
    assert!(refused.is_err && refused.reverted);
    let events = token.events();
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, &events[1].1["value"]), (vec!["Transfer", "Transfer"], &10.into()));
    assert!(token.call("PSP22::transfer", &["//Bob"]).is_err() && token.call("nothing", &[]).is_err());
    // Raw SCALE does the same.
    let supply = token.query_raw(vec![0x16, 0x2d, 0xf8, 0xc2]).unwrap().data;
    assert_eq!(supply, [&[0][..], &1000u128.to_le_bytes()].concat());
    let report = chain.gas_report();
    assert!(report.contains("psp22 PSP22::transfer") && report.contains("psp22 new"), "{report}");
}

#[test]
fn snapshots_bring_back_what_was() {
    let chain = Chain::new().unwrap();
    let flipper = chain.deploy(fixture("flipper.contract"), "new", &["true"]).unwrap();
    let (before, block) = (chain.snapshot(), chain.block());
    flipper.call("flip", &[]).unwrap();
    chain.advance(10);
    assert_eq!(flipper.query("get", &[]).unwrap().text, "false");
    chain.restore(&before);
    assert_eq!((flipper.query("get", &[]).unwrap().text.as_str(), chain.block()), ("true", block));
    flipper.query("flip", &[]).unwrap();
    assert_eq!(flipper.query("get", &[]).unwrap().text, "true", "a query changes nothing");
    let second = chain.deploy(fixture("flipper.contract"), "default", &[]).unwrap();
    assert_ne!(second.address(), flipper.address());
}

#[test]
fn an_oracle_fetches_canned_responses_and_believes_itself() {
    let chain = Chain::new().unwrap();
    let oracle = oracle(&chain);
    let quote = quote(&oracle);
    assert_eq!(oracle.query("remembered", &[URL]).unwrap().text, "Some(41500000)");
    assert!(!oracle.by("//Bob").unwrap().call("update", &[&quote]).unwrap().is_err);
    assert_eq!(oracle.query("price", &[]).unwrap().json[0], 41_500_000);
    assert_eq!(oracle.call("update", &[&quote]).unwrap().text, "Err(Stale)");
    assert_eq!(oracle.events().len(), 1);
    assert_eq!(oracle.lines(), [(3, "the price is 41500000".to_owned())]);
    assert_eq!(oracle.said_by_queries().len(), 1);
}

#[test]
fn quotes_grow_old_and_servers_fail() {
    let chain = Chain::new().unwrap();
    let oracle = oracle(&chain);
    let quote = quote(&oracle);
    chain.advance_time(1, 11 * 60 * 1000);
    assert_eq!(oracle.call("update", &[&quote]).unwrap().text, "Err(Stale)");
    assert_eq!(oracle.query("remembered", &[URL]).unwrap().text, "None", "the cache's minute is over");
    chain.fail(URL, HttpError::Timeout);
    assert_eq!(oracle.query("fetch", &[URL]).unwrap().text, "Err(Status(524))");
    assert_eq!(oracle.query("fetch", &["https://elsewhere.example/"]).unwrap().text, "Err(Status(523))");
    assert_eq!(oracle.call("fetch", &[URL]).unwrap().text, "Err(Status(523))", "a command fetches nothing");
}

#[test]
fn dice_and_keys_are_the_same_every_time() {
    let roll = || {
        let chain = Chain::new().unwrap();
        let oracle = oracle(&chain);
        (0..10).for_each(|_| drop(oracle.call("dice", &[]).unwrap()));
        (oracle.query("rolls", &[]).unwrap().data, oracle.query("key", &[]).unwrap().data)
    };
    assert_eq!(roll(), roll());
}

#[test]
fn only_the_owner_reads_and_opens_the_log() {
    let chain = Chain::new().unwrap();
    let oracle = oracle(&chain);
    let bob = chain.account("//Bob").unwrap();
    assert!(oracle.may_read_log(chain.account("//Alice").unwrap()) && !oracle.may_read_log(bob));
    assert_eq!(oracle.by("//Bob").unwrap().call("allow_log", &["//Bob"]).unwrap().text, "Err(NotAuthorised)");
    assert!(!oracle.may_read_log(bob));
    oracle.call("allow_log", &["//Bob"]).unwrap();
    assert!(oracle.may_read_log(bob));
}

#[test]
fn code_without_a_bundle_is_called_raw_and_traps_are_errors() {
    const CODE: &str = r#"(module
        (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
        (import "env" "memory" (memory 1))
        (data (i32.const 0) "fine")
        (func (export "deploy"))
        (func (export "call") (call $return (i32.const 0) (i32.const 0) (i32.const 4))))"#;
    let chain = Chain::new().unwrap();
    let contract = chain.deploy_raw(&wat::parse_str(CODE).unwrap(), vec![]).unwrap();
    assert_eq!(contract.call_raw(vec![]).unwrap().data, b"fine");
    assert!(contract.call("anything", &[]).is_err());
    let trap = CODE.replace("(func (export \"deploy\"))", "(func (export \"deploy\") unreachable)");
    assert!(chain.deploy_raw(&wat::parse_str(trap).unwrap(), vec![]).is_err());
    assert!(chain.deploy_raw(b"text", vec![]).is_err());
}

#[test]
fn money_is_paid_kept_and_sent_to_the_chain() {
    // Takes what it is given, or pays out on the chain what its input says.
    const TILL: &str = r#"(module
        (import "seal0" "input" (func $input (param i32 i32)))
        (import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "memory" (memory 1))
        (func (export "deploy"))
        (func (export "call")
            (i32.store (i32.const 0) (i32.const 100))
            (call $input (i32.const 8) (i32.const 0))
            (if (i32.eqz (i32.load (i32.const 0))) (then (return)))
            (i32.store (i32.const 4) (i32.const 100))
            (drop (call $ext (i32.const 104) (i32.const 8) (i32.load (i32.const 0)) (i32.const 200) (i32.const 4)))))"#;
    const PHA: u128 = 1_000_000_000_000;
    let chain = Chain::new().unwrap();
    let (alice, bob) = (chain.account("//Alice").unwrap(), chain.account("//Bob").unwrap());
    chain.deposit(alice, 5 * PHA);
    let till = chain.paying(PHA).deploy_raw(&wat::parse_str(TILL).unwrap(), vec![]).unwrap().paying(0);
    assert_eq!((till.balance(), chain.balance(alice)), (PHA, 4 * PHA));
    till.paying(2 * PHA).call_raw(vec![]).unwrap();
    assert!(till.paying(9 * PHA).call_raw(vec![]).unwrap_err().to_string().contains("P2030"));
    till.paying(2 * PHA).query_raw(vec![]).unwrap();
    assert_eq!((till.balance(), chain.balance(alice)), (3 * PHA, 2 * PHA));
    let before = chain.snapshot();
    till.call_raw([&bob.0[..], &PHA.to_le_bytes()].concat()).unwrap();
    assert_eq!(till.balance(), 2 * PHA);
    let sent = chain.sent();
    assert!(matches!(sent[..], [(from, Effect::Withdraw { to, amount: PHA })] if from == till.address() && to == bob));
    chain.restore(&before);
    assert!(till.balance() == 3 * PHA && chain.sent().is_empty());
}
