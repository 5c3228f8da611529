//! What contracts may use, on a whole network: each limit has its code and is counted, large requests and codes pass, and
//! a query that is spread over the cluster comes to its answer although a worker dies.

use crate::{
    contracts::{self, input, probe},
    harness::{eventually, run},
    person::{GAS, Person, code_of, flipper, outcome},
};
use codec::{DecodeAll, Encode};
use futures::future::join_all;
use phala_client::{Account, Action, Call, Contract, Session};
use phala_devnet::{Config, Devnet};
use phala_primitives::{ClusterPolicy, Code, Coded, blake2_256, limits::PART};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A contract written by hand. `"ext!", function: u32, arguments` calls that function of the extension and returns its
/// output. `"part", turns: u32, seed: u32` turns a generator so often. Anything else comes back as it was.
const SOURCE: &str = r#"(module
  (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
  (import "seal0" "input" (func $input (param i32 i32)))
  (import "seal0" "call_chain_extension" (func $ext (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 600))
  (func (export "deploy"))
  (func (export "call") (local $len i32) (local $turns i32) (local $x i64)
    (i32.store (i32.const 0) (i32.const 17000000))
    (call $input (i32.const 65536) (i32.const 0))
    (local.set $len (i32.load (i32.const 0)))
    (if (i32.eq (i32.load (i32.const 65536)) (i32.const 0x21747865)) (then
      (i32.store (i32.const 0) (i32.const 17000000))
      (drop (call $ext (i32.load (i32.const 65540)) (i32.const 65544) (i32.sub (local.get $len) (i32.const 8))
        (i32.const 18000000) (i32.const 0)))
      (call $return (i32.const 0) (i32.const 18000000) (i32.load (i32.const 0)))))
    (if (i32.eq (i32.load (i32.const 65536)) (i32.const 0x74726170)) (then
      (local.set $turns (i32.load (i32.const 65540)))
      (local.set $x (i64.extend_i32_u (i32.load (i32.const 65544))))
      (loop $again
        (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
        (br_if $again (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
      (i64.store (i32.const 8) (local.get $x))
      (call $return (i32.const 0) (i32.const 8) (i32.const 8))))
    (call $return (i32.const 0) (i32.const 65536) (local.get $len))))"#;

/// A part's result, as the network says it.
type Part = Result<Vec<u8>, MapError>;

#[derive(Debug, PartialEq, Eq, codec::Decode)]
enum MapError {
    Reverted(Vec<u8>),
    Failed(u16),
}

fn worker() -> Vec<u8> {
    wat::parse_str(SOURCE).unwrap()
}

fn extension(function: u32, arguments: impl Encode) -> Vec<u8> {
    (*b"ext!", function, arguments).encode()
}

/// Splits a query into parts that each turn the generator.
fn map(parts: u32, turns: u32) -> Vec<u8> {
    let inputs: Vec<Vec<u8>> = (0..parts).map(|seed| (turns, seed).encode()).collect();
    extension(112, (*b"part", inputs))
}

fn turned(turns: u32, seed: u32) -> Vec<u8> {
    let turn = |x: u64, _| x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (0..turns).fold(u64::from(seed), turn).encode()
}

/// The sum of a counter or gauge over pages of metrics.
async fn metric(urls: &[String], name: &str) -> u64 {
    let pages = urls.iter().map(|url| async move {
        let page = reqwest::get(format!("{url}/metrics")).await.ok()?.text().await.ok()?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        Some(value.unwrap_or(0))
    });
    join_all(pages).await.into_iter().flatten().sum()
}

async fn reached(net: &Devnet, code: Code) -> u64 {
    let name = format!("phala_worker_limits_total{{code=\"{code}\",name=\"{code:?}\"}}");
    metric(&net.worker_urls(), &name).await
}

/// Sets the cluster's policy as the account that made it, and waits until every member follows.
pub(crate) async fn set_policy(net: &Devnet, person: &Person, policy: &ClusterPolicy) {
    let maker = Account::from_suri("//Worker//0").unwrap();
    let chain = person.cluster.chain();
    chain.submit(&maker, &Call::set_policy(0, policy)).await.unwrap();
    let version = chain.policy(0).await.unwrap().version;
    let members = chain.cluster(0).await.unwrap().unwrap().members.len() as u64;
    let workers = net.worker_urls();
    eventually("every member follows the policy", Duration::from_secs(60), || async {
        let sum = metric(&workers, "phala_worker_policy_version").await;
        (sum == version * members).then_some(())
    })
    .await;
}

async fn network() -> (Devnet, Person) {
    let net = Devnet::start(Config { validators: 1, ..Config::default() }, |_| ()).await.unwrap();
    let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
    (net, alice)
}

async fn send(contract: &Contract, data: Vec<u8>, gas: u64) -> Result<Vec<u8>, Coded> {
    outcome(contract.call(data, gas).await?)
}

#[test]
fn every_limit_has_its_code_and_is_counted() {
    run(Duration::from_secs(240), async {
        let (net, alice) = network().await;
        let eve = Account::from_suri("//Eve").unwrap();
        let refused = alice.cluster.chain().submit(&eve, &Call::set_policy(0, &ClusterPolicy::DEFAULT)).await;
        assert_eq!(code_of(refused), Code::ExtrinsicFailed);
        let bad = alice.deploy(probe(), vec![]).await.unwrap();
        let good = alice.deploy_flipper().await;
        // In so little memory that it fits the tight policy.
        let small = alice.deploy(wat::parse_str(SOURCE.replace("600", "30")).unwrap(), vec![]).await.unwrap();
        let large = alice.deploy(worker(), vec![]).await.unwrap();
        let tight = ClusterPolicy {
            total_memory_bytes: 16 << 20,
            query_ms: 500,
            message_bytes: 64 << 10,
            code_bytes: 64 << 10,
            queries: 2,
            http_requests: 0,
            map_parts: 2,
            ..ClusterPolicy::DEFAULT
        };
        set_policy(&net, &alice, &tight).await;
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let [bad, good, small, large] = [bad, good, small, large].map(|c| alice.cluster.contract(c.address()));

        let queries = [
            (bad.query(input(contracts::LOOP, b"")).await, Code::TimeLimit),
            (bad.query(input(contracts::GROW, b"")).await, Code::MemoryLimit),
            (bad.query(input(contracts::RETURN_TOO_MUCH, b"")).await, Code::ReplyTooLarge),
            (bad.query(vec![0; 65 << 10]).await, Code::TooLarge),
            (large.query(vec![]).await, Code::ContractMemoryLimit),
            (small.query(map(3, 1)).await, Code::MapLimit),
        ];
        for (answer, expected) in queries {
            assert_eq!(code_of(answer), expected);
            assert!(reached(&net, expected).await > 0, "{expected} is not counted");
        }
        let request = ("http://127.0.0.1/", "GET", Vec::<(String, String)>::new(), Vec::<u8>::new());
        let ask = extension(101, (request, 400u64, (*b"part", Vec::<u8>::new(), 0u64)));
        let whole = Action::Call { contract: bad.address(), data: vec![0; 1100 << 10] };
        let whole = bad.cluster().sign(whole, GAS);
        let commands = [
            (send(&bad, input(contracts::STORE_TOO_MUCH, b""), GAS).await, Code::StorageLimit),
            (send(&bad, input(contracts::LOOP, b""), 1_000_000).await, Code::OutOfGas),
            (send(&bad, input(contracts::LOOP, b""), 2 * GAS).await, Code::GasLimitTooHigh),
            (bad.cluster().send(&whole).await.map(|_| vec![]), Code::CommandTooLarge),
            (send(&bad, vec![0; 65 << 10], GAS).await, Code::TooLarge),
            (send(&large, vec![], GAS).await, Code::ContractMemoryLimit),
            (send(&small, ask, GAS).await, Code::HttpOff),
        ];
        for (answer, expected) in commands {
            assert_eq!(code_of(answer), expected);
            assert!(reached(&net, expected).await > 0, "{expected} is not counted");
        }
        // A code that the chain took and the cluster does not.
        let code = [&probe()[..], &[0, 0]].concat().into_iter().chain(vec![0; 70 << 10]).collect::<Vec<u8>>();
        let deposit = Call::upload_code(&blake2_256(&code), code.len() as u32);
        alice.cluster.chain().submit(&alice.account, &deposit).await.unwrap();
        let refused = alice.cluster.upload(code, GAS).await.unwrap().outcome.result;
        assert_eq!(code_of(refused), Code::CodeTooLarge);
        assert!(reached(&net, Code::CodeTooLarge).await > 0);
        // More queries of one contract than it may have, all at one replica; the neighbour does not notice.
        let session = Arc::new(Session::open(&alice.cluster).await.unwrap());
        let many = (0..6).map(|_| session.query(bad.address(), input(contracts::LOOP, b"")));
        let (many, neighbour) = tokio::join!(join_all(many), async {
            let started = Instant::now();
            let answer = session.query(good.address(), flipper::GET.to_vec()).await.unwrap();
            (answer.output.data, started.elapsed())
        });
        let codes: Vec<Code> = many.into_iter().map(code_of).collect();
        assert_eq!(codes.iter().filter(|code| **code == Code::ContractBusy).count(), 4, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == Code::TimeLimit).count(), 2, "{codes:?}");
        assert!(flipper::bit(&neighbour.0));
        assert!(reached(&net, Code::ContractBusy).await > 0);
        println!("beside two endless queries: {:?}", neighbour.1);
        for gauge in ["query_memory_bytes", "queries_under_way"] {
            assert_eq!(metric(&net.worker_urls(), &format!("phala_worker_{gauge}")).await, 0, "{gauge}");
        }
        net.stop().await;
    });
}

#[test]
fn large_queries_commands_and_codes_pass() {
    run(Duration::from_secs(240), async {
        let (net, alice) = network().await;
        // Two MiB of data that nothing looks at: it goes in parts.
        let data = "\\07".repeat(4 * PART);
        let text = SOURCE
            .replace("(func (export \"deploy\"))", "(func (export \"deploy\")) (data (i32.const 20000000) \"DATA\")");
        let code = wat::parse_str(text.replace("DATA", &data)).unwrap();
        assert!(code.len() > 4 * PART);
        let contract = alice.deploy(code, vec![]).await.unwrap();
        let session = Session::open(&alice.cluster).await.unwrap();
        for length in [100 << 10, 1 << 20, 8 << 20, (16 << 20) - 1000] {
            let question: Vec<u8> = (0..length).map(|i: u32| (i >> 8) as u8 | 1).collect();
            let started = Instant::now();
            let answer = contract.query(question.clone()).await.unwrap();
            println!("{length} bytes there and back in {:?}", started.elapsed());
            assert!(answer.output.data == question, "{length} bytes");
            let started = Instant::now();
            let returned = outcome(contract.call(question.clone(), GAS).await.unwrap()).unwrap();
            println!("as a command in {:?}", started.elapsed());
            assert!(returned == question, "{length} bytes by a command");
            assert!(session.query(contract.address(), question.clone()).await.unwrap().output.data == question);
        }
        assert_eq!(code_of(contract.query(vec![1; 18 << 20]).await), Code::TooLarge);
        // More at once than there is room for: some are told so, and nobody else is harmed.
        let flip = alice.deploy_flipper().await;
        let many = (0..24).map(|_| contract.query(vec![1; 15 << 20]));
        let (many, small) = tokio::join!(join_all(many), flip.query(flipper::GET.to_vec()));
        assert!(flipper::bit(&small.unwrap().output.data));
        assert!(many.iter().filter(|answer| answer.is_ok()).count() >= 4);
        for answer in many {
            if let Err(error) = answer {
                assert!(matches!(error.known(), Some(Code::BytesBusy | Code::Busy | Code::NoReplica)), "{error}");
            }
        }
        assert_eq!(metric(&net.worker_urls(), "phala_worker_request_bytes").await, 0);
        net.stop().await;
    });
}

#[test]
fn a_query_is_spread_over_the_cluster_although_a_worker_dies() {
    const PARTS: u32 = 96;
    const TURNS: u32 = 30_000_000;
    run(Duration::from_secs(240), async {
        let (mut net, alice) = network().await;
        set_policy(&net, &alice, &ClusterPolicy { query_ms: 120_000, ..ClusterPolicy::DEFAULT }).await;
        let alice = Person::new("Alice", &net.rpc_url(), net.genesis()).await;
        let contract = alice.deploy(worker(), vec![]).await.unwrap();
        let urls = net.worker_urls();
        alice.cluster.prefer(0);
        let asked = alice.cluster.replicas()[0].endpoint.clone();
        let query = tokio::spawn(async move {
            let started = Instant::now();
            (contract.query(map(PARTS, TURNS)).await, started.elapsed())
        });
        let by_peers = "phala_worker_map_parts_total{place=\"peer\"}";
        eventually("another member helps", Duration::from_secs(60), || async {
            (metric(std::slice::from_ref(&asked), by_peers).await > 0).then_some(())
        })
        .await;
        let victim = urls.iter().position(|url| *url != asked).unwrap();
        net.kill_worker(victim).unwrap();
        let (answer, took) = query.await.unwrap();
        let parts = Vec::<Part>::decode_all(&mut &*answer.unwrap().output.data).unwrap();
        assert_eq!(parts.len(), PARTS as usize);
        for (seed, part) in (0u32..).zip(parts) {
            assert_eq!(part.unwrap(), turned(TURNS, seed), "part {seed}");
        }
        let alive = net.worker_urls();
        let here = metric(&alive, "phala_worker_map_parts_total{place=\"here\"}").await;
        println!("{PARTS} parts in {took:?}: {here} here, {} by others", metric(&alive, by_peers).await);
        net.stop().await;
    });
}

/// A contract whose queries compute for some milliseconds.
const BUSY: &str = r#"(module (import "env" "memory" (memory 0)) (func (export "deploy"))
    (func (export "call") (local $i i32) (loop
        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20000000))))))"#;

#[test]
fn a_contract_of_greater_weight_gets_more_of_the_processor() {
    run(Duration::from_secs(180), async {
        let (net, alice) = network().await;
        let code = wat::parse_str(BUSY).unwrap();
        let (light, heavy) =
            (alice.deploy(code.clone(), vec![]).await.unwrap(), alice.deploy(code, vec![]).await.unwrap());
        let worker = alice.cluster.chain().cluster(0).await.unwrap().unwrap().members[0].worker;
        let session = Arc::new(Session::open_at(&alice.cluster, &worker).await.unwrap());
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let mut asking = tokio::task::JoinSet::new();
        for (index, contract) in [light.address(), heavy.address()].into_iter().enumerate() {
            for _ in 0..8 {
                let (session, counts) = (session.clone(), counts.clone());
                asking.spawn(async move {
                    loop {
                        session.query(contract, vec![]).await.unwrap();
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        // What the second had for each of the first, while the first had so many.
        let ratio = async || {
            let before = [0, 1].map(|index| counts[index].load(Ordering::Relaxed));
            eventually("the lighter contract computes, too", Duration::from_secs(60), || async {
                (counts[0].load(Ordering::Relaxed) >= before[0] + 30).then_some(())
            })
            .await;
            let [light, heavy] = [0, 1].map(|index| counts[index].load(Ordering::Relaxed) - before[index]);
            heavy as f64 / light as f64
        };
        ratio().await;
        let equal = ratio().await;
        assert!((0.6..1.6).contains(&equal), "{equal}");
        let creator = Account::from_suri("//Worker//0").unwrap();
        let call = Call::set_weight(0, &heavy.address(), 6);
        alice.cluster.chain().submit(&creator, &call).await.unwrap();
        eventually("the weight counts", Duration::from_secs(60), || async { (ratio().await > 3.0).then_some(()) })
            .await;
        asking.shutdown().await;
        net.stop().await;
    });
}
