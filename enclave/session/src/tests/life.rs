//! What honest clients do, and how keys, certificates, requests and sessions end.

use super::*;
use codec::{Decode, Encode};
use phala_primitives::misbehaviour::QueryClaim;

fn answer(data: usize) -> Result<Answer, Coded> {
    let output = Output { flags: 0, data: vec![8; data] };
    let claim = QueryClaim {
        contract: CONTRACT,
        request_id: [0; 16],
        query_hash: query().hash(),
        cluster: CLUSTER,
        epoch: 1,
        height: 9,
        entry: Hash([1; 32]),
        entry_time_ms: NOW,
        state_root: Hash([2; 32]),
        time_ms: NOW,
        reply_hash: output.hash(),
    };
    Ok(Answer::Query { output, receipt: QueryReceipt { claim, signature: [0; 64] } })
}

#[test]
fn a_query_is_opened_once_and_its_answer_reaches_the_asker_only() {
    let mut world = World::new();
    let (mine, other) = (world.query(), world.query());
    let opened = world.acceptor.open(&mine.envelope, NOW, HEIGHT).ok().unwrap();
    assert_eq!(opened.account, world.credentials.certificate().body.account);
    assert_eq!(opened.request_id, *mine.pending.request_id());
    assert!(matches!(opened.incoming, Incoming::Call(Call::Query(asked)) if asked == query()));
    let response = opened.reply.seal(&answer(10), &mut world.rng);
    assert_eq!(mine.pending.open(&response), answer(10));
    assert_eq!(code(other.pending.open(&response)), Some(Code::NotAuthentic));
    assert_eq!(world.refusal(&mine.envelope), Some(Code::Replayed));
}

#[test]
fn wallets_may_wrap_the_text_and_commands_of_all_kinds_are_accepted() {
    let mut world = World::new();
    let pair = account();
    let credentials = Arc::new(Credentials::issue(
        GENESIS,
        AccountId(pair.public.to_bytes()),
        Scope::All,
        NOW,
        NOW + HOUR,
        &mut world.rng,
        |text| {
            let wrapped = phala_primitives::wrap_bytes(text.as_bytes());
            AccountSignature::Sr25519(pair.sign_simple(phala_primitives::SIGNING_CONTEXT, &wrapped).to_bytes())
        },
    ));
    let client = world.client_of(credentials.clone());
    let upload = Action::Upload { code: vec![0; 500_000], proof: fact() };
    let instantiate =
        Action::Instantiate { contract: CONTRACT, code_hash: Hash::ZERO, salt: vec![1], data: vec![2], proof: fact() };
    for action in [call().action, upload, instantiate] {
        let command = credentials.sign(Command { action, ..call() });
        let sealed = client.command(command.clone(), HEIGHT, &mut world.rng).unwrap();
        let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
        assert_eq!(opened.account, AccountId(pair.public.to_bytes()));
        assert!(matches!(opened.incoming, Incoming::Call(Call::Command(found)) if found == command));
    }
    let sealed = client.outcome([5; 16], HEIGHT, &mut world.rng).unwrap();
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    assert!(matches!(opened.incoming, Incoming::Call(Call::Outcome(id)) if id == [5; 16]));
}

#[test]
fn what_was_sealed_to_a_wiped_key_is_lost_for_ever() {
    let mut world = World::new();
    let first = world.acceptor.session_key();
    let recorded = [world.query(), world.query()];
    assert!(!world.acceptor.tick(NOW + ROTATE_MS - 1, &mut world.rng));
    assert!(world.acceptor.tick(NOW + ROTATE_MS, &mut world.rng));
    let second = world.acceptor.session_key();
    assert_ne!(first.body.key, second.body.key);

    let later = NOW + ROTATE_MS + GRACE_MS;
    assert!(world.acceptor.open(&recorded[0].envelope, later - 1, HEIGHT).is_ok(), "in its grace");
    let refused = world.acceptor.open(&recorded[1].envelope, later, HEIGHT).err().unwrap();
    assert_eq!(refused.error.known(), Some(Code::UnknownKey), "ended, even if nobody called tick");
    world.acceptor.tick(later, &mut world.rng);
    let refused = world.acceptor.open(&recorded[1].envelope, NOW, HEIGHT).err().unwrap();
    assert_eq!(refused.error.known(), Some(Code::UnknownKey), "wiped, even if the clock goes back");
}

#[test]
fn a_published_key_is_believed_from_the_right_worker_only() {
    let world = World::new();
    let identity = world.identity.verifying_key().to_bytes();
    let key = world.acceptor.session_key();
    assert!(key.verify(&identity, &GENESIS, &WORKER, NOW).is_ok());
    assert_eq!(code(key.verify(&[5; 32], &GENESIS, &WORKER, NOW)), Some(Code::BadSignature));
    assert_eq!(code(key.verify(&identity, &Hash::ZERO, &WORKER, NOW)), Some(Code::WrongNetwork));
    assert_eq!(code(key.verify(&identity, &GENESIS, &CONTRACT, NOW)), Some(Code::WrongAddress));
    assert_eq!(code(key.verify(&identity, &GENESIS, &WORKER, key.body.not_after_ms)), Some(Code::UnknownKey));
    let good = key.encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = SignedSessionKey::decode(&mut bad.as_slice()).unwrap();
        assert!(bad.verify(&identity, &GENESIS, &WORKER, NOW).is_err(), "bit {bit}");
    }
}

#[test]
fn an_answer_that_is_too_large_becomes_an_error_under_the_same_seal() {
    let mut world = World::new();
    let sealed = world.query();
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let response = opened.reply.seal(&answer(MAX_PADDED), &mut world.rng);
    assert_eq!(code(sealed.pending.open(&response)), Some(Code::ReplyTooLarge));
}

fn session(world: &mut World, until: u64) -> (ClientSession, ServerSession) {
    let credentials = credentials(GENESIS, Scope::Contracts(vec![CONTRACT]), NOW, until, &mut world.rng);
    let sealed = world.client_of(credentials).open_session(HEIGHT, &mut world.rng).unwrap();
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let Incoming::Open(server) = opened.incoming else { panic!("no session") };
    let response = opened.reply.seal(&Ok(Answer::Opened(server.opening)), &mut world.rng);
    (sealed.pending.finish(&response).unwrap(), server)
}

#[test]
fn a_session_carries_many_requests_both_ways() {
    let mut world = World::new();
    let (mut client, mut server) = session(&mut world, NOW + 24 * HOUR);
    assert_eq!(client.opening.expires_ms, NOW + MAX_SESSION_MS);
    let ids = [[1; 16], [2; 16], [3; 16]];
    let frames =
        ids.map(|id| client.sender.seal(&FrameRequest { request_id: id, call: Call::Query(query()) }).unwrap());
    for (id, frame) in ids.iter().zip(&frames) {
        let found = server.receiver.open(frame, NOW).unwrap();
        assert_eq!((found.request_id, found.call), (*id, Ok(Call::Query(query()))));
    }
    for (id, size) in ids.iter().rev().zip([1, 1000, MAX_PADDED]) {
        let frame = server.sender.reply(*id, answer(size)).unwrap();
        let FrameReply { request_id, reply } = client.receiver.open(&frame).unwrap();
        assert_eq!(request_id, *id);
        assert_eq!(reply, if size == MAX_PADDED { Err(Code::ReplyTooLarge.into()) } else { answer(size) });
    }
}

#[test]
fn a_request_without_right_is_refused_and_the_session_goes_on() {
    let mut world = World::new();
    let (mut client, mut server) = session(&mut world, NOW + HOUR);
    let foreign = Query { contract: AccountId([1; 32]), ..query() };
    let forged = SignedCommand { signature: [0; 64], ..world.credentials.sign(call()) };
    for (call, refused) in [
        (Call::Query(foreign), Some(Code::OutOfScope)),
        (Call::Command(forged), Some(Code::BadSignature)),
        (Call::Command(world.credentials.sign(call())), None),
        (Call::Outcome([1; 16]), None),
    ] {
        let frame = client.sender.seal(&FrameRequest { request_id: [1; 16], call }).unwrap();
        assert_eq!(code(server.receiver.open(&frame, NOW).unwrap().call), refused);
    }
}

#[test]
fn frames_that_are_replayed_overtaken_or_altered_are_refused() {
    let mut world = World::new();
    let (mut client, mut server) = session(&mut world, NOW + HOUR);
    let request = FrameRequest { request_id: [1; 16], call: Call::Query(query()) };
    let frames: Vec<_> = (0..3).map(|_| client.sender.seal(&request).unwrap()).collect();
    assert!(server.receiver.open(&frames[1], NOW).is_ok(), "a lost frame does no harm");
    assert_eq!(code(server.receiver.open(&frames[0], NOW)), Some(Code::Replayed));
    assert_eq!(code(server.receiver.open(&frames[1], NOW)), Some(Code::Replayed));
    for bit in 0..frames[2].len() * 8 {
        let mut bad = frames[2].clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(server.receiver.open(&bad, NOW).is_err(), "bit {bit}");
    }
    for length in 0..frames[2].len() {
        assert!(server.receiver.open(&frames[2][..length], NOW).is_err());
    }
    assert_eq!(
        code(server.receiver.open(&vec![0; phala_primitives::limits::MAX_MESSAGE + 1], NOW)),
        Some(Code::TooLarge)
    );
    let reflected = server.sender.reply([1; 16], answer(1)).unwrap();
    assert!(server.receiver.open(&reflected, NOW).is_err());
    assert!(server.receiver.open(&frames[2], NOW).is_ok(), "none of that did harm");
}

#[test]
fn a_session_ends_with_its_certificate() {
    let mut world = World::new();
    let (mut client, mut server) = session(&mut world, NOW + 5000);
    let frame = client.sender.seal(&FrameRequest { request_id: [1; 16], call: Call::Query(query()) }).unwrap();
    assert_eq!(code(server.receiver.open(&frame, NOW + 5000)), Some(Code::SessionLimit));
    assert!(server.receiver.open(&frame, NOW + 4999).is_ok());
}
