//! Requests that nobody means well by. Each is refused under its own code, changes nothing, and stops nobody else.

use crate::{
    forge::{Caller, Door, Forged, now_ms, pad, query, random_id, unpad},
    harness::{Dice, LOG, Net, get, run},
    hpke,
    person::{Person, code_of, flipper},
};
use codec::{Decode, DecodeAll, Encode};
use futures::{SinkExt, StreamExt};
use phala_primitives::{
    AccountId, Code, Coded, Fact, Hash,
    limits::{MAX_COMMAND_GAS, MAX_MESSAGE},
};
use phala_session::{
    Action, Answer, Call, FrameReply, FrameRequest, Freshness, Operation, Query, Request, Response, Scope,
    SignedCommand, Target,
};
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

const OTHER: AccountId = AccountId([7; 32]);
const DAY: u64 = 24 * 3600 * 1000;

/// What all cases share.
struct Scene {
    door: Door,
    flipper: AccountId,
    genesis: Hash,
    alice: Caller,
    eve: Caller,
}

impl Scene {
    fn caller(&self, change: impl FnOnce(&mut phala_session::SessionCertificate)) -> Caller {
        Caller::new("Alice", self.genesis, change)
    }

    fn flip(&self, caller: &Caller) -> SignedCommand {
        caller.sign(caller.command(self.flipper, &flipper::FLIP))
    }

    /// The code that a request from this caller to the flipper meets.
    async fn asked(&self, caller: &Caller) -> (Code, Code) {
        let query = code_of(self.door.query(caller, self.flipper, &flipper::GET).await);
        (query, code_of(self.door.command(self.flip(caller)).await))
    }

    /// What the flipper says; the worker serves.
    async fn bit(&self) -> bool {
        flipper::bit(&self.door.query(&self.alice, self.flipper, &flipper::GET).await.unwrap())
    }
}

#[test]
fn hostile_requests_change_nothing() {
    run(Duration::from_secs(150), async {
        let base = tempfile::tempdir().unwrap();
        let mut net = Net::start(&base.path().join("net"), LOG);
        let person = Person::at("Alice", &net).await;
        let flipper = person.deploy_flipper().await.address();
        let door = Door::of(&person.cluster).await;
        let genesis = person.cluster.chain().genesis();
        let (alice, eve) = (Caller::new("Alice", genesis, |_| ()), Caller::new("Eve", genesis, |_| ()));
        let scene = Scene { door, flipper, genesis, alice, eve };
        assert!(scene.bit().await);

        replays(&scene).await;
        altered(&scene, &mut Dice::new()).await;
        headers(&scene).await;
        plaintexts(&scene).await;
        signatures(&scene).await;
        certificates(&scene).await;
        commands(&scene).await;
        sessions(&scene).await;
        idlers(&scene).await;

        assert!(net.lives());
        for url in net.workers() {
            assert_eq!(get(&format!("{url}/readyz")).await, (200, "ready\n".to_owned()));
        }
        let metrics = get(&format!("{}/metrics", scene.door.url)).await.1;
        for code in [Code::Malformed, Code::UnknownKey, Code::NotAuthentic, Code::Replayed, Code::Expired] {
            assert!(metrics.contains(&format!("code=\"{code}\"")), "{code} is not counted:\n{metrics}");
        }
    });
}

/// The same bytes again, and the same command in fresh bytes.
async fn replays(scene: &Scene) {
    let (door, before) = (&scene.door, scene.bit().await);
    let command = scene.flip(&scene.alice);
    let sealed = door.seal(&door.to(scene.flipper), &Request::Command(command.clone()));
    let first = sealed.open(&door.post(sealed.bytes.clone()).await.1).unwrap();
    assert_eq!(scene.bit().await, !before, "the honest command counts");
    for _ in 0..3 {
        assert_eq!(door.refused(sealed.bytes.clone()).await, Code::Replayed);
    }
    // Whoever holds the command may send it again: it gives the outcome that it gave, and nothing happens.
    let Answer::Command { outcome, receipt } = first else { panic!("{first:?}") };
    match door.command(command.clone()).await.unwrap() {
        Answer::Command { outcome: again, receipt: proof } => {
            assert_eq!((again, proof.header.height, proof.index), (outcome, receipt.header.height, receipt.index));
        }
        other => panic!("{other:?}"),
    }
    // Another command under the same id is not that command.
    let mut other = command.command.clone();
    other.gas_limit -= 1;
    assert_eq!(code_of(door.command(scene.alice.sign(other)).await), Code::Replayed);
    // A query's bytes again.
    let header = door.to(scene.flipper);
    let request = scene.alice.request(&header, query(scene.flipper, &flipper::GET));
    let sealed = door.seal(&header, &request);
    sealed.open(&door.post(sealed.bytes.clone()).await.1).unwrap();
    assert_eq!(door.refused(sealed.bytes).await, Code::Replayed);
    // Its id in another envelope.
    assert_eq!(code_of(door.ask(&header, &request).await), Code::Replayed);
    assert_eq!(scene.bit().await, !before);
}

/// Code for an envelope to a contract in which one bit of the byte at `at` is turned over.
fn expected(at: usize, bytes: &[u8], height: u32) -> Code {
    match at {
        0 => Code::Malformed,
        1..33 => Code::WrongNetwork,
        // The tag: a worker of the contract's address, which is not this one.
        33 => Code::WrongAddress,
        66..74 => Code::UnknownKey,
        90..94 => {
            let highest = u32::from_le_bytes(bytes[90..94].try_into().unwrap());
            match highest.checked_sub(height) {
                None => Code::Expired,
                Some(ahead) if ahead > 1200 => Code::DeadlineTooFar,
                Some(_) => Code::NotAuthentic,
            }
        }
        // The length of what follows.
        126..128 => Code::Malformed,
        // Target, request id, key share, ciphertext.
        _ => Code::NotAuthentic,
    }
}

/// Bits turned over, ends cut off, ends added.
async fn altered(scene: &Scene, dice: &mut Dice) {
    let (door, before) = (&scene.door, scene.bit().await);
    let sealed = door.seal(&door.to(scene.flipper), &Request::Command(scene.flip(&scene.alice))).bytes;
    assert_eq!(sealed.len(), 128 + 1024 + 16, "the layout that `expected` knows");
    let tail: Vec<usize> = (0..40).map(|_| 128 + dice.below(1024 + 16) as usize).collect();
    for at in (0..128).chain(tail).chain([sealed.len() - 1]) {
        let mut bytes = sealed.clone();
        let bit = if at == 33 { 0 } else { dice.below(8) };
        bytes[at] ^= 1 << bit;
        let code = door.refused(bytes.clone()).await;
        assert_eq!(code, expected(at, &bytes, door.height), "bit {bit} of byte {at}");
    }
    // The bit that X25519 ignores, and points of low order.
    let mut ignored = sealed.clone();
    ignored[125] ^= 0x80;
    assert_eq!(door.refused(ignored).await, Code::NotAuthentic);
    for share in [[0; 32], std::array::from_fn(|i| u8::from(i == 0))] {
        let mut low = sealed.clone();
        low[94..126].copy_from_slice(&share);
        assert_eq!(door.refused(low).await, Code::NotAuthentic);
    }
    for length in [0, 1, 33, 66, 100, 126, 128, 500, sealed.len() - 1] {
        assert_eq!(door.refused(sealed[..length].to_vec()).await, Code::Malformed, "cut to {length}");
    }
    assert_eq!(door.refused([&sealed[..], &[0]].concat()).await, Code::Malformed);
    for length in [1, 100, 1 << 16, MAX_MESSAGE] {
        let garbage: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        let code = door.refused(garbage).await;
        assert!(matches!(code, Code::Malformed | Code::WrongNetwork), "{length} random bytes: {code}");
    }
    for length in [MAX_MESSAGE + 1, MAX_MESSAGE + (2 << 20)] {
        assert_eq!(door.refused(vec![1; length]).await, Code::TooLarge, "{length} bytes");
    }
    assert_eq!(scene.bit().await, before);
    // The whole one is still good: none of its altered copies used up its id.
    assert_eq!(door.post(sealed).await.0, 200);
    assert_eq!(scene.bit().await, !before);
}

/// Headers that are sealed well and say the wrong thing.
async fn headers(scene: &Scene) {
    let (door, before) = (&scene.door, scene.bit().await);
    let command = Request::Command(scene.flip(&scene.alice));
    let meets = async |change: fn(&mut phala_session::Header)| {
        let mut header = door.to(scene.flipper);
        change(&mut header);
        code_of(door.ask(&header, &command).await)
    };
    assert_eq!(meets(|header| header.genesis = Hash([1; 32])).await, Code::WrongNetwork);
    assert_eq!(meets(|header| header.target = Target::Worker(OTHER)).await, Code::WrongAddress);
    assert_eq!(meets(|header| header.target = Target::Contract(OTHER)).await, Code::WrongAddress);
    assert_eq!(meets(|header| header.max_height = 0).await, Code::Expired);
    assert_eq!(meets(|header| header.max_height -= 301).await, Code::Expired);
    assert_eq!(meets(|header| header.max_height += 2000).await, Code::DeadlineTooFar);
    assert_eq!(meets(|header| header.max_height = u32::MAX).await, Code::DeadlineTooFar);
    assert_eq!(meets(|header| header.key_id = [0; 8]).await, Code::UnknownKey);
    // To the worker instead of the contract, and the other way round.
    assert_eq!(code_of(door.ask(&door.to_worker(), &command).await), Code::WrongAddress);
    let header = door.to(scene.flipper);
    assert_eq!(code_of(door.ask(&header, &scene.alice.request(&header, Operation::Open)).await), Code::WrongAddress);
    let outcome = scene.alice.request(&header, Operation::Outcome(random_id()));
    assert_eq!(code_of(door.ask(&header, &outcome).await), Code::WrongAddress);
    let other = scene.alice.request(&header, query(OTHER, &flipper::GET));
    assert_eq!(code_of(door.ask(&door.to(scene.flipper), &other).await), Code::BadSignature);
    let header = door.to(scene.flipper);
    let other = scene.alice.request(&header, query(OTHER, &flipper::GET));
    assert_eq!(code_of(door.ask(&header, &other).await), Code::WrongAddress);
    // Nothing lives at the address.
    assert_eq!(code_of(door.query(&scene.alice, OTHER, &flipper::GET).await), Code::NoContract);
    let nobody = scene.alice.sign(scene.alice.command(OTHER, &flipper::FLIP));
    match door.command(nobody).await {
        Ok(Answer::Command { outcome, .. }) => assert_eq!(code_of(outcome.result), Code::NoContract),
        other => panic!("{other:?}"),
    }
    // A session is not opened by a single request.
    let header = door.to_worker();
    let open = door.seal(&header, &scene.alice.request(&header, Operation::Open));
    assert_eq!(door.refused(open.bytes).await, Code::Malformed);
    assert_eq!(scene.bit().await, before);
}

/// What is sealed well and is no request.
async fn plaintexts(scene: &Scene) {
    let door = &scene.door;
    let header = || door.to(scene.flipper);
    let first = header();
    let good = pad(&scene.alice.request(&first, query(scene.flipper, &flipper::GET)).encode());
    let mut dirty = good.clone();
    *dirty.last_mut().unwrap() = 1;
    let mut long = good.clone();
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut larger = good.clone();
    larger.resize(4096, 0);
    let bomb = pad(&[0xff; 200]);
    for text in [vec![], vec![0; 3], vec![0; 256], good[..good.len() - 1].to_vec(), dirty, long, larger, bomb] {
        let forged = door.seal_text(&header(), &text);
        let answer = forged.open(&door.post(forged.bytes.clone()).await.1);
        assert_eq!(code_of(answer), Code::Malformed, "{} bytes of plaintext", text.len());
    }
    // Padded as it should be, it is good.
    let forged = door.seal_text(&first, &good);
    forged.open(&door.post(forged.bytes.clone()).await.1).unwrap();
}

async fn signatures(scene: &Scene) {
    let (door, before) = (&scene.door, scene.bit().await);
    // A stolen certificate: Alice's word, but only Eve's key to sign with.
    let thief = Caller { key: scene.eve.key.clone(), certificate: scene.alice.certificate.clone() };
    assert_eq!(scene.asked(&thief).await, (Code::BadSignature, Code::BadSignature));
    // Alice's certificate, rewritten to name Eve's key.
    let mut rewritten = thief.clone();
    rewritten.certificate.body.session_key = scene.eve.key.verifying_key().to_bytes();
    assert_eq!(scene.asked(&rewritten).await, (Code::BadSignature, Code::BadSignature));
    // Eve's own, with Alice's name in it.
    let mut renamed = scene.eve.clone();
    renamed.certificate.body.account = scene.alice.certificate.body.account;
    assert_eq!(scene.asked(&renamed).await, (Code::BadSignature, Code::BadSignature));
    // Longer life and wider scope than what Alice signed.
    let mut longer = scene.alice.clone();
    longer.certificate.body.not_after_ms += 1;
    assert_eq!(scene.asked(&longer).await, (Code::BadSignature, Code::BadSignature));
    let mut wider = scene.caller(|body| body.scope = Scope::Contracts(vec![OTHER]));
    wider.certificate.body.scope = Scope::All;
    assert_eq!(scene.asked(&wider).await, (Code::BadSignature, Code::BadSignature));
    // One bit of a signature; no signature.
    for change in [|bytes: &mut [u8; 64]| bytes[0] ^= 1, |bytes: &mut [u8; 64]| *bytes = [0; 64]] {
        let mut command = scene.flip(&scene.alice);
        change(&mut command.signature);
        assert_eq!(code_of(door.command(command).await), Code::BadSignature);
    }
    // A command changed after it was signed.
    let mut changed = scene.flip(&scene.alice);
    changed.command.gas_limit -= 1;
    assert_eq!(code_of(door.command(changed).await), Code::BadSignature);
    // A request that Alice signed for one header, under another.
    let signed = scene.alice.request(&door.to(scene.flipper), query(scene.flipper, &flipper::GET));
    assert_eq!(code_of(door.ask(&door.to(scene.flipper), &signed).await), Code::BadSignature);
    assert_eq!(scene.bit().await, before);
}

async fn certificates(scene: &Scene) {
    let (door, before) = (&scene.door, scene.bit().await);
    let both = |code| (code, code);
    let meets = async |change: fn(&mut phala_session::SessionCertificate)| scene.asked(&scene.caller(change)).await;
    assert_eq!(meets(|body| body.not_after_ms = now_ms() - 1).await, both(Code::CertificateTime));
    assert_eq!(meets(|body| body.not_before_ms = now_ms() + 60_000).await, both(Code::CertificateTime));
    assert_eq!(meets(|body| body.not_after_ms = now_ms() + 31 * DAY).await, both(Code::CertificateTime));
    assert_eq!(
        meets(|body| (body.not_before_ms, body.not_after_ms) = (0, u64::MAX)).await,
        both(Code::CertificateTime)
    );
    assert_eq!(meets(|body| body.scope = Scope::Contracts(vec![OTHER])).await, both(Code::OutOfScope));
    assert_eq!(meets(|body| body.scope = Scope::Contracts(vec![])).await, both(Code::OutOfScope));
    assert_eq!(meets(|body| body.scope = Scope::Contracts(vec![OTHER; 65])).await, both(Code::Malformed));
    // Of another network: the caller signs commands for the network of the certificate.
    let stranger = Caller::new("Alice", Hash([9; 32]), |_| ());
    assert_eq!(scene.asked(&stranger).await, both(Code::WrongNetwork));
    // One that ends while it is used.
    let short = scene.caller(|body| body.not_after_ms = now_ms() + 1500);
    door.query(&short, scene.flipper, &flipper::GET).await.unwrap();
    crate::harness::eventually("the end of a certificate", Duration::from_secs(10), || async {
        let answer = door.query(&short, scene.flipper, &flipper::GET).await;
        answer.err().map(|error| assert_eq!(error.known(), Some(Code::CertificateTime)))
    })
    .await;
    // A scope that names the contract is enough; it is not enough to upload code.
    let scoped = scene.caller(|body| body.scope = Scope::Contracts(vec![scene.flipper]));
    assert_eq!(flipper::bit(&door.query(&scoped, scene.flipper, &flipper::GET).await.unwrap()), before);
    assert_eq!(scene.bit().await, before);
}

async fn commands(scene: &Scene) {
    let (door, before) = (&scene.door, scene.bit().await);
    let meets = async |change: fn(&mut phala_session::Command)| {
        let mut command = scene.alice.command(scene.flipper, &flipper::FLIP);
        change(&mut command);
        door.command(scene.alice.sign(command)).await
    };
    assert_eq!(code_of(meets(|command| command.deadline_ms = now_ms() - 1).await), Code::Expired);
    assert_eq!(code_of(meets(|command| command.deadline_ms = 0).await), Code::Expired);
    assert_eq!(code_of(meets(|command| command.deadline_ms = now_ms() + 660_000).await), Code::DeadlineTooFar);
    assert_eq!(code_of(meets(|command| command.deadline_ms = u64::MAX).await), Code::DeadlineTooFar);
    assert_eq!(code_of(meets(|command| command.gas_limit = MAX_COMMAND_GAS + 1).await), Code::GasLimitTooHigh);
    assert_eq!(code_of(meets(|command| command.gas_limit = u64::MAX).await), Code::GasLimitTooHigh);
    assert_eq!(code_of(meets(|command| command.genesis = Hash([1; 32])).await), Code::WrongNetwork);
    assert_eq!(code_of(meets(|command| command.cluster = 1).await), Code::WrongAddress);
    assert_eq!(scene.bit().await, before);
    // What Eve asks of Alice's command: nothing, not even whether there was one.
    let flip = scene.flip(&scene.alice);
    door.command(flip.clone()).await.unwrap();
    let header = door.to_worker();
    let spied = door.ask(&header, &scene.eve.request(&header, Operation::Outcome(flip.command.id))).await;
    let header = door.to_worker();
    let made_up = door.ask(&header, &scene.eve.request(&header, Operation::Outcome(random_id()))).await;
    assert_eq!((code_of(spied.clone()), spied.err()), (Code::NoQuorum, made_up.err()));
    let header = door.to_worker();
    door.ask(&header, &scene.alice.request(&header, Operation::Outcome(flip.command.id))).await.unwrap();
    // Back to what it was.
    door.command(scene.flip(&scene.alice)).await.unwrap();
    assert_eq!(scene.bit().await, before);
}

/// A WebSocket session, driven by hand.
struct Wire {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    out: [u8; 32],
    into: [u8; 32],
    next: u64,
}

fn frame_nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

impl Wire {
    async fn connect(door: &Door) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let url = format!("{}/v1/session", door.url.replace("http://", "ws://"));
        tokio_tungstenite::connect_async(url).await.unwrap().0
    }

    fn opening(scene: &Scene, caller: &Caller) -> Forged {
        let header = scene.door.to_worker();
        scene.door.seal(&header, &caller.request(&header, Operation::Open))
    }

    async fn open(scene: &Scene, caller: &Caller) -> Self {
        let opening = Self::opening(scene, caller);
        let mut socket = Self::connect(&scene.door).await;
        socket.send(Message::Binary(opening.bytes.clone().into())).await.unwrap();
        let Message::Binary(answer) = socket.next().await.unwrap().unwrap() else { panic!("no answer") };
        assert!(matches!(opening.open(&answer), Ok(Answer::Opened(_))));
        let (out, into) = (opening.context.export(b"phala/c2s/v1"), opening.context.export(b"phala/s2c/v1"));
        Self { socket, out, into, next: 0 }
    }

    fn frame(&mut self, call: Call) -> Vec<u8> {
        let counter = self.next;
        self.next += 1;
        let text = pad(&FrameRequest { request_id: random_id(), call }.encode());
        [&counter.to_le_bytes()[..], &hpke::seal(&self.out, frame_nonce(counter), &text, &[])].concat()
    }

    async fn send(&mut self, message: impl Into<Message>) {
        // The other side may have hung up.
        let _ = self.socket.send(message.into()).await;
    }

    async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            match timeout(Duration::from_secs(10), self.socket.next()).await.expect("an answer or an end") {
                Some(Ok(Message::Binary(frame))) => return Some(frame.to_vec()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    async fn ask(&mut self, call: Call) -> Result<Answer, Coded> {
        let frame = self.frame(call);
        self.send(frame).await;
        let answer = self.receive().await.expect("the session goes on");
        let counter = u64::from_le_bytes(answer[..8].try_into().unwrap());
        let text = hpke::open(&self.into, frame_nonce(counter), &answer[8..], &[]).expect("an authentic frame");
        unpad::<FrameReply>(&text).reply
    }

    /// The worker ends the session without another word.
    async fn ends(&mut self, why: &str) {
        assert_eq!(self.receive().await, None, "{why}");
    }
}

async fn sessions(scene: &Scene) {
    let before = scene.bit().await;
    let get = || {
        Call::Query(Query {
            contract: scene.flipper,
            data: flipper::GET.to_vec(),
            value: 0,
            min_height: 0,
            freshness: Freshness::Any,
        })
    };
    let bit = |answer: Answer| match answer {
        Answer::Query { output, .. } => flipper::bit(&output.data),
        other => panic!("{other:?}"),
    };
    // Openings that are none, and one used twice.
    let first = async |bytes: Vec<u8>| {
        let mut socket = Wire::connect(&scene.door).await;
        let _ = socket.send(Message::Binary(bytes.into())).await;
        match timeout(Duration::from_secs(10), socket.next()).await.unwrap() {
            Some(Ok(Message::Binary(answer))) => match Response::decode_all(&mut &answer[..]).unwrap() {
                Response::Refused(error) => error.known(),
                Response::Sealed(_) => None,
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(first(b"hello".to_vec()).await, Some(Code::Malformed));
    let opening = Wire::opening(scene, &scene.alice).bytes;
    assert_eq!(first(opening.clone()).await, None);
    assert_eq!(first(opening).await, Some(Code::Replayed));

    // What ends a session, at once and without a word.
    let mut wire = Wire::open(scene, &scene.alice).await;
    let frame = wire.frame(get());
    wire.send(frame.clone()).await;
    let answer = wire.receive().await.unwrap();
    wire.send(frame).await;
    wire.ends("a frame replayed").await;
    let mut wire = Wire::open(scene, &scene.alice).await;
    wire.ask(get()).await.unwrap();
    wire.send(answer).await;
    wire.ends("a frame of another session, from the other side").await;
    let mut wire = Wire::open(scene, &scene.alice).await;
    let mut frame = wire.frame(Call::Command(scene.flip(&scene.alice)));
    *frame.last_mut().unwrap() ^= 1;
    wire.send(frame).await;
    wire.ends("a frame altered").await;
    let mut wire = Wire::open(scene, &scene.alice).await;
    let (one, two) = (wire.frame(get()), wire.frame(get()));
    wire.send(two).await;
    wire.receive().await.unwrap();
    wire.send(one).await;
    wire.ends("a frame overtaken").await;
    for garbage in [vec![], vec![0; 7], vec![0; 24], vec![0xff; 300], vec![1; MAX_MESSAGE + 1]] {
        let mut wire = Wire::open(scene, &scene.alice).await;
        let length = garbage.len();
        wire.send(garbage).await;
        wire.ends(&format!("{length} bytes of garbage")).await;
    }
    let mut wire = Wire::open(scene, &scene.alice).await;
    wire.send("hello").await;
    wire.ends("text").await;

    // What a session survives: requests that are refused for what they are.
    let scoped = scene.caller(|body| body.scope = Scope::Contracts(vec![scene.flipper]));
    let mut wire = Wire::open(scene, &scoped).await;
    let other =
        Call::Query(Query { contract: OTHER, data: vec![], value: 0, min_height: 0, freshness: Freshness::Any });
    assert_eq!(code_of(wire.ask(other).await), Code::OutOfScope);
    let mut forged = scene.flip(&scene.alice);
    forged.signature[5] ^= 1;
    assert_eq!(code_of(wire.ask(Call::Command(forged)).await), Code::BadSignature);
    let upload = Action::Upload { code: vec![], proof: no_proof() };
    let upload = phala_session::Command { action: upload, ..scoped.command(scene.flipper, &[]) };
    assert_eq!(code_of(wire.ask(Call::Command(scoped.sign(upload))).await), Code::OutOfScope);
    assert_eq!(bit(wire.ask(get()).await.unwrap()), before);
    // A session never lives longer than its certificate.
    let short = scene.caller(|body| body.not_after_ms = now_ms() + 1500);
    let mut wire = Wire::open(scene, &short).await;
    while now_ms() < short.certificate.body.not_after_ms {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let frame = wire.frame(get());
    wire.send(frame).await;
    wire.ends("a session after its certificate").await;
    assert_eq!(scene.bit().await, before);
}

/// A proof of nothing: what it is in is refused before it is looked at.
fn no_proof() -> Fact {
    Fact::decode(&mut &[0; 1024][..]).unwrap()
}

/// Connections that say nothing.
async fn idlers(scene: &Scene) {
    let address = scene.door.url.trim_start_matches("http://");
    let mut idle = vec![];
    for _ in 0..200 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let sockets = futures::future::join_all((0..50).map(|_| Wire::connect(&scene.door))).await;
    let started = std::time::Instant::now();
    scene.bit().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?} beside idle connections", started.elapsed());
    drop((idle, sockets));
}
