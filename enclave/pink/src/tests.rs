//! Contracts that call every function, in both modes.

#[path = "../../vm/tests/vm/functions/table.rs"]
#[allow(dead_code, unreachable_pub, reason = "only the names are wanted here")]
mod calls;

use crate::{types::SigType, *};
use calls::{CASES, Outcome};
use codec::{Decode, DecodeAll, Encode};
use parking_lot::Mutex;
use phala_primitives::{
    AccountId, Balance, Code, Hash, PHA,
    limits::{MAX_DISPATCH, MAX_PARCEL, MIN_BALANCE, MIN_WITHDRAWAL},
};
use phala_vm::{BlockInfo, Capacity, Engine, Entry, Execution, Failure, Invocation, MemoryWorld, Mode};
use std::sync::Arc;

const CONTRACT: AccountId = AccountId([1; 32]);
const OTHER: AccountId = AccountId([2; 32]);
const GAS: u64 = 1_000_000_000;

/// A contract that calls functions for anyone who asks.
const DOOR: &str = include_str!("../../../contracts/fixtures/door.wat");

/// An outside world whose clock is set by hand and whose only server repeats what it is told.
#[derive(Default)]
struct Town {
    now_ms: Mutex<u64>,
    lines: Mutex<Vec<(AccountId, u8, String)>>,
    patience: Mutex<Vec<u64>>,
}

impl Outside for Town {
    fn http(&self, _: &AccountId, requests: Vec<HttpRequest>, timeout_ms: u64) -> Vec<HttpResult> {
        self.patience.lock().push(timeout_ms);
        let answer = |request: HttpRequest| match request.url.as_str() {
            "http://dead/" => Err(HttpError::Timeout),
            _ => Ok(HttpResponse { status_code: 200, reason_phrase: "OK".into(), headers: vec![], body: request.body }),
        };
        requests.into_iter().map(answer).collect()
    }
    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(4);
    }
    fn now_ms(&self) -> u64 {
        *self.now_ms.lock()
    }
    fn log(&self, contract: &AccountId, level: u8, text: &str) {
        self.lines.lock().push((*contract, level, text.to_owned()));
    }
}

struct Scene {
    engine: Engine,
    town: Arc<Town>,
    cache: Arc<Cache>,
    world: Arc<MemoryWorld>,
    block: BlockInfo,
    caller: AccountId,
}

impl Scene {
    fn new() -> Self {
        let (town, cache) =
            (Arc::new(Town::default()), Arc::new(Cache::new(CacheLimits { contract_bytes: 4096, total_bytes: 6000 })));
        let pink = Pink::new([7; 32], [9; 32], town.clone(), cache.clone());
        let engine = Engine::with_extension(Capacity::default(), Arc::new(pink)).unwrap();
        let block = BlockInfo { height: 5, time_ms: 1_700_000_000_000, index: 1 };
        let (door, mut world) = (wat::parse_str(DOOR).unwrap(), MemoryWorld::default());
        for contract in [CONTRACT, OTHER] {
            world.place(contract, &door);
        }
        world.balances.insert(CONTRACT, PHA);
        Self { engine, town, cache, world: Arc::new(world), block, caller: OTHER }
    }

    fn run(&self, contract: AccountId, mode: Mode, id: u32, input: &[u8], revert: bool) -> Result<Execution, Failure> {
        let data = [&id.to_le_bytes()[..], input, &[u8::from(revert)]].concat();
        let (caller, block) = (self.caller, self.block);
        let invocation = Invocation {
            mode,
            entry: Entry::Call,
            contract,
            caller,
            origin: caller,
            value: 0,
            data,
            block,
            cluster: 0,
        };
        self.engine.execute(self.world.clone(), invocation)
    }

    fn query<T: Decode>(&self, id: u32, input: impl Encode) -> T {
        let execution = self.run(CONTRACT, Mode::Query { ticks: 100 }, id, &input.encode(), false).unwrap();
        assert!(execution.effects.is_empty());
        T::decode_all(&mut &*execution.data).unwrap()
    }

    fn command<T: Decode>(&self, id: u32, input: impl Encode) -> (T, Vec<Effect>) {
        let execution = self.run(CONTRACT, Mode::Command { gas_limit: GAS }, id, &input.encode(), false).unwrap();
        assert!(execution.gas_used > 0 && execution.effects.iter().all(|effect| effect.contract == CONTRACT));
        let effects = execution.effects.iter().map(|effect| Effect::decode_all(&mut &*effect.data).unwrap()).collect();
        (T::decode_all(&mut &*execution.data).unwrap(), effects)
    }

    fn both<T: Decode + PartialEq + std::fmt::Debug>(&self, id: u32, input: impl Encode) -> T {
        let (answer, effects) = self.command::<T>(id, &input);
        assert!(effects.is_empty());
        assert_eq!(self.query::<T>(id, &input), answer, "function {id}");
        answer
    }
}

fn request(url: &str) -> HttpRequest {
    HttpRequest { url: url.into(), method: "GET".into(), headers: vec![], body: b"echo".to_vec() }
}

fn callback() -> Callback {
    Callback { selector: [1, 2, 3, 4], tag: b"tag".to_vec(), gas: 1_000_000 }
}

/// Good arguments of each function.
fn sample(id: u32) -> Vec<u8> {
    let key = vec![3u8; 32];
    match id {
        1 => request("http://a/").encode(),
        2 => (SigType::Ecdsa, key, b"text".to_vec()).encode(),
        3 => (SigType::Ecdsa, vec![2u8; 33], b"text".to_vec(), vec![0u8; 65]).encode(),
        5 => (SigType::Ed25519, key).encode(),
        6 => (b"key".to_vec(), b"value".to_vec()).encode(),
        7 => (b"key".to_vec(), 5u64).encode(),
        4 | 8 | 9 => b"key".to_vec().encode(),
        10 => (3u8, "a line").encode(),
        11 => 16u8.encode(),
        13 => (key, [1u8; 32]).encode(),
        14 => ([0u8; 65], [1u8; 32], [2u8; 33]).encode(),
        16 => CONTRACT.encode(),
        20 => OTHER.encode(),
        19 => (Hash([1; 32]), false).encode(),
        22 => (vec![request("http://a/")], 500u64).encode(),
        100 => (Some(OTHER), true).encode(),
        101 => (request("http://a/"), 500u64, callback()).encode(),
        102 => (100u64, 0u64, callback()).encode(),
        103 => 7u64.encode(),
        104 => (OTHER, PHA / 2).encode(),
        105 => vec![1u8, 2].encode(),
        106 => (OTHER, vec![1u8, 2], PHA / 2).encode(),
        108 => ("github/push", [1u8, 2, 3, 4], 1_000_000u64, 0u32).encode(),
        109 => "github/push".encode(),
        112 => ([21u8, 0, 0, 0], vec![vec![0u8]]).encode(),
        _ => vec![],
    }
}

#[test]
fn every_function_of_the_table_answers_as_the_table_says_and_no_other_exists() {
    let scene = Scene::new();
    for mode in [Mode::Query { ticks: 100 }, Mode::Command { gas_limit: GAS }] {
        for function in FUNCTIONS {
            let answer = if matches!(mode, Mode::Query { .. }) { function.query } else { function.command };
            let result = scene.run(CONTRACT, mode, function.id, &sample(function.id), false);
            match answer {
                Answer::Traps => assert_eq!(result.unwrap_err().code(), Code::Trapped, "{function:?}"),
                _ => assert!(result.is_ok(), "{function:?}: {result:?}"),
            }
            if function.id != 12 && !sample(function.id).is_empty() {
                let garbage = scene.run(CONTRACT, mode, function.id, &[0xff; 3], false);
                assert_eq!(garbage.unwrap_err().code(), Code::Trapped, "{function:?}");
            }
        }
        for id in [0, 26, 99, 110, 1 << 16 | 1, u32::MAX] {
            assert_eq!(scene.run(CONTRACT, mode, id, &[], false).unwrap_err().code(), Code::Trapped);
        }
    }
    let ids: Vec<u32> = FUNCTIONS.iter().map(|function| function.id).collect();
    assert_eq!(ids, (1..=25).chain(100..=106).chain(108..=109).chain([112]).collect::<Vec<_>>());
}

#[test]
fn every_function_is_charged_before_it_works() {
    let scene = Scene::new();
    for function in FUNCTIONS.iter().filter(|function| function.command != Answer::Traps) {
        let run =
            |gas_limit| scene.run(CONTRACT, Mode::Command { gas_limit }, function.id, &sample(function.id), false);
        let used = run(GAS).unwrap().gas_used;
        assert_eq!(run(used).unwrap().gas_used, used, "{function:?}");
        assert_eq!(run(used - 1).unwrap_err().code(), Code::OutOfGas, "{function:?}");
    }
}

#[test]
fn signatures_are_good_and_the_same_every_time() {
    let scene = Scene::new();
    let derived: Vec<u8> = scene.both(4, b"salt".to_vec());
    assert_eq!(derived.len(), 64);
    for (kind, key) in [
        (SigType::Sr25519, derived),
        (SigType::Sr25519, vec![3; 32]),
        (SigType::Ed25519, vec![3; 32]),
        (SigType::Ecdsa, vec![3; 32]),
    ] {
        let public: Vec<u8> = scene.both(5, (kind, &key));
        let signature: Vec<u8> = scene.both(2, (kind, &key, b"text".to_vec()));
        assert!(scene.both::<bool>(3, (kind, &public, b"text".to_vec(), &signature)));
        assert!(!scene.both::<bool>(3, (kind, &public, b"tex".to_vec(), &signature)));
        for change in 0..signature.len() {
            let mut bad = signature.clone();
            bad[change] ^= 0x40;
            assert!(!scene.query::<bool>(3, (kind, &public, b"text".to_vec(), &bad)), "{kind:?} {change}");
        }
    }
    let hash = [5u8; 32];
    let signature: [u8; 65] = scene.both(13, (vec![3u8; 32], hash));
    let public: Vec<u8> = scene.both(5, (SigType::Ecdsa, vec![3u8; 32]));
    let public: [u8; 33] = public.try_into().unwrap();
    assert!(scene.both::<bool>(14, (signature, hash, public)));
    assert!(!scene.both::<bool>(14, (signature, [6u8; 32], public)));
    let bad = scene.run(CONTRACT, Mode::Query { ticks: 9 }, 2, &(SigType::Ecdsa, vec![0u8; 32], b"").encode(), false);
    assert_eq!(bad.unwrap_err().code(), Code::Trapped);
}

#[test]
fn keys_and_random_numbers_belong_to_a_contract_and_a_place() {
    let mut scene = Scene::new();
    let mode = Mode::Command { gas_limit: GAS };
    let run = |scene: &Scene, contract, id, input: Vec<u8>| scene.run(contract, mode, id, &input, false).unwrap().data;
    let key = |scene: &Scene, contract, salt: &[u8]| run(scene, contract, 4, salt.to_vec().encode());
    assert_ne!(key(&scene, CONTRACT, b"a"), key(&scene, CONTRACT, b"b"));
    assert_ne!(key(&scene, CONTRACT, b"a"), key(&scene, OTHER, b"a"));
    assert_eq!(key(&scene, CONTRACT, b"a"), key(&Scene::new(), CONTRACT, b"a"), "two replicas");
    let here = run(&scene, CONTRACT, 11, 255u8.encode());
    assert_eq!(Vec::<u8>::decode_all(&mut &*here).unwrap().len(), 255);
    assert_eq!(here, run(&Scene::new(), CONTRACT, 11, 255u8.encode()), "two replicas");
    assert_ne!(here, run(&scene, OTHER, 11, 255u8.encode()));
    scene.block.index += 1;
    assert_ne!(here, run(&scene, CONTRACT, 11, 255u8.encode()));
    assert_eq!(scene.query::<Vec<u8>>(11, 3u8), [4; 3], "a query's are the machine's");
}

#[test]
fn http_waits_for_the_outside_in_queries_and_is_refused_in_commands() {
    let scene = Scene::new();
    let response: HttpResponse = scene.query(1, request("http://a/"));
    assert_eq!((response.status_code, response.body), (200, b"echo".to_vec()));
    let response: HttpResponse = scene.query(1, request("http://dead/"));
    assert_eq!(response.status_code, 524);
    let (response, _) = scene.command::<HttpResponse>(1, request("http://a/"));
    assert_eq!(response.status_code, 523);
    let batch = |count: usize, timeout: u64| (vec![request("http://a/"); count], timeout);
    let results: Result<Vec<HttpResult>, HttpError> = scene.query(22, batch(3, u64::MAX));
    assert!(results.is_ok_and(|results| results.len() == 3 && results.iter().all(Result::is_ok)));
    let results: Result<Vec<HttpResult>, HttpError> = scene.query(22, batch(17, 5));
    assert!(results == Err(HttpError::TooManyRequests));
    let (results, _) = scene.command::<Result<Vec<HttpResult>, HttpError>>(22, batch(1, 5));
    assert!(results == Err(HttpError::NotAllowed));
    assert_eq!(*scene.town.patience.lock(), [10_000, 10_000, 10_000], "nobody waits longer than the query may take");
    let mut many = request("http://a/");
    many.headers = vec![("a".into(), "b".into()); 257];
    let response: HttpResponse = scene.query(1, many);
    assert_eq!(response.status_code, 523);
}

#[test]
fn the_cache_keeps_to_its_quota_and_never_revives() {
    let scene = Scene::new();
    type Kept = Result<(), crate::types::StorageQuotaExceeded>;
    let set = |key: &[u8], size: usize| scene.query::<Kept>(6, (key.to_vec(), vec![1u8; size]));
    let get = |key: &[u8]| scene.query::<Option<Vec<u8>>>(8, key.to_vec()).map(|value| value.len());
    assert!(set(b"a", 1000).is_ok() && set(b"b", 2000).is_ok());
    assert!(set(b"c", 2000).is_err() && set(b"a", 1500).is_ok());
    assert_eq!((get(b"a"), get(b"b"), get(b"c")), (Some(1500), Some(2000), None));
    scene.query::<()>(7, (b"a".to_vec(), 10u64));
    *scene.town.now_ms.lock() = 10_000;
    scene.query::<()>(7, (b"a".to_vec(), 1_000_000u64));
    assert_eq!(get(b"a"), None, "its time was over");
    assert!(set(b"c", 1500).is_ok(), "what is over makes room");
    assert_eq!(scene.query::<Option<Vec<u8>>>(9, b"c".to_vec()).map(|value| value.len()), Some(1500));
    assert_eq!(get(b"c"), None);
    // Another contract has its own, until all do not fit together.
    assert!(scene.cache.set(OTHER, b"b", &[2; 3900], 10_000));
    assert_eq!((get(b"b"), scene.cache.get(OTHER, b"b", 10_000).is_some()), (None, true));
    // A command changes nothing here and now.
    let (kept, effects) = scene.command::<Kept>(6, (b"d".to_vec(), b"later".to_vec()));
    assert!(kept.is_ok() && get(b"d").is_none() && effects.len() == 1);
    let Effect::Cache(op) = &effects[0] else { panic!("another effect") };
    scene.cache.apply(CONTRACT, op, 10_000);
    assert_eq!(get(b"d"), Some(5));
    *scene.town.now_ms.lock() = 10_000 + 7 * 24 * 3600 * 1000;
    assert_eq!(get(b"d"), None, "seven days");
}

#[test]
fn logs_go_out_at_once_from_queries_and_with_the_outcome_from_commands() {
    let scene = Scene::new();
    let long = "é".repeat(MAX_LOG * 3 / 4);
    scene.query::<()>(10, (0u8, &long));
    let lines = scene.town.lines.lock().clone();
    assert_eq!((lines[0].0, lines[0].1, lines[0].2.len()), (CONTRACT, 1, MAX_LOG));
    let ((), effects) = scene.command(10, (9u8, "kept"));
    assert!(matches!(&effects[..], [Effect::Log { level: 5, text }] if text == "kept"));
    let mode = Mode::Command { gas_limit: GAS };
    let reverted = scene.run(CONTRACT, mode, 10, &(3u8, "gone").encode(), true).unwrap();
    assert!(reverted.reverted() && reverted.effects.is_empty(), "what reverts leaves nothing");
    assert_eq!(scene.town.lines.lock().len(), 1);
}

#[test]
fn money_leaves_with_the_outcome_and_no_more_than_there_is() {
    let scene = Scene::new();
    type Paid = Result<(), crate::types::WithdrawError>;
    use crate::types::WithdrawError::{TooLittle, TooSmall};
    assert_eq!(scene.both::<(Balance, Balance)>(16, CONTRACT), (PHA, PHA));
    let mode = Mode::Command { gas_limit: GAS };
    assert_eq!(scene.run(CONTRACT, mode, 16, &OTHER.encode(), false).unwrap_err().code(), Code::Trapped);
    assert_eq!(scene.both::<Paid>(104, (OTHER, MIN_WITHDRAWAL - 1)), Err(TooSmall));
    assert_eq!(scene.both::<Paid>(104, (OTHER, PHA + 1)), Err(TooLittle));
    assert_eq!(scene.both::<Paid>(104, (OTHER, PHA - MIN_BALANCE + 1)), Err(TooLittle), "dust");
    assert_eq!(scene.query::<Paid>(104, (OTHER, PHA)), Ok(()));
    let (paid, effects) = scene.command::<Paid>(104, (OTHER, PHA / 4));
    assert_eq!(paid, Ok(()));
    assert!(matches!(&effects[..], [Effect::Withdraw { to: OTHER, amount }] if *amount == PHA / 4));
    let kept = scene.run(CONTRACT, mode, 104, &(OTHER, PHA / 4).encode(), false).unwrap();
    assert_eq!(kept.balances.into_iter().collect::<Vec<_>>(), [(CONTRACT, PHA - PHA / 4)]);
    let reverted = scene.run(CONTRACT, mode, 104, &(OTHER, PHA / 4).encode(), true).unwrap();
    assert!(reverted.balances.is_empty() && reverted.effects.is_empty());
    let ((), effects) = scene.command::<()>(105, vec![7u8; MAX_DISPATCH]);
    assert!(matches!(&effects[..], [Effect::ChainCall { call }] if call.len() == MAX_DISPATCH));
    let long = vec![7u8; MAX_DISPATCH + 1].encode();
    assert_eq!(scene.run(CONTRACT, mode, 105, &long, false).unwrap_err().code(), Code::Trapped);
}

#[test]
fn a_message_takes_its_money_along_and_has_limits() {
    let scene = Scene::new();
    type Sent = Result<(), crate::types::MessageError>;
    use crate::types::MessageError::{InputTooLong, TooLittle, TooSmall};
    assert_eq!(scene.both::<Sent>(106, (OTHER, vec![7u8; MAX_PARCEL + 1], 0u128)), Err(InputTooLong));
    assert_eq!(scene.both::<Sent>(106, (OTHER, vec![7u8], MIN_BALANCE - 1)), Err(TooSmall));
    assert_eq!(scene.both::<Sent>(106, (OTHER, vec![7u8], PHA + 1)), Err(TooLittle));
    assert_eq!(scene.query::<Sent>(106, (OTHER, vec![7u8], PHA)), Ok(()));
    let (sent, effects) = scene.command::<Sent>(106, (OTHER, vec![7u8; MAX_PARCEL], PHA / 4));
    assert_eq!(sent, Ok(()));
    let [Effect::Message { to: OTHER, input, value }] = effects.as_slice() else { panic!("not one message") };
    assert_eq!((input.len(), *value), (MAX_PARCEL, PHA / 4));
    let mode = Mode::Command { gas_limit: GAS };
    let paid = scene.run(CONTRACT, mode, 106, &(OTHER, vec![7u8], PHA / 4).encode(), false).unwrap();
    assert_eq!(paid.balances.into_iter().collect::<Vec<_>>(), [(CONTRACT, PHA - PHA / 4)]);
    let reverted = scene.run(CONTRACT, mode, 106, &(OTHER, vec![7u8], PHA / 4).encode(), true).unwrap();
    assert!(reverted.balances.is_empty() && reverted.effects.is_empty());
}

#[test]
fn a_query_maps_over_inputs_and_a_command_traps() {
    let scene = Scene::new();
    // The door's parts are calls of the door: the selector is the function's number, the last byte of the input says
    // whether to revert.
    let selector = |id: u32| id.to_le_bytes();
    let answers: Vec<MapResult> = scene.query(112, (selector(21), vec![vec![0u8]; 2]));
    assert_eq!(answers, vec![Ok((1u32, 2u32).encode()); 2]);
    let answers: Vec<MapResult> = scene.query(112, (selector(99), vec![vec![0u8]]));
    assert_eq!(answers, [Err(MapError::from(Code::Trapped))]);
    let reverted: Vec<MapResult> = scene.query(112, (selector(21), vec![vec![1u8]]));
    assert_eq!(reverted, [Err(MapError::Reverted((1u32, 2u32).encode()))]);
    // A part is not split again.
    let nested = [([21u8, 0, 0, 0], Vec::<Vec<u8>>::new()).encode(), vec![0]].concat();
    let answers: Vec<MapResult> = scene.query(112, (selector(112), vec![nested]));
    assert_eq!(answers, [Err(MapError::from(Code::Trapped))]);
    let many = vec![Vec::<u8>::new(); 1025];
    let refused = scene.run(CONTRACT, Mode::Query { ticks: 100 }, 112, &(selector(21), many).encode(), false);
    assert_eq!(refused.unwrap_err().code(), Code::MapLimit);
    let command = Mode::Command { gas_limit: GAS };
    let refused = scene.run(CONTRACT, command, 112, &(selector(21), vec![vec![0u8]]).encode(), false).unwrap_err();
    assert_eq!(refused.code(), Code::Trapped);
}

#[test]
fn hooks_are_opened_by_commands_for_plain_paths() {
    let scene = Scene::new();
    let ((), effects) = scene.command(108, ("/github/", [1u8, 2, 3, 4], MAX_HOOK_GAS, 0u32));
    let [Effect::OpenHook(hook)] = &effects[..] else { panic!("another effect") };
    assert!(hook.serves("github") && hook.serves("github/push"));
    assert!(!hook.serves("githubs") && !hook.serves("") && !hook.serves("x/github"));
    assert!(Hook { path: String::new(), ..hook.clone() }.serves("any/path"));
    let long = "x".repeat(MAX_HOOK_PATH + 1);
    for (path, gas, flags) in [("a b", 1, 0), (&*long, 1, 0), ("é", 1, 0), ("a", MAX_HOOK_GAS + 1, 0), ("a", 1, 1)] {
        let input = (path, [0u8; 4], gas, flags as u32).encode();
        let refused = scene.run(CONTRACT, Mode::Command { gas_limit: GAS }, 108, &input, false);
        assert_eq!(refused.unwrap_err().code(), Code::Trapped, "{path}");
    }
}

/// What is worth knowing of a function of the common interface.
fn remark(name: &str) -> &'static str {
    match name {
        "balance" => "of the contract, in the cluster's ledger; all of it may be spent",
        "minimum_balance" => "0.0001 PHA: an account owns nothing or as much",
        "weight_to_fee" => "0: gas has no price yet",
        "terminate" => "what the contract owns goes to the beneficiary",
        "call_runtime" | "xcm_execute" | "xcm_send" => "contracts run beside the chain, not in its runtime",
        "caller_is_root" => "0",
        "lock_delegate_dependency" | "unlock_delegate_dependency" => "nothing to do: code is never removed",
        "debug_message" => "kept in the contract's log",
        "deposit_event" => "kept in the contract's log",
        "call_chain_extension" => "the functions below",
        "set_transient_storage" => "forgotten after the command or query; undone with the call that wrote it",
        "gas_left" => "in a query, without end",
        "delegate_call" => "on the caller's storage, in its name",
        "set_code_hash" => "from the next call on",
        "instantiation_nonce" => "another in each execution",
        "reentrance_count" | "account_reentrance_count" => "without code that was delegated to",
        _ => "",
    }
}

/// Contracts of ink! 5.1 whose bundles are fixtures of tests.
const INK: [(&str, &str); 3] = [
    ("flipper", include_str!("../../../contracts/fixtures/flipper.contract")),
    ("psp22", include_str!("../../../contracts/fixtures/psp22.contract")),
    ("oracle", include_str!("../../../contracts/fixtures/oracle.contract")),
];
/// The functions that random programs call on this engine and on wasmi.
const INTERPRETER: &str = include_str!("../../../benches/interpreter/src/host.rs");

/// Whether a bundle's module imports a function: both names stand there with their lengths.
fn imports(bundle: &str, module: &str, name: &str) -> bool {
    let name = if name == "return" { "seal_return" } else { name };
    let text = |text: &str| {
        format!("{:02x}{}", text.len(), text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
    };
    bundle.contains(&(text(module) + &text(name)))
}

/// What calls a function in tests. Each is called by a contract of its own.
fn callers(module: &str, name: &str) -> String {
    let mut callers = vec!["its own"];
    callers.extend(INK.iter().filter(|(_, bundle)| imports(bundle, module, name)).map(|(contract, _)| *contract));
    let there = if name == "return" { "seal_return" } else { name };
    if INTERPRETER.contains(&format!("\"{module}\" \"{there}\"")) {
        callers.push("random");
    }
    callers.join(", ")
}

/// What a function of the common interface does in queries and commands.
fn common(case: &calls::Case) -> &'static str {
    match (&case.result, case.function) {
        (_, "seal0::call_runtime") => "`CallRuntimeFailed`",
        (_, "seal0::xcm_execute") => "`XcmExecutionFailed`",
        (_, "seal0::xcm_send") => "`XcmSendFailed`",
        (Outcome::Traps, _) => "see below",
        _ => "works",
    }
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::Works => "works".into(),
        Answer::Says(what) => format!("`{what}`"),
        Answer::Traps => "traps".into(),
    }
}

/// `docs/functions.md`, made anew where `PHALA_WRITE_DOCS` is set.
#[test]
fn the_table_in_the_documents_is_this_one() {
    let engine = Engine::new(Capacity::default()).unwrap();
    let mut text = String::from(
        "# Functions that contracts can call\n\nMade from the program by a test of `enclave/pink`.\n\n\
         ## The common interface\n\nThat of `pallet-contracts-uapi` 9, and transient storage, in queries and commands \
         alike. Each is tested by a contract of its own in `enclave/vm/tests/vm/functions/table.rs`, without which the \
         tests fail; by the ink! 5.1 contracts that are named; and, where it says random, by random programs that must \
         do the same on the interpreter wasmi. What they do to each other is in `calls.rs` and `interface.rs` beside.\n\n\
         | function | query | command | called by | remark |\n| --- | --- | --- | --- | --- |\n",
    );
    for (module, name) in engine.functions().filter(|(_, name)| !name.starts_with("seal_")) {
        let function = format!("{module}::{name}");
        let case = CASES.iter().find(|case| case.function == function).expect(&function);
        let (does, callers) = (common(case), callers(module, name));
        text.push_str(&format!("| `{function}` | {does} | {does} | {callers} | {} |\n", remark(name)));
    }
    text.push_str(
        "\nEach function of `seal0` is there as `seal_x` too, its name in older compilers.\n\n\
         ## What Phala adds\n\nBy `call_chain_extension`, for contracts in the crate `pink`. Tests: \
         `enclave/pink/src/tests.rs` calls each in both modes; the contracts `oracle` and `webhook` and the \
         one in `tests/tests/e2e/later.rs` call them on a whole network.\n\n\
         | number | function | query | command | remark |\n| --- | --- | --- | --- | --- |\n",
    );
    for Function { id, name, query, command, note } in FUNCTIONS {
        text.push_str(&format!("| {id} | `{name}` | {} | {} | {note} |\n", answer(*query), answer(*command)));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/functions.md");
    if std::env::var_os("PHALA_WRITE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "PHALA_WRITE_DOCS=1 cargo test -p phala-pink");
}
