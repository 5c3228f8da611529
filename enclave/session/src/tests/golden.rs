//! The wire is frozen: `vectors/v1.json` holds bytes that every implementation must make and read. To write it anew
//! after a deliberate change of version: `PHALA_BLESS=1 cargo test -p phala-session golden`.

use super::*;
use codec::Encode;
use hpke::Serializable;
use serde_json::{Map, Value, json};

fn vectors() -> Value {
    let mut world = World::new();
    let mut out = Map::new();
    let mut put = |name: &str, bytes: &[u8]| {
        out.insert(name.into(), json!(hex::encode(bytes)));
    };
    let (secret, public) = crypto::generate(&mut TestRng::new(1));
    put("replica_x25519_secret", &secret.to_bytes());
    put("replica_x25519_public", &public);
    put("replica_identity_public", world.identity.verifying_key().as_bytes());
    put("signed_session_key", &world.acceptor.session_key().encode());
    let certificate = world.credentials.certificate().clone();
    put("certificate", &certificate.encode());
    put("certificate_text", certificate.body.text().as_bytes());

    let sealed = world.query();
    put("query_request_id", sealed.pending.request_id());
    put("query_envelope", &sealed.envelope);
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let reply = Err(Coded::new(Code::Reverted, "why"));
    put("query_response", &opened.reply.seal(&reply, &mut world.rng));

    let command = world.credentials.sign(Command { value: 9, ..call() });
    put("command", &command.encode());
    put("command_hash", command.hash().as_ref());
    put("command_envelope", &world.client().command(command, HEIGHT, &mut world.rng).unwrap().envelope);

    let sealed = world.client().open_session(HEIGHT, &mut world.rng).unwrap();
    put("open_envelope", &sealed.envelope);
    let opened = world.acceptor.open(&sealed.envelope, NOW, HEIGHT).ok().unwrap();
    let Incoming::Open(mut server) = opened.incoming else { panic!("no session") };
    let response = opened.reply.seal(&Ok(Answer::Opened(server.opening)), &mut world.rng);
    put("open_response", &response);
    let mut client = sealed.pending.finish(&response).unwrap();
    let request = FrameRequest { request_id: [7; 16], call: Call::Query(query()) };
    put("frame_request_0", &client.sender.seal(&request).unwrap());
    put("frame_request_1", &client.sender.seal(&request).unwrap());
    put("frame_reply_0", &server.sender.reply([7; 16], Err(Code::Reverted.into())).unwrap());
    Value::Object(out)
}

#[test]
fn golden_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v1.json");
    let found = vectors();
    if std::env::var_os("PHALA_BLESS").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(found, expected);
}
