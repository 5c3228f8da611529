//! Two clusters on one chain: each has contracts and keys of its own, and their contracts write to each other while
//! members die.

use crate::{
    harness::{LOG, Net, Shell, eventually, fixture, run},
    person::{GAS, Person, code_of, outcome},
};
use codec::Encode;
use phala_client::{Action, Call, Contract};
use phala_devnet::{Config, Devnet};
use phala_primitives::{AccountId, Balance, Code, PHA, bridge::pot};
use serde_json::json;
use std::time::Duration;

/// A contract that writes letters and keeps those that it gets.
const LETTERS: &str = include_str!("../../../contracts/fixtures/letters.wat");
const MESSAGES: u32 = 50;
/// Messages of one command.
const AT_ONCE: u32 = 5;
/// How long letters may be under way: some turns of members, two of whom are dead.
const UNDER_WAY: Duration = Duration::from_secs(90);
/// What an account of the chain cannot be without.
const EXISTENCE: Balance = PHA / 100;

#[test]
fn contracts_are_spread_over_clusters_and_found_where_they_are() {
    run(Duration::from_secs(120), async {
        let base = tempfile::tempdir().unwrap();
        let net = Net::start_with(&base.path().join("net"), LOG, &["--clusters", "2", "--workers", "1"]);
        let members = |cluster: u32| json!({ "cluster": cluster, "members": [cluster] });
        assert_eq!(net.facts()["clusters"], json!([members(0), members(1)]));
        let shell = Shell::new(net.rpc());
        let bundle = fixture("flipper.contract");
        let deploy = async |options: &[&str]| {
            let arguments = [&["deploy", bundle.to_str().unwrap(), "new", "true"], options].concat();
            let done = shell.json(&arguments).await.done();
            (done["address"].as_str().unwrap().to_owned(), done["cluster"].as_u64().unwrap())
        };
        let first = deploy(&["--salt", "0x01"]).await;
        let second = deploy(&["--salt", "0x02"]).await;
        assert_ne!(first.1, second.1, "each goes where fewer are");
        let third = deploy(&["--cluster", "1"]).await;
        assert_eq!(third.1, 1);
        for (number, contracts) in [("0", 1), ("1", 2)] {
            let shown = shell.json(&["cluster", number]).await.done();
            assert_eq!((&shown["clusters"], &shown["contracts"]), (&json!(2), &json!(contracts)));
        }
        for (address, _) in [&first, &second, &third] {
            shell.json(&["send", address, "flip"]).await.done();
            assert_eq!(shell.json(&["query", address, "get"]).await.done()["result"], false);
        }
        // Money for a contract goes to its cluster.
        let (there, home) = if first.1 == 1 { &first } else { &second };
        let paid = shell.json(&["deposit", "1", "--to", there]).await.done();
        assert_eq!(paid["cluster"], json!(home));
        let refused = shell.json(&["deploy", bundle.to_str().unwrap(), "new", "true", "--cluster", "2"]).await;
        assert_eq!(refused.code, 1, "{refused:?}");
    });
}

/// The input that has a contract send messages to another: text and value of each.
fn letters(to: AccountId, texts: &[(Vec<u8>, Balance)]) -> Vec<u8> {
    let mut data = vec![0xfd];
    for (text, value) in texts {
        let arguments = (to, text, value).encode();
        data.extend_from_slice(&106u32.to_le_bytes());
        data.extend_from_slice(&(arguments.len() as u32).to_le_bytes());
        data.extend_from_slice(&arguments);
    }
    data
}

/// A letter that a contract got; nothing if it is not there yet.
async fn letter(contract: &Contract, number: u32) -> Vec<u8> {
    contract.query([&[0xfc][..], &number.to_le_bytes()].concat()).await.unwrap().output.data
}

#[test]
fn contracts_of_two_clusters_write_to_each_other_while_members_die() {
    run(Duration::from_secs(300), async {
        let mut net = Devnet::start(Config { clusters: 2, ..Config::default() }, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let there = Person::with_cluster("Alice", &net.rpc_url(), net.genesis(), 1).await;
        let code = wat::parse_str(LETTERS).unwrap();
        let a = alice.deploy(code.clone(), vec![]).await.unwrap();
        let b = there.deploy(code, vec![]).await.unwrap();
        apart(&alice, &there, &a).await;

        let chain = alice.cluster.chain().clone();
        chain.submit(&alice.account, &Call::deposit(0, &a.address(), 20 * PHA)).await.unwrap();
        let has = async |person: &Person, of: AccountId, amount: Balance| {
            eventually("money in the cluster", UNDER_WAY, || async {
                (person.cluster.balance(of).await == Ok(amount)).then_some(())
            })
            .await;
        };
        has(&alice, a.address(), 20 * PHA).await;

        for first in (0..MESSAGES).step_by(AT_ONCE as usize) {
            match first / AT_ONCE {
                // One member of each, as SIGKILL would.
                3 => [1, 5].map(|index| net.kill_worker(index).unwrap()).iter().for_each(drop),
                7 => {
                    net.restart_worker(1).await.unwrap();
                    net.restart_worker(5).await.unwrap();
                }
                _ => {}
            }
            let texts: Vec<_> = (first..first + AT_ONCE).map(|n| (n.to_le_bytes().to_vec(), PHA / 10)).collect();
            outcome(a.call(letters(b.address(), &texts), GAS).await.unwrap()).unwrap();
        }
        // One that fails there, and one to nobody: their money comes back.
        let failing = [(vec![0xfb], PHA), (b"last".to_vec(), 0)];
        outcome(a.call(letters(b.address(), &failing), GAS).await.unwrap()).unwrap();
        outcome(a.call(letters(AccountId([9; 32]), &[(vec![1], PHA)]), GAS).await.unwrap()).unwrap();
        eventually("the last letter", UNDER_WAY, || async { (!letter(&b, MESSAGES).await.is_empty()).then_some(()) })
            .await;
        for number in 0..MESSAGES {
            let expected = (a.address(), PHA / 10, number.to_le_bytes()).encode();
            assert_eq!(letter(&b, number).await, expected, "letter {number}");
        }
        assert_eq!(letter(&b, MESSAGES).await, [&(a.address(), 0u128).encode()[..], b"last"].concat());
        assert!(letter(&b, MESSAGES + 1).await.is_empty(), "each was executed once");

        // And an answer.
        outcome(b.call(letters(a.address(), &[(b"thanks".to_vec(), PHA)]), GAS).await.unwrap()).unwrap();
        let answer = [&(b.address(), PHA).encode()[..], b"thanks"].concat();
        eventually("the answer", UNDER_WAY, || async { (letter(&a, 0).await == answer).then_some(()) }).await;
        has(&alice, a.address(), 16 * PHA).await;
        has(&there, b.address(), 4 * PHA).await;
        let free = async |cluster| chain.account(&pot(cluster)).await.unwrap().free;
        assert_eq!((free(0).await, free(1).await), (16 * PHA + EXISTENCE, 4 * PHA + EXISTENCE));
        net.stop().await;
    });
}

/// What is of one cluster is nothing to the other: commands, queries, receipts.
async fn apart(here: &Person, there: &Person, a: &Contract) {
    let command = here.cluster.sign(Action::Call { contract: a.address(), data: vec![] }, GAS);
    assert_eq!(code_of(there.cluster.send(&command).await.map(|_| ())), Code::WrongAddress);
    let executed = here.cluster.send(&command).await.unwrap();
    let members = async |person: &Person| {
        let record = person.cluster.chain().cluster(person.cluster.id()).await.unwrap().unwrap();
        record.members.iter().map(|member| member.identity).collect::<Vec<_>>()
    };
    let (ours, theirs) = (members(here).await, members(there).await);
    let genesis = here.cluster.chain().genesis();
    let verify = |cluster, members: &[[u8; 32]]| {
        let (hash, signer) = (command.hash(), executed.receipt.identity);
        executed.receipt.verify(&genesis, cluster, members, &signer, &hash, &executed.outcome)
    };
    verify(0, &ours).unwrap();
    assert!(verify(1, &ours).is_err() && verify(0, &theirs).is_err() && verify(1, &theirs).is_err());
    // The other cluster knows nothing of the contract.
    let asked = there.cluster.contract(a.address()).query(vec![0xfc, 0, 0, 0, 0]).await;
    assert_eq!(code_of(asked), Code::NoContract);
}
