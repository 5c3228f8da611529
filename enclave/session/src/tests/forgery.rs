//! What the host, the network and hostile clients may try.

use super::*;
use crate::BalanceQuery;
use codec::{Decode, Encode};
use phala_primitives::limits::{MAX_COMMAND, MAX_MESSAGE, PART};
use proptest::prelude::*;

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    let mut world = World::new();
    let sealed = world.query();
    for bit in 0..sealed.envelope.len() * 8 {
        let mut bad = sealed.envelope.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(world.refusal(&bad).is_some(), "bit {bit}");
    }
    for length in 0..sealed.envelope.len() {
        assert_eq!(world.refusal(&sealed.envelope[..length]), Some(Code::Malformed));
    }
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let response = opened.reply.seal(&Err(Code::Reverted.into()), &mut world.rng);
    assert_eq!(code(sealed.pending.open(&response)), Some(Code::Reverted));
    for bit in 0..response.len() * 8 {
        let mut bad = response.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(code(sealed.pending.open(&bad)), Some(Code::Reverted), "bit {bit}");
    }
}

#[test]
fn each_failure_has_its_code() {
    let mut world = World::new();
    let sealed = world.query();
    let envelope = || Envelope::decode(&mut sealed.envelope.as_slice()).unwrap();
    let with = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = envelope();
        change(&mut envelope);
        world.refusal(&envelope.encode())
    };
    assert_eq!(world.refusal(&vec![1; MAX_MESSAGE + 1]), Some(Code::TooLarge));
    assert_eq!(with(&|e| e.version = 2), Some(Code::Malformed));
    assert_eq!(with(&|e| e.header.genesis = Hash::ZERO), Some(Code::WrongNetwork));
    assert_eq!(with(&|e| e.header.target = Target::Worker(CONTRACT)), Some(Code::WrongAddress));
    assert_eq!(with(&|e| e.header.max_height = HEIGHT - 1), Some(Code::Expired));
    assert_eq!(with(&|e| e.header.max_height = HEIGHT + 1201), Some(Code::DeadlineTooFar));
    assert_eq!(with(&|e| e.header.key_id = [0; 8]), Some(Code::UnknownKey));
    assert_eq!(with(&|e| e.header.max_height += 1), Some(Code::NotAuthentic));
    assert_eq!(with(&|e| e.header.request_id = [0; 16]), Some(Code::NotAuthentic));
    assert_eq!(with(&|e| e.header.target = Target::Contract(WORKER)), Some(Code::NotAuthentic));
    assert_eq!(with(&|e| e.enc = [0; 32]), Some(Code::NotAuthentic), "a point of low order");
    assert_eq!(with(&|e| e.ciphertext.clear()), Some(Code::NotAuthentic));
}

/// Seals any request under any header, as a hostile client would.
fn seal(world: &mut World, target: Target, request: impl FnOnce(&Header) -> Vec<u8>) -> Vec<u8> {
    let key = world.acceptor.session_key().body;
    let request_id = random_id(&mut world.rng);
    let header = Header { genesis: GENESIS, target, key_id: key.id(), request_id, max_height: HEIGHT };
    let text = request(&header);
    let (enc, mut context) = crypto::sender(&crypto::public(&key.key).unwrap(), &mut world.rng).unwrap();
    let ciphertext = context.seal(&text, &header.aad()).unwrap();
    Envelope { version: VERSION, header, enc, ciphertext }.encode()
}

fn padded(request: &Request) -> Vec<u8> {
    let mut out = vec![];
    padding::pad(request, &mut out).unwrap();
    out
}

#[test]
fn a_client_that_seals_well_still_needs_the_right() {
    let mut world = World::new();
    let certificate = world.credentials.certificate().clone();
    let here = Target::Contract(CONTRACT);
    let operation = Operation::Query(query());

    let envelope = seal(&mut world, here, |_| vec![0; 256]);
    assert_eq!(world.refusal(&envelope), Some(Code::Malformed), "padding only");
    let envelope = seal(&mut world, here, |_| vec![0; 100]);
    assert_eq!(world.refusal(&envelope), Some(Code::Malformed), "no bucket");

    // A certificate that was stolen, with a signature that belongs to another header.
    let key = SigningKey::from_bytes(&[1; 32]);
    let (stolen, signed) = (certificate.clone(), operation.clone());
    let envelope = seal(&mut world, here, move |header| {
        let signature = ed25519_dalek::Signer::sign(&key, &signed.message(&header.aad())).to_bytes();
        padded(&Request::Signed { certificate: stolen, operation: signed, signature })
    });
    assert_eq!(world.refusal(&envelope), Some(Code::BadSignature));

    // A certificate for the thief's own key, with the victim's signature under another text.
    let mut altered = certificate;
    altered.body.nonce = [0; 16];
    let envelope = seal(&mut world, here, move |_| {
        padded(&Request::Signed { certificate: altered, operation, signature: [0; 64] })
    });
    assert_eq!(world.refusal(&envelope), Some(Code::BadSignature));

    // The envelope names another contract than the request.
    let command = world.credentials.sign(call());
    for target in [Target::Worker(WORKER), Target::Contract(WORKER)] {
        let request = padded(&Request::Command(command.clone()));
        let envelope = seal(&mut world, target, move |_| request);
        assert_eq!(world.refusal(&envelope), Some(Code::WrongAddress));
    }
}

#[test]
fn certificates_are_held_to_network_time_and_scope() {
    let mut world = World::new();
    let all = || Scope::All;
    let only = || Scope::Contracts(vec![WORKER]);
    let many = || Scope::Contracts(vec![CONTRACT; MAX_SCOPE + 1]);
    for (genesis, scope, from, until, expected) in [
        (Hash::ZERO, all(), NOW, NOW + HOUR, Code::WrongNetwork),
        (GENESIS, all(), NOW + 1, NOW + HOUR, Code::CertificateTime),
        (GENESIS, all(), NOW - HOUR, NOW, Code::CertificateTime),
        (GENESIS, all(), NOW, NOW + 31 * 24 * HOUR, Code::CertificateTime),
        (GENESIS, many(), NOW, NOW + HOUR, Code::Malformed),
        (GENESIS, only(), NOW, NOW + HOUR, Code::OutOfScope),
    ] {
        let credentials = credentials(genesis, scope, from, until, &mut world.rng);
        let sealed = world.client_of(credentials.clone()).query(query(), HEIGHT, &mut world.rng).unwrap();
        assert_eq!(world.refusal(&sealed.envelope), Some(expected));
        let command = credentials.sign(call());
        let sealed = world.client_of(credentials).command(command, HEIGHT, &mut world.rng).unwrap();
        assert_eq!(world.refusal(&sealed.envelope), Some(expected));
    }
}

#[test]
fn what_an_account_owns_is_not_for_those_who_may_act_on_a_contract_only() {
    let mut world = World::new();
    for (scope, expected) in [(Scope::Contracts(vec![CONTRACT]), Some(Code::OutOfScope)), (Scope::All, None)] {
        let credentials = credentials(GENESIS, scope, NOW, NOW + HOUR, &mut world.rng);
        let paying = Query { value: 1, ..query() };
        let sealed = world.client_of(credentials.clone()).query(paying, HEIGHT, &mut world.rng).unwrap();
        assert_eq!(world.refusal(&sealed.envelope), expected);
        let sealed = world
            .client_of(credentials)
            .balance(BalanceQuery { account: CONTRACT, min_height: 0 }, HEIGHT, &mut world.rng)
            .unwrap();
        assert_eq!(world.refusal(&sealed.envelope), expected);
    }
}

#[test]
fn commands_are_held_to_network_cluster_deadline_and_size() {
    let mut world = World::new();
    let narrow = credentials(GENESIS, Scope::Contracts(vec![CONTRACT]), NOW, NOW + HOUR, &mut world.rng);
    let upload = |size| Action::Upload { code: vec![0; size], proof: fact() };
    let large = |size| Action::Call { contract: CONTRACT, data: vec![0; size] };
    let cache = CertificateCache::new(1);
    for (command, credentials, expected) in [
        (Command { genesis: Hash::ZERO, ..call() }, &world.credentials, Some(Code::WrongNetwork)),
        (Command { cluster: 8, ..call() }, &world.credentials, Some(Code::WrongAddress)),
        (Command { deadline_ms: NOW, ..call() }, &world.credentials, Some(Code::Expired)),
        (Command { deadline_ms: NOW + 600_001, ..call() }, &world.credentials, Some(Code::DeadlineTooFar)),
        (Command { action: upload(PART + 1), ..call() }, &world.credentials, Some(Code::CodeTooLarge)),
        (Command { action: large(MAX_COMMAND), ..call() }, &world.credentials, Some(Code::CommandTooLarge)),
        (Command { action: large(MAX_COMMAND - 1024), ..call() }, &world.credentials, None),
        (Command { action: upload(1), ..call() }, &narrow, Some(Code::OutOfScope)),
        (Command { action: upload(1), value: 1, ..call() }, &world.credentials, Some(Code::Malformed)),
        (Command { value: 1, ..call() }, &narrow, Some(Code::OutOfScope)),
        (Command { value: 1, ..call() }, &world.credentials, None),
        (call(), &narrow, None),
        (call(), &world.credentials, None),
    ] {
        assert_eq!(code(credentials.sign(command).verify(&cache, &GENESIS, CLUSTER, NOW)), expected);
    }
    let good = world.credentials.sign(call()).encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = SignedCommand::decode(&mut bad.as_slice());
        assert!(bad.is_err() || code(bad.unwrap().verify(&cache, &GENESIS, CLUSTER, NOW)).is_some(), "bit {bit}");
    }
}

#[test]
fn an_unsealed_refusal_cannot_pretend_to_be_the_contracts_answer() {
    let mut world = World::new();
    let sealed = world.query();
    let refused = |code: Code| Response::Refused(code.into()).encode();
    assert_eq!(code(sealed.pending.open(&refused(Code::UnknownKey))), Some(Code::UnknownKey));
    for forged in [Code::Reverted, Code::NoContract, Code::NoQuorum, Code::BadSignature] {
        assert_eq!(code(sealed.pending.open(&refused(forged))), Some(Code::NotAuthentic));
    }
    let response = world.acceptor.open(&[], NOW, HEIGHT).err().unwrap().into_response(&mut world.rng);
    assert_eq!(code(sealed.pending.open(&response)), Some(Code::Malformed));
}

#[test]
fn a_refusal_after_decryption_is_sealed() {
    let mut world = World::new();
    let credentials = credentials(GENESIS, Scope::Contracts(vec![]), NOW, NOW + HOUR, &mut world.rng);
    let sealed = world.client_of(credentials).query(query(), HEIGHT, &mut world.rng).unwrap();
    let refusal = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).err().unwrap();
    let response = refusal.into_response(&mut world.rng);
    assert!(matches!(Response::decode(&mut response.as_slice()), Ok(Response::Sealed(_))));
    assert_eq!(code(sealed.pending.open(&response)), Some(Code::OutOfScope));
}

#[test]
fn a_full_window_is_busy() {
    let mut world = World::new();
    for _ in 0..place().replay_window {
        let envelope = world.query().envelope;
        assert_eq!(world.refusal(&envelope), None);
    }
    let envelope = world.query().envelope;
    assert_eq!(world.refusal(&envelope), Some(Code::Busy));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_a_receiver_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), head in any::<bool>()) {
        let mut world = World::new();
        let sealed = world.query();
        let mut envelope = if head { sealed.envelope[..120].to_vec() } else { vec![] };
        envelope.extend(&bytes);
        prop_assert!(world.refusal(&envelope).is_some());
        prop_assert!(sealed.pending.open(&bytes).is_err());
        prop_assert!(padding::unpad::<Request>(&bytes).is_err());
    }
}
