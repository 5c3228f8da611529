//! What contracts may use comes from the chain through the log, and counts at the same place everywhere.

use super::cluster::*;
use crate::{ABANDONED_MS, MAX_UPLOADS};
use phala_primitives::{AccountId, ClusterPolicy, Code, Fact, blake2_256, limits::PART, storage};
use phala_session::{Action, Answer, Outcome, PartQuery};
use phala_vm::Caller;

/// A contract that takes so many pages of memory at the start.
fn pages(pages: u32) -> Vec<u8> {
    let text =
        format!(r#"(module (import "env" "memory" (memory {pages})) (func (export "deploy")) (func (export "call")))"#);
    wat::parse_str(text).unwrap()
}

/// A contract with so much data.
fn large(bytes: usize, salt: u8) -> Vec<u8> {
    let data = format!("\\{salt:02x}").repeat(bytes);
    let text = format!(
        r#"(module (import "env" "memory" (memory 200)) (func (export "deploy")) (func (export "call"))
            (data (i32.const 0) "{data}"))"#
    );
    wat::parse_str(text).unwrap()
}

fn fact(cluster: &Cluster, policy: &ClusterPolicy) -> Fact {
    let key = storage::policy(CLUSTER);
    cluster.chain.set(key.clone(), policy);
    cluster.chain.fact(&key, 3)
}

fn follow(cluster: &mut Cluster, user: &User, id: u8, proof: Fact) -> Outcome {
    let deadline = cluster.deadline();
    cluster.send(user.command(id, Action::Policy { proof }, 0, deadline))
}

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().and_then(|error| error.known())
}

#[test]
fn a_policy_counts_from_its_place_in_the_log_and_never_goes_back() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    // 125 MiB, of which 64 are allowed.
    let contract = {
        let big = pages(2000);
        let upload = Action::Upload { code: big.clone(), proof: cluster.chain.code(&big) };
        let deadline = cluster.deadline();
        assert!(cluster.send(user.command(1, upload, GAS, deadline)).result.is_ok());
        let (contract, code_hash, proof) = cluster.place(&user, &big, b"a");
        let create = Action::Instantiate { contract, code_hash, salt: b"a".to_vec(), data: vec![], proof };
        let refused = cluster.send(user.command(2, create.clone(), GAS, deadline));
        assert_eq!(code(&refused), Some(Code::MemoryLimit));
        let wider = ClusterPolicy { version: 2, memory_bytes: 256 << 20, ..ClusterPolicy::DEFAULT };
        let proof = fact(&cluster, &wider);
        assert!(follow(&mut cluster, &user, 3, proof).result.is_ok());
        assert!(cluster.replicas.iter().all(|replica| replica.policy().unwrap() == wider));
        let created = cluster.send(user.command(4, create, GAS, deadline));
        assert!(created.result.is_ok(), "{created:?}");
        contract
    };
    assert!(cluster.query(&user, contract, b"").is_ok());
    // What the chain said before, or another chain says, changes nothing.
    let older = ClusterPolicy { version: 1, ..ClusterPolicy::DEFAULT };
    let proof = fact(&cluster, &older);
    assert!(follow(&mut cluster, &user, 5, proof).result.is_ok());
    assert!(cluster.query(&user, contract, b"").is_ok());
    let newest = ClusterPolicy { version: 3, ..ClusterPolicy::DEFAULT };
    cluster.chain.set(storage::policy(CLUSTER), &newest);
    let forged = cluster.chain.fact(&storage::policy(CLUSTER), 2);
    assert_eq!(code(&follow(&mut cluster, &user, 6, forged)), Some(Code::BadProof));
    let wrong = fact(&cluster, &ClusterPolicy { version: 9, memory_bytes: 1 << 40, ..ClusterPolicy::DEFAULT });
    assert_eq!(code(&follow(&mut cluster, &user, 7, wrong)), Some(Code::BadPolicy));
    let proof = fact(&cluster, &newest);
    assert!(follow(&mut cluster, &user, 8, proof).result.is_ok());
    let refused = cluster.query(&user, contract, b"").unwrap_err();
    assert_eq!(refused.known(), Some(Code::MemoryLimit));
}

#[test]
fn a_large_code_comes_in_parts() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let whole = large(2 * PART + 1000, 7);
    let (hash, proof) = (blake2_256(&whole), cluster.chain.code(&whole));
    let mut next = 0;
    let mut send = |cluster: &mut Cluster, part: u32, bytes: &[u8], proof: &Fact| {
        next += 1;
        let (bytes, proof, deadline) = (bytes.to_vec(), proof.clone(), cluster.deadline());
        let action = Action::UploadPart { code_hash: hash, part, bytes, proof };
        cluster.send(user.command(next, action, GAS, deadline))
    };
    let parts: Vec<&[u8]> = whole.chunks(PART).collect();
    assert_eq!(parts.len(), 3);
    for (part, bytes) in [(1, parts[1]), (0, parts[2]), (3, parts[2]), (0, &parts[0][1..])] {
        assert_eq!(code(&send(&mut cluster, part, bytes, &proof)), Some(Code::WrongPart), "{part}");
    }
    for part in [0, 0, 1, 0] {
        let outcome = send(&mut cluster, part, parts[part as usize], &proof);
        assert!(outcome.result.is_ok() && outcome.gas_used > 0, "{outcome:?}");
    }
    // The last part with wrong bytes: all of it is gone.
    let mut wrong = parts[2].to_vec();
    wrong[0] ^= 1;
    assert_eq!(code(&send(&mut cluster, 2, &wrong, &proof)), Some(Code::WrongPart));
    assert_eq!(code(&send(&mut cluster, 1, parts[1], &proof)), Some(Code::WrongPart));
    for (part, bytes) in (0..).zip(&parts) {
        assert!(send(&mut cluster, part, bytes, &proof).result.is_ok());
    }
    let (contract, code_hash, proof) = cluster.place(&user, &whole, b"a");
    let create = Action::Instantiate { contract, code_hash, salt: b"a".to_vec(), data: vec![], proof };
    let deadline = cluster.deadline();
    let created = cluster.send(user.command(100, create, GAS, deadline));
    assert!(created.result.is_ok(), "{created:?}");
}

#[test]
fn uploads_that_are_given_up_make_room() {
    let user = User::new(1);
    let mut cluster = Cluster::new();
    let begin = |cluster: &mut Cluster, salt: u8| {
        let whole = large(PART + 1, salt);
        let (code_hash, proof) = (blake2_256(&whole), cluster.chain.code(&whole));
        let action = Action::UploadPart { code_hash, part: 0, bytes: whole[..PART].to_vec(), proof };
        let deadline = cluster.deadline();
        code(&cluster.send(user.command(salt, action, GAS, deadline)))
    };
    for salt in 0..MAX_UPLOADS as u8 {
        assert_eq!(begin(&mut cluster, salt), None);
    }
    let full = cluster.replicas[0].applied().root;
    assert_eq!(begin(&mut cluster, 100), Some(Code::UploadLimit));
    cluster.now += ABANDONED_MS + 1;
    for _ in 0..MAX_UPLOADS {
        cluster.step(0);
    }
    assert_ne!(cluster.replicas[0].applied().root, full);
    assert_eq!(begin(&mut cluster, 101), None);
}

#[test]
fn members_answer_parts_about_the_state_that_they_hold() {
    let user = User::new(1);
    let (mut cluster, contract) = with_flipper(&user);
    let applied = cluster.replicas[0].applied();
    let (account, origin) = (contract, user.id());
    let query = |root| PartQuery {
        root,
        height: applied.height,
        time_ms: 5,
        account,
        contract,
        origin,
        data: GET.to_vec(),
        patience_ms: 1000,
    };
    let member = AccountId(cluster.members()[0]);
    let replica = cluster.replicas[1].clone();
    let ask = |who: &AccountId, root, now| replica.part(who, query(root), now, &Caller::default());
    let now = cluster.now;
    let stranger = ask(&user.id(), applied.root, now).unwrap_err();
    assert_eq!(stranger.known(), Some(Code::NotMember));
    let says = |answer: Result<Answer, _>| match answer {
        Ok(Answer::Part(output)) => output.data[1],
        other => panic!("{other:?}"),
    };
    assert_eq!(says(ask(&member, applied.root, now)), 0);
    cluster.call(&user, 50, contract, &FLIP);
    // It was asked for, so it is kept for a while.
    assert_eq!(says(ask(&member, applied.root, now + 9_000)), 0);
    assert_eq!(says(ask(&member, replica.applied().root, now + 9_000)), 1);
    let gone = ask(&member, applied.root, now + 20_000).unwrap_err();
    assert_eq!(gone.known(), Some(Code::WrongState));
}
