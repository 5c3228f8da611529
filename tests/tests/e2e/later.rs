//! What contracts ask for and get later: answers of servers, and calls by timers. Servers fail, hang and repeat
//! themselves, a worker dies in the middle, or all of them again and again: each callback runs exactly once.

use crate::{
    harness::{Dice, LOG, Net, eventually, run},
    person::{GAS, Person, outcome},
};
use codec::Encode;
use phala_client::{Action, Contract, LogQuery};
use phala_devnet::{Config, Devnet, EgressPolicy};
use phala_primitives::AccountId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const REQUESTS: u32 = 1000;
/// Commands under way at once.
const AT_ONCE: usize = 32;

/// A contract that asks for what it is told to, and counts what comes back.
pub(crate) const SOURCE: &str = include_str!("../../../contracts/fixtures/errand.wat");

/// Of the callback.
const SELECTOR: [u8; 4] = [1, 2, 3, 4];

fn callback(tag: u32) -> Vec<u8> {
    (SELECTOR, tag.to_be_bytes().to_vec(), 100_000_000u64).encode()
}

/// The input that has the contract call a function of the extension.
pub(crate) fn door(function: u32, arguments: impl Encode) -> Vec<u8> {
    [&function.to_le_bytes()[..], &[0xfe], &arguments.encode()].concat()
}

fn ask(url: &str, tag: u32) -> Vec<u8> {
    let request = (url, "POST", Vec::<(String, String)>::new(), tag.to_be_bytes().to_vec());
    [door(101, (request, 400u64)), callback(tag)].concat()
}

fn timer(delay_ms: u64, period_ms: u64, tag: u32) -> Vec<u8> {
    [door(102, (delay_ms, period_ms)), callback(tag)].concat()
}

async fn count(contract: &Contract, tag: u32) -> u64 {
    let answered = contract.query([&tag.to_be_bytes()[..], &[0xff]].concat()).await.unwrap();
    u64::from_le_bytes(answered.output.data.try_into().unwrap())
}

/// A server that answers some requests, some of them twice, fails some, and leaves some without a word. Counts them all.
async fn server(served: Arc<AtomicU64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = served.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0; 2048];
                let _ = stream.read(&mut request).await;
                const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let answer: &[u8] = match number % 7 {
                    0 => return,
                    1 => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    2 => {
                        // Longer than anyone waits.
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        return;
                    }
                    3 => &[GOOD, GOOD, GOOD].concat(),
                    _ => GOOD,
                };
                let _ = stream.write_all(answer).await;
            });
        }
    });
    url
}

#[test]
fn every_callback_runs_exactly_once() {
    run(Duration::from_secs(240), async {
        let config = Config { egress: EgressPolicy { private: true }, ..Config::default() };
        let mut net = Devnet::start(config, |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let contract = alice.deploy(wat::parse_str(SOURCE).unwrap(), vec![]).await.unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let url = server(served.clone()).await;
        let victim = Dice::new().below(4) as usize;
        let started = Instant::now();
        let (next, half) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
        let send = || {
            let (contract, url, next, half) = (contract.clone(), url.clone(), next.clone(), half.clone());
            tokio::spawn(async move {
                loop {
                    let tag = next.fetch_add(1, Ordering::SeqCst) as u32;
                    if tag == REQUESTS / 2 {
                        half.notify_one();
                    }
                    if tag >= REQUESTS {
                        return;
                    }
                    let data = ask(&url, tag);
                    let command = contract.cluster().sign(Action::Call { contract: contract.address(), data }, GAS);
                    outcome(contract.cluster().send(&command).await.unwrap()).unwrap();
                }
            })
        };
        let senders: Vec<_> = (0..AT_ONCE).map(|_| send()).collect();
        half.notified().await;
        // It has requests under way.
        net.kill_worker(victim).unwrap();
        for sender in senders {
            sender.await.unwrap();
        }
        let asked = started.elapsed();
        for tag in 0..REQUESTS {
            eventually("a callback", Duration::from_secs(60), || async {
                (count(&contract, tag).await > 0).then_some(())
            })
            .await;
        }
        println!(
            "{REQUESTS} requests asked for in {asked:?}, all called back after {:?}; the server saw {}",
            started.elapsed(),
            served.load(Ordering::SeqCst)
        );
        // No callback told of a request that nobody made.
        assert!(served.load(Ordering::SeqCst) >= u64::from(REQUESTS));
        // Whatever was performed twice is delivered by now: turns are short.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for tag in 0..REQUESTS {
            assert_eq!(count(&contract, tag).await, 1, "callback {tag}");
        }
        net.stop().await;
    });
}

/// Requests that are asked for before each death of all.
const BETWEEN_DEATHS: u32 = 100;
const DEATHS: u32 = 3;

#[test]
fn callbacks_survive_the_death_of_all_replicas_again_and_again() {
    run(Duration::from_secs(300), async {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("net");
        let served = Arc::new(AtomicU64::new(0));
        let url = server(served.clone()).await;
        let start = || Net::start_with(&folder, LOG, &["--allow-private-http"]);
        let mut net = start();
        let alice = Person::at("Alice", &net).await;
        let address = alice.deploy(wat::parse_str(SOURCE).unwrap(), vec![]).await.unwrap().address();
        let mut dice = Dice::new();
        for death in 0..DEATHS {
            let contract = Person::at("Alice", &net).await.cluster.contract(address);
            let tags = death * BETWEEN_DEATHS..(death + 1) * BETWEEN_DEATHS;
            let asked = futures::future::join_all(tags.map(|tag| {
                let (contract, data) = (contract.clone(), ask(&url, tag));
                async move { outcome(contract.call(data, GAS).await.unwrap()).unwrap() }
            }));
            asked.await;
            // Some are under way, some delivered, some not begun.
            tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
            net.kill();
            net = start();
        }
        let contract = Person::at("Alice", &net).await.cluster.contract(address);
        for tag in 0..DEATHS * BETWEEN_DEATHS {
            eventually("a callback", Duration::from_secs(90), || async {
                (count(&contract, tag).await > 0).then_some(())
            })
            .await;
        }
        // Whatever was performed twice is delivered by now: turns are short.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for tag in 0..DEATHS * BETWEEN_DEATHS {
            assert_eq!(count(&contract, tag).await, 1, "callback {tag}");
        }
        let served = served.load(Ordering::SeqCst);
        println!("{} callbacks ran once through {DEATHS} deaths; the server saw {served}", DEATHS * BETWEEN_DEATHS);
        assert!(served >= u64::from(DEATHS * BETWEEN_DEATHS));
    });
}

#[test]
fn timers_call_once_or_again_and_again_until_cancelled() {
    run(Duration::from_secs(120), async {
        let net = Devnet::start(Config::default(), |_| ()).await.unwrap();
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let contract = alice.deploy(wat::parse_str(SOURCE).unwrap(), vec![]).await.unwrap();
        let send = async |data: Vec<u8>| outcome(contract.call(data, GAS).await.unwrap()).unwrap();
        send(timer(300, 0, 1)).await;
        let ticking = send(timer(50, 50, 2)).await;
        eventually("20 calls", Duration::from_secs(30), || async { (count(&contract, 2).await >= 20).then_some(()) })
            .await;
        assert_eq!(count(&contract, 1).await, 1);
        send([&103u32.to_le_bytes()[..], &[0xfe], &ticking].concat()).await;
        let last = count(&contract, 2).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(count(&contract, 2).await, last, "it was cancelled");
        // A callback that fails is told in the log, and stops nobody.
        let little_gas = (SELECTOR, vec![0u8; 4], 10u64).encode();
        send([&102u32.to_le_bytes()[..], &[0xfe], &(1u64, 0u64).encode(), &little_gas].concat()).await;
        let query = LogQuery {
            contract: contract.address(),
            queries: false,
            from: 0,
            limit: 10,
            wait_ms: 10_000,
            min_height: 0,
        };
        let page = alice.cluster.log(&query).await.unwrap();
        assert_eq!(page.records.len(), 1);
        let eve = Person::new("Eve", &net.rpc_url(), net.genesis()).await;
        let denied = eve.cluster.log(&query).await.unwrap_err();
        assert_eq!(denied.known(), Some(phala_primitives::Code::LogDenied));
        let everyone = [&100u32.to_le_bytes()[..], &[0xfe], &(None::<AccountId>, true).encode()].concat();
        send(everyone).await;
        eventually("the log is open", Duration::from_secs(10), || async {
            eve.cluster.log(&query).await.ok().filter(|open| open.records == page.records).map(drop)
        })
        .await;
        net.stop().await;
    });
}
