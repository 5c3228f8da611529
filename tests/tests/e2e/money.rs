//! Money between chain and cluster, and back, while a worker dies; and what people type for it.

use crate::{
    harness::{Dice, LOG, Net, Shell, eventually, fixture, run},
    person::{GAS, Person, answer, code, input, outcome},
};
use codec::Encode;
use phala_client::{Call, Contract, Freshness};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, Balance, PHA, bridge::pot};
use std::time::Duration;

/// How long a message may be under way: several members' turns, one of which is a dead one's.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// What an account of the chain cannot be without.
const EXISTENCE: Balance = PHA / 100;

/// A contract that takes what it is given, and calls functions for anyone who asks.
const TILL: &str = include_str!("../../../contracts/fixtures/door.wat");

fn pay_out(to: AccountId, amount: Balance) -> Vec<u8> {
    call(104, (to, amount))
}

/// The input that has the contract call a function, and keep what came of it.
fn call(function: u32, arguments: impl Encode) -> Vec<u8> {
    [&function.to_le_bytes()[..], &arguments.encode(), &[0]].concat()
}

async fn free(person: &Person, account: AccountId) -> Balance {
    person.cluster.chain().account(&account).await.unwrap().free
}

/// Waits until an account of the chain owns exactly so much.
async fn owns(person: &Person, account: AccountId, amount: Balance) {
    eventually("money on the chain", UNDER_WAY, || async { (free(person, account).await == amount).then_some(()) })
        .await;
}

/// Waits until an account of the cluster owns exactly so much.
async fn has(person: &Person, account: AccountId, amount: Balance) {
    let look = || async { (person.cluster.balance(account).await == Ok(amount)).then_some(()) };
    eventually("money in the cluster", UNDER_WAY, look).await;
}

async fn pays(contract: &Contract, value: Balance, data: Vec<u8>) {
    let answer = outcome(contract.pay(data, value, GAS).await.unwrap()).unwrap();
    assert!(answer.is_empty() || answer == [0], "{answer:?}");
}

#[test]
fn money_crosses_both_ways_while_a_worker_dies() {
    run(Duration::from_secs(300), async {
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let bob = Person::new("Bob", &net.rpc_url(), net.genesis()).await;
        let (alices, bobs) = (alice.account.id(), bob.account.id());
        let till = alice.deploy(wat::parse_str(TILL).unwrap(), vec![]).await.unwrap();
        let of_bob = bob.cluster.contract(till.address());
        let chain = bob.cluster.chain();
        chain.submit(&bob.account, &Call::deposit(0, &bobs, 50 * PHA)).await.unwrap();
        has(&bob, bobs, 50 * PHA).await;
        pays(&of_bob, 20 * PHA, vec![]).await;
        has(&alice, till.address(), 20 * PHA).await;

        let mut dice = Dice::new();
        net.kill_worker(dice.below(4) as usize).unwrap();
        let [first, second, third] = [(); 3].map(|()| AccountId(dice.bytes()));
        // The contract pays out, by a command and by a message of the chain.
        pays(&of_bob, 0, pay_out(first, 5 * PHA)).await;
        let message = Call::send_message(&till.address(), &pay_out(second, 3 * PHA), PHA);
        chain.submit(&alice.account, &message).await.unwrap();
        owns(&bob, first, 5 * PHA).await;
        owns(&bob, second, 3 * PHA).await;
        // It gets itself an account on the chain, and acts there.
        pays(&of_bob, 0, pay_out(till.address(), 2 * PHA)).await;
        let transfer = Call::transfer_keep_alive(&third, PHA);
        pays(&of_bob, 0, call(105, transfer.encoded())).await;
        owns(&bob, third, PHA).await;
        let left = free(&bob, till.address()).await;
        assert!((PHA - PHA / 100..PHA).contains(&left), "a fee was paid: {left}");
        // And an account withdraws what it has left.
        let withdrawn = bob.cluster.withdraw(first, 30 * PHA).await.unwrap();
        withdrawn.outcome.result.unwrap();
        owns(&bob, first, 35 * PHA).await;

        // Nothing was made or lost: what is in the pot is what the till owns, for nobody else owns anything.
        assert_eq!(bob.cluster.balance(bobs).await, Ok(0));
        assert_eq!(alice.cluster.balance(alices).await, Ok(0));
        assert_eq!(alice.cluster.balance(till.address()).await, Ok((20 - 5 + 1 - 3 - 2) * PHA));
        assert_eq!(free(&bob, pot(0)).await, (20 - 5 + 1 - 3 - 2) * PHA + EXISTENCE);
        net.stop().await;
    });
}

#[test]
fn a_contract_hears_of_every_payment_to_its_account_on_the_chain_once() {
    const TILL: &str = "till.contract";
    run(Duration::from_secs(300), async {
        let mut net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let bob = Person::new("Bob", &net.rpc_url(), net.genesis()).await;
        let chain = bob.cluster.chain();
        let till = alice.deploy(code(TILL), input(TILL, "new", ())).await.unwrap();
        let address = till.address();
        let order = async |label| {
            let answer = outcome(till.call(input(TILL, label, ()), GAS).await.unwrap()).unwrap();
            assert_eq!(answer, [0, 0], "{label}");
        };
        let heard = async || {
            let query = input(TILL, "on_chain", ());
            let answered = alice.cluster.query_fresh(address, query, 0, Freshness::Linearizable).await.unwrap();
            answer::<Balance>(&answered.output.data)
        };
        let pay = async |amount| {
            chain.submit(&bob.account, &Call::transfer_keep_alive(&address, amount)).await.unwrap();
        };
        pay(2 * PHA).await;
        order("watch").await;
        // The deposit is held.
        let began = || async { (free(&bob, address).await < 2 * PHA - PHA / 20).then_some(()) };
        eventually("the watch begins", UNDER_WAY, began).await;
        let mut dice = Dice::new();
        net.kill_worker(dice.below(4) as usize).unwrap();
        for amount in 1..=5 {
            pay(amount * PHA).await;
        }
        let all = || async { (heard().await >= 15 * PHA).then_some(()) };
        eventually("all payments are heard of", UNDER_WAY, all).await;
        order("unwatch").await;
        let fees = PHA / 10;
        let ended = || async { (free(&bob, address).await > 17 * PHA - fees).then_some(()) };
        eventually("the watch ends", UNDER_WAY, ended).await;
        pay(7 * PHA).await;
        // What is deposited later arrives later.
        let bobs = bob.account.id();
        chain.submit(&bob.account, &Call::deposit(0, &bobs, PHA)).await.unwrap();
        has(&bob, bobs, PHA).await;
        assert_eq!(heard().await, 15 * PHA);
        net.stop().await;
    });
}

#[test]
fn people_deposit_pay_and_withdraw_on_the_command_line() {
    run(Duration::from_secs(240), async {
        let base = tempfile::tempdir().unwrap();
        let net = Net::start(&base.path().join("net"), LOG);
        let shell = Shell::new(net.rpc());
        let owned = async || shell.json(&["account", "//Bob"]).await.done()["in_cluster"].clone();
        assert_eq!(owned().await, "0");
        let there = shell.json(&["deposit", "12.5", "--suri", "//Bob"]).await.done();
        assert_eq!((&there["arrived"], &there["amount"]), (&true.into(), &"12500000000000".into()));
        assert_eq!(owned().await, "12500000000000");
        let stranger = shell.json(&["account", there["to"].as_str().unwrap()]).await.done();
        assert!(stranger["in_cluster"].is_null(), "{stranger}");
        // A contract that takes no money gives it back.
        let flipper = fixture("flipper.contract");
        let deployed = shell.json(&["deploy", flipper.to_str().unwrap(), "new", "true"]).await.done();
        let address = deployed["address"].as_str().unwrap();
        let refused = shell.json(&["send", address, "flip", "--value", "1", "--suri", "//Bob"]).await;
        assert!(refused.code != 0 && owned().await == "12500000000000", "{refused:?}");
        let poor = shell.json(&["send", address, "flip", "--value", "100", "--suri", "//Bob"]).await;
        assert!(poor.code == 1 && poor.out.contains("P2030") || poor.err.contains("P2030"), "{poor:?}");
        let dust = shell.json(&["withdraw", "0.001", "--suri", "//Bob"]).await;
        assert!(dust.code == 1 && (dust.out.contains("P2031") || dust.err.contains("P2031")), "{dust:?}");
        let nobody = shell.json(&["account", "--new"]).await.done();
        let nobody = nobody["address"].as_str().unwrap();
        let paid = shell.json(&["withdraw", "12.5", "--to", nobody, "--suri", "//Bob"]).await.done();
        assert_eq!(paid["arrived"], true);
        assert_eq!(shell.json(&["account", nobody]).await.done()["free"], "12500000000000");
        assert_eq!(owned().await, "0");
    });
}
