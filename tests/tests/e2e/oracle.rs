//! A contract that uses what Phala adds: HTTP, keys, the log, random numbers.

use crate::{
    harness::{LOG, Net, eventually, run},
    person::{self, GAS, Person, answer, code, code_of, outcome},
};
use codec::{Decode, Encode};
use phala_client::{Contract, LogQuery, LogRecord, Said, Session};
use phala_primitives::{AccountId, Code, Coded};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const NEW: &str = "new";
/// Rolls of the dice; one that differed between replicas would stop the cluster at the next entry.
const ROLLS: usize = 8;

/// A price that the contract fetched.
#[derive(Clone, Debug, Encode, Decode)]
struct Quote {
    url: String,
    price: u64,
    time_ms: u64,
    signature: Vec<u8>,
}

/// Why the contract refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Decode)]
enum Refused {
    Status(u16),
    NoPrice,
    BadSignature,
    WrongSource,
    Stale,
    NotAuthorised,
}

#[test]
fn an_oracle_fetches_signs_and_logs() {
    run(Duration::from_secs(180), async {
        let base = tempfile::tempdir().unwrap();
        let source = serve(r#"{"symbol":"PHA","price":"41.5"}"#).await;
        let net = Net::start_with(&base.path().join("net"), LOG, &["--allow-private-http"]);
        let (alice, bob) = (Person::at("Alice", &net).await, Person::at("Bob", &net).await);
        let oracle = deploy(&alice, &source).await;
        let quote = fetches(&oracle, &source).await;
        updates(&alice, &bob, &oracle, quote).await;
        signs(&oracle).await;
        rolls(&alice, &oracle).await;
    });
}

#[test]
fn a_contract_reaches_no_private_address_by_default() {
    run(Duration::from_secs(180), async {
        let base = tempfile::tempdir().unwrap();
        let source = serve(r#"{"price":1}"#).await;
        let net = Net::start(&base.path().join("net"), LOG);
        let oracle = deploy(&Person::at("Alice", &net).await, &source).await;
        assert_eq!(fetch(&oracle, &source).await.unwrap_err(), Refused::Status(523));
    });
}

/// A server that answers each request with this body, until the test ends.
async fn serve(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/price", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut request, mut part) = (vec![], [0; 1024]);
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match socket.read(&mut part).await {
                        Ok(1..) => request.extend_from_slice(&part),
                        _ => return,
                    }
                }
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                // Whoever asked may have gone.
                let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    url
}

async fn deploy(owner: &Person, source: &str) -> Contract {
    owner.deploy(code("oracle.contract"), input(NEW, (source, "price"))).await.unwrap()
}

fn input(label: &str, arguments: impl Encode) -> Vec<u8> {
    person::input("oracle.contract", label, arguments)
}

async fn ask<T: Decode>(oracle: &Contract, label: &str, arguments: impl Encode) -> T {
    answer(&oracle.query(input(label, arguments)).await.unwrap().output.data)
}

/// What a command returned. ink! reverts if a message returns an error.
async fn send(oracle: &Contract, label: &str, arguments: impl Encode) -> Result<Vec<u8>, Coded> {
    outcome(oracle.call(input(label, arguments), GAS).await?)
}

async fn fetch(oracle: &Contract, url: &str) -> Result<Quote, Refused> {
    ask(oracle, "fetch", url).await
}

async fn fetches(oracle: &Contract, source: &str) -> Quote {
    let quote = fetch(oracle, source).await.unwrap();
    assert_eq!((quote.price, quote.url.as_str()), (41_500_000, source));
    assert_eq!(fetch(oracle, "http://127.0.0.1:1/").await.unwrap_err(), Refused::Status(523));
    assert_eq!(fetch(oracle, "no url").await.unwrap_err(), Refused::Status(523));
    // A command fetches nothing, and every replica agrees on that.
    assert_eq!(code_of(send(oracle, "fetch", source).await), Code::Reverted);
    quote
}

async fn log(reader: &Person, oracle: AccountId) -> Result<Vec<LogRecord>, Coded> {
    let query = LogQuery { contract: oracle, queries: false, from: 0, limit: 100, wait_ms: 0, min_height: 0 };
    Ok(reader.cluster.log(&query).await?.records)
}

async fn updates(owner: &Person, stranger: &Person, oracle: &Contract, quote: Quote) {
    let forged = Quote { price: 1, ..quote.clone() };
    assert_eq!(code_of(send(oracle, "update", forged).await), Code::Reverted);
    assert_eq!(answer::<Result<(), Refused>>(&send(oracle, "update", &quote).await.unwrap()), Ok(()));
    assert_eq!(ask::<(u64, u64)>(oracle, "price", ()).await, (quote.price, quote.time_ms));
    assert_eq!(code_of(send(oracle, "update", &quote).await), Code::Reverted, "a quote is used once");

    let records = log(owner, oracle.address()).await.unwrap();
    let event = (quote.price, quote.time_ms).encode();
    assert!(records.iter().any(|record| matches!(&record.said, Said::Event { data, .. } if *data == event)));
    let line = "the price is 41500000";
    let lines = records.iter().filter(|record| matches!(&record.said, Said::Line { level: 3, text } if text == line));
    assert_eq!(lines.count(), 1, "{records:?}");

    assert_eq!(code_of(log(stranger, oracle.address()).await), Code::LogDenied);
    send(oracle, "allow_log", stranger.account.id()).await.unwrap();
    // The replica that is asked may be a moment behind the one that answered.
    let read = || async { log(stranger, oracle.address()).await.ok() };
    let seen = eventually("the stranger may read", Duration::from_secs(10), read).await;
    assert_eq!(seen[..records.len()], records[..]);
}

async fn signs(oracle: &Contract) {
    let key: Vec<u8> = ask(oracle, "key", ()).await;
    let signature: Vec<u8> = ask(oracle, "sign", "text").await;
    let public = subxt_signer::sr25519::PublicKey(key.try_into().unwrap());
    let signature = subxt_signer::sr25519::Signature(signature.try_into().unwrap());
    assert!(subxt_signer::sr25519::verify(&signature, b"text", &public));
    assert!(!subxt_signer::sr25519::verify(&signature, b"tex", &public));
}

async fn rolls(owner: &Person, oracle: &Contract) {
    let mut rolled = vec![];
    for _ in 0..ROLLS {
        rolled.push(answer::<u8>(&send(oracle, "dice", ()).await.unwrap()));
    }
    assert!(rolled.iter().all(|face| (1..=6).contains(face)), "{rolled:?}");
    // Every replica has the same, and has the same key.
    let (ask_rolls, ask_key) = (input("rolls", ()), input("key", ()));
    let mut keys = vec![];
    for replica in owner.cluster.replicas() {
        let session = Session::open_at(&owner.cluster, &replica.worker).await.unwrap();
        let rolls = session.query(oracle.address(), ask_rolls.clone()).await.unwrap();
        assert_eq!(answer::<Vec<u8>>(&rolls.output.data), rolled, "{}", replica.worker);
        keys.push(session.query(oracle.address(), ask_key.clone()).await.unwrap().output.data);
    }
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]));
}
