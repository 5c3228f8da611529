//! How long things take. `cargo test -p phala-session speed -- --ignored --nocapture`

use super::*;
use std::time::Instant;

fn time(name: &str, rounds: u32, mut run: impl FnMut()) {
    let start = Instant::now();
    (0..rounds).for_each(|_| run());
    println!("{name:40} {:9.2} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
}

#[test]
#[ignore = "prints times"]
fn speed() {
    let mut world = World::new();
    world.acceptor = Acceptor::new(
        Place { replay_window: REPLAY_WINDOW, ..place() },
        world.identity.clone(),
        Arc::new(CertificateCache::new(16)),
        NOW,
        &mut world.rng,
    );
    let client = world.client();
    let answer = || Ok(Answer::Opened(Opening { expires_ms: 1 }));
    time("one-shot query, client seals", 300, || {
        client.query(query(), HEIGHT, &mut SystemRng).unwrap();
    });
    let sealed: Vec<_> = (0..300).map(|_| client.query(query(), HEIGHT, &mut SystemRng).unwrap()).collect();
    let mut all = sealed.iter();
    let mut replies = vec![];
    time("one-shot query, replica opens and seals", 300, || {
        let opened = world.acceptor.open(&all.next().unwrap().envelope, NOW, HEIGHT).ok().unwrap();
        replies.push(opened.reply.seal(&answer(), &mut SystemRng));
    });
    let mut all = sealed.iter().zip(&replies);
    time("one-shot query, client opens", 300, || {
        let (sealed, reply) = all.next().unwrap();
        sealed.pending.open(reply).unwrap();
    });

    let sealed = client.open_session(HEIGHT, &mut SystemRng).unwrap();
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let Incoming::Open(mut server) = opened.incoming else { panic!("no session") };
    let mut session = sealed.pending.finish(&opened.reply.seal(&answer(), &mut SystemRng)).unwrap();
    time("frame query, round trip, both sides", 20_000, || {
        let request = FrameRequest { request_id: [7; 16], call: Call::Query(query()) };
        let frame = session.sender.seal(&request).unwrap();
        let found = server.receiver.open(&frame, NOW).unwrap();
        let frame = server.sender.reply(found.request_id, answer()).unwrap();
        session.receiver.open(&frame).unwrap();
    });

    let cache = CertificateCache::new(16);
    let command = world.credentials.sign(call());
    time("command, verify, certificate cached", 300, || {
        command.verify(&cache, &GENESIS, CLUSTER, NOW).unwrap();
    });
}
