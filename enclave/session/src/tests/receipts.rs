//! What receipts prove, and what they do not.

use super::*;
use codec::{Decode, Encode};
use ed25519_dalek::Signer;
use phala_primitives::{
    EntryHeader, Executed, PublicKey,
    bridge::Crossing,
    merkle,
    misbehaviour::QueryClaim,
    quorum,
    records::{Seal, cluster_namespace},
};

fn members() -> (Vec<SigningKey>, Vec<PublicKey>) {
    let mut keys: Vec<_> = (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    let public = keys.iter().map(|key| key.verifying_key().to_bytes()).collect();
    (keys, public)
}

fn outcome() -> Outcome {
    Outcome { result: Ok(Output { flags: 0, data: vec![1] }), gas_used: 77 }
}

fn receipt(command: &Hash) -> CommandReceipt {
    let commands = [blake2_256(b"another"), *command, blake2_256(b"a third")];
    let header = EntryHeader {
        cluster: CLUSTER,
        epoch: 3,
        height: 40,
        view: 41,
        parent: Hash([1; 32]),
        seal: Seal::Open,
        time_ms: NOW,
        executed: Executed { height: 38, state_root: Hash([2; 32]), crossing: Crossing::default() },
        commands_root: merkle::root(&commands),
        count: 3,
        body_hash: Hash([3; 32]),
    };
    let mut certificate = Certificate { epoch: 3, view: 41, parent_view: 40, digest: header.digest(), votes: vec![] };
    let message = certificate.message(&cluster_namespace(&GENESIS, CLUSTER));
    let (keys, _) = members();
    let votes = keys.iter().enumerate().take(quorum(4));
    certificate.votes = votes.map(|(index, key)| (index as u16, key.sign(&message).to_bytes())).collect();
    CommandReceipt {
        header,
        descendants: vec![],
        certificate,
        index: 1,
        path: merkle::Tree::new(&commands).prove(1).unwrap(),
        state_root: Hash([4; 32]),
        outcome_hash: outcome().hash(),
        identity: [0; 32],
        signature: [0; 64],
    }
    .sign(&GENESIS, command, &keys[3])
}

#[test]
fn a_command_receipt_proves_finality_inclusion_and_outcome() {
    let world = World::new();
    let command = world.credentials.sign(call()).hash();
    let (keys, public) = members();
    let good = receipt(&command);
    let verify =
        |receipt: &CommandReceipt| receipt.verify(&GENESIS, CLUSTER, &public, &public[3], &command, &outcome());
    assert_eq!(verify(&good), Ok(()));

    let resigned = |change: &dyn Fn(&mut CommandReceipt)| {
        let mut bad = good.clone();
        change(&mut bad);
        verify(&bad.sign(&GENESIS, &command, &keys[3]))
    };
    assert_eq!(resigned(&|r| r.index = 0), Err(ReceiptError::NotIncluded));
    assert_eq!(resigned(&|r| r.header.height += 1), Err(ReceiptError::Mismatch), "another entry than was decided");
    assert!(matches!(resigned(&|r| r.certificate.votes.truncate(2)), Err(ReceiptError::Finality(_))));
    let stranger = good.clone().sign(&GENESIS, &command, &SigningKey::from_bytes(&[9; 32]));
    assert_eq!(verify(&stranger), Err(ReceiptError::NotMember));
    assert!(good.verify(&GENESIS, CLUSTER + 1, &public, &public[3], &command, &outcome()).is_err());
    assert!(good.verify(&Hash::ZERO, CLUSTER, &public, &public[3], &command, &outcome()).is_err());
    let other = Outcome { gas_used: 78, ..outcome() };
    assert_eq!(good.verify(&GENESIS, CLUSTER, &public, &public[3], &command, &other), Err(ReceiptError::Mismatch));

    let bytes = good.encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = CommandReceipt::decode(&mut bad.as_slice());
        assert!(bad.is_err() || verify(&bad.unwrap()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_query_receipt_proves_who_said_what_about_which_state() {
    let world = World::new();
    let identity = world.identity.verifying_key().to_bytes();
    let (output, id) = (Output { flags: 0, data: vec![5; 9] }, [6; 16]);
    let claim = QueryClaim {
        contract: CONTRACT,
        request_id: id,
        query_hash: query().hash(),
        cluster: CLUSTER,
        epoch: 1,
        height: 5,
        entry: Hash([1; 32]),
        entry_time_ms: NOW,
        state_root: Hash([2; 32]),
        time_ms: NOW,
        reply_hash: output.hash(),
    };
    let good = QueryReceipt::sign(claim, &GENESIS, &world.identity);
    let verify = |receipt: &QueryReceipt| receipt.verify(&identity, &GENESIS, &id, &query(), &output);
    assert_eq!(verify(&good), Ok(()));
    let stale = QueryReceipt::sign(QueryClaim { height: 4, ..good.claim.clone() }, &GENESIS, &world.identity);
    assert_eq!(verify(&stale), Err(ReceiptError::Stale { have: 4, need: 5 }));
    let other = Output { flags: 1, ..output.clone() };
    assert_eq!(good.verify(&identity, &GENESIS, &id, &query(), &other), Err(ReceiptError::Mismatch));
    assert_eq!(good.verify(&[1; 32], &GENESIS, &id, &query(), &output), Err(ReceiptError::Signature));
    let bytes = good.encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&QueryReceipt::decode(&mut bad.as_slice()).unwrap()).is_err(), "bit {bit}");
    }
}
