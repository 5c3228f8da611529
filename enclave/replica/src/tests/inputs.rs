//! Inputs of calls that come in parts, and replies that are large.

use super::cluster::*;
use crate::{ABANDONED_MS, MAX_INPUTS_OF_ACCOUNT};
use phala_primitives::{AccountId, ClusterPolicy, Code, limits::PART, storage};
use phala_session::{Action, InputId, Outcome};

const ID: InputId = [5; 16];

/// Returns what it is asked with; it has memory for 4 MiB of that.
fn echo() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "env" "memory" (memory 66))
            (import "seal0" "input" (func $input (param i32 i32)))
            (import "seal0" "seal_return" (func $return (param i32 i32 i32)))
            (func (export "deploy"))
            (func (export "call")
                (i32.store (i32.const 0) (i32.const 4194304))
                (call $input (i32.const 16) (i32.const 0))
                (call $return (i32.const 0) (i32.const 16) (i32.load (i32.const 0)))))"#,
    )
    .unwrap()
}

struct Scene {
    cluster: Cluster,
    echo: AccountId,
    next: u8,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        let echo = cluster.deploy(&User::new(1), 1, &echo(), &[]);
        Self { cluster, echo, next: 2 }
    }

    fn send(&mut self, user: &User, action: Action, gas: u64) -> Outcome {
        self.next += 1;
        let deadline = self.cluster.deadline();
        self.cluster.send(user.command(self.next, action, gas, deadline))
    }

    fn part(&mut self, user: &User, input: InputId, size: usize, part: u32, bytes: &[u8]) -> Option<Code> {
        let action = Action::InputPart { input, size: size as u32, part, bytes: bytes.to_vec() };
        code(&self.send(user, action, GAS))
    }

    fn call(&mut self, user: &User, size: usize, last: &[u8], gas: u64) -> Outcome {
        let (contract, last) = (self.echo, last.to_vec());
        self.send(user, Action::CallInParts { contract, input: ID, size: size as u32, last }, gas)
    }

    fn obey(&mut self, policy: &ClusterPolicy) {
        let key = storage::policy(CLUSTER);
        self.cluster.chain.set(key.clone(), policy);
        let proof = self.cluster.chain.fact(&key, 3);
        assert!(self.send(&User::new(1), Action::Policy { proof }, 0).result.is_ok());
    }
}

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().and_then(|error| error.known())
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index >> 9) as u8).collect()
}

#[test]
fn a_large_input_comes_in_parts_and_is_its_senders() {
    let (mut scene, alice, bob) = (Scene::new(), User::new(1), User::new(2));
    let whole = bytes(3 * PART + 77);
    let (size, parts) = (whole.len(), whole.chunks(PART).collect::<Vec<_>>());
    for (part, bytes) in [(1, parts[1]), (0, parts[3]), (0, &parts[0][1..]), (4, parts[3])] {
        assert_eq!(scene.part(&alice, ID, size, part, bytes), Some(Code::WrongPart), "{part}");
    }
    for part in [0, 0, 1, 0, 2] {
        assert_eq!(scene.part(&alice, ID, size, part, parts[part as usize]), None);
    }
    assert_eq!(code(&scene.call(&bob, size, parts[3], GAS)), Some(Code::WrongPart), "it is not his");
    assert_eq!(code(&scene.call(&alice, size, &parts[3][1..], GAS)), Some(Code::WrongPart));
    assert_eq!(code(&scene.call(&alice, PART + 1, &[1], GAS)), Some(Code::WrongPart), "of a shorter one");
    let called = scene.call(&alice, size, parts[3], GAS);
    assert!(called.gas_used > (size as u64 - PART as u64) * 40, "the reply has its price: {}", called.gas_used);
    assert_eq!(called.result.unwrap().data, whole);
    assert_eq!(code(&scene.call(&alice, size, parts[3], GAS)), Some(Code::WrongPart), "the parts are gone");
    // All of that holds a copy nowhere: what is left in the state is what was there before.
    for part in 0..3 {
        assert_eq!(scene.part(&alice, ID, size, part, parts[part as usize]), None);
    }
    let poor = scene.call(&alice, size, parts[3], 20_000_000);
    assert_eq!((code(&poor), poor.gas_used), (Some(Code::OutOfGas), 20_000_000));
    assert_eq!(code(&scene.call(&alice, size, parts[3], GAS)), Some(Code::WrongPart), "whatever came of it");
}

#[test]
fn inputs_are_bounded_and_given_up_ones_make_room() {
    let (mut scene, alice, bob) = (Scene::new(), User::new(1), User::new(2));
    let part = bytes(PART);
    for index in 0..MAX_INPUTS_OF_ACCOUNT {
        assert_eq!(scene.part(&alice, [index as u8; 16], PART + 1, 0, &part), None);
    }
    assert_eq!(scene.part(&alice, [99; 16], PART + 1, 0, &part), Some(Code::UploadLimit));
    assert_eq!(scene.part(&bob, [99; 16], PART + 1, 0, &part), None, "others have their own");
    scene.cluster.now += ABANDONED_MS + 1;
    // Each entry takes one of them away.
    for index in 0..=MAX_INPUTS_OF_ACCOUNT as u8 {
        let _ = scene.part(&bob, [100 + index; 16], PART + 1, 1, &part);
    }
    assert_eq!(scene.part(&alice, [99; 16], PART + 1, 0, &part), None);
    assert_eq!(scene.part(&alice, ID, (16 << 20) + 1, 0, &part), Some(Code::TooLarge));
}

#[test]
fn large_replies_are_kept_up_to_a_limit() {
    const LARGE: usize = 128 << 10;
    let (mut scene, alice) = (Scene::new(), User::new(1));
    scene.obey(&ClusterPolicy { version: 2, message_bytes: LARGE as u64, ..ClusterPolicy::DEFAULT });
    let contract = scene.echo;
    let ask = |scene: &mut Scene, length| scene.send(&alice, Action::Call { contract, data: bytes(length) }, GAS);
    for _ in 0..16 {
        assert_eq!(ask(&mut scene, LARGE).result.unwrap().data.len(), LARGE);
    }
    assert_eq!(code(&ask(&mut scene, LARGE)), Some(Code::ReplyTooLarge));
    assert_eq!(code(&ask(&mut scene, 64 << 10)), None, "small ones are always kept");
    scene.cluster.now += ABANDONED_MS + 1;
    for _ in 0..12 {
        assert_eq!(code(&ask(&mut scene, 1)), None);
    }
    assert_eq!(code(&ask(&mut scene, LARGE)), None, "what is forgotten makes room");
}
