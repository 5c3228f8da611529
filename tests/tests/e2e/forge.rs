//! Requests as an enemy makes them: every field free, sealed or not.

use crate::{harness::get, hpke};
use codec::{Decode, DecodeAll, Encode};
use ed25519_dalek::{Signer, SigningKey};
use phala_client::{Account, Cluster};
use phala_primitives::{AccountId, Code, Coded, Hash, RequestId};
use phala_session::{
    Action, Answer, Command, Envelope, Freshness, Header, Operation, Query, Request, Response, Scope,
    SessionCertificate, SessionKey, SignedCertificate, SignedCommand, SignedSessionKey, Target, VERSION,
};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BUCKETS: [usize; 7] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, phala_session::MAX_PADDED];

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// 16 random bytes.
pub(crate) fn random_id() -> RequestId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    id
}

/// Pads as the protocol says.
pub(crate) fn pad(content: &[u8]) -> Vec<u8> {
    let mut out = (content.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(content);
    let size = BUCKETS.into_iter().find(|size| *size >= out.len()).unwrap();
    out.resize(size, 0);
    out
}

/// Takes the padding off.
pub(crate) fn unpad<T: Decode>(padded: &[u8]) -> T {
    let length = u32::from_le_bytes(padded[..4].try_into().unwrap()) as usize;
    T::decode_all(&mut &padded[4..4 + length]).unwrap()
}

/// An account, a session key, and a certificate that says what it was told to say.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: SigningKey,
    pub(crate) certificate: SignedCertificate,
}

impl Caller {
    /// A key that the account certifies for a minute ago until in ten minutes, changed by `change` before it signs.
    pub(crate) fn new(name: &str, genesis: Hash, change: impl FnOnce(&mut SessionCertificate)) -> Self {
        let account = Account::from_suri(&format!("//{name}")).unwrap();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = SigningKey::from_bytes(&seed);
        let mut body = SessionCertificate {
            genesis,
            account: account.id(),
            session_key: key.verifying_key().to_bytes(),
            scope: Scope::All,
            not_before_ms: now_ms() - 60_000,
            not_after_ms: now_ms() + 600_000,
            nonce: random_id(),
        };
        change(&mut body);
        let signature = account.sign(body.text().as_bytes());
        Self { key, certificate: SignedCertificate { body, signature } }
    }

    /// A call of a contract as a command.
    pub(crate) fn command(&self, contract: AccountId, data: &[u8]) -> Command {
        Command {
            id: random_id(),
            genesis: self.certificate.body.genesis,
            cluster: 0,
            action: Action::Call { contract, data: data.to_vec() },
            value: 0,
            gas_limit: crate::person::GAS,
            deadline_ms: now_ms() + 120_000,
        }
    }

    /// Signs a command.
    pub(crate) fn sign(&self, command: Command) -> SignedCommand {
        command.sign(self.certificate.clone(), &self.key)
    }

    /// Signs what changes no state, for one header.
    pub(crate) fn request(&self, header: &Header, operation: Operation) -> Request {
        let signature = self.key.sign(&operation.message(&header.aad())).to_bytes();
        Request::Signed { certificate: self.certificate.clone(), operation, signature }
    }
}

/// A query without a demand on the state's age.
pub(crate) fn query(contract: AccountId, data: &[u8]) -> Operation {
    Operation::Query(Query { contract, data: data.to_vec(), value: 0, min_height: 0, freshness: Freshness::Any })
}

/// A sealed request and what opens its answer.
pub(crate) struct Forged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) context: hpke::Context,
    request_id: RequestId,
}

impl Forged {
    /// Opens the answer.
    pub(crate) fn open(&self, response: &[u8]) -> Result<Answer, Coded> {
        match Response::decode_all(&mut &*response).expect("a response") {
            Response::Sealed(sealed) => {
                let (nonce, sealed) = sealed.split_first_chunk::<12>().unwrap();
                let key = self.context.export(b"phala/reply/v1");
                unpad(&hpke::open(&key, *nonce, sealed, &self.request_id).expect("an authentic response"))
            }
            Response::Refused(error) => Err(error),
        }
    }
}

/// One worker's door.
pub(crate) struct Door {
    http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) key: SessionKey,
    /// Height of the chain at which requests are aimed.
    pub(crate) height: u32,
}

impl Door {
    /// The door of the cluster's first worker.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let replica = cluster.replicas().swap_remove(0);
        let (status, text) = get(&format!("{}/v1/info", replica.endpoint)).await;
        assert_eq!(status, 200, "{text}");
        let info: Value = serde_json::from_str(&text).unwrap();
        let key = hex::decode(info["session_key"].as_str().unwrap().trim_start_matches("0x")).unwrap();
        let key = SignedSessionKey::decode_all(&mut &*key).unwrap();
        let key = key.verify(&replica.identity, &cluster.chain().genesis(), &replica.worker, now_ms()).unwrap().clone();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let height = cluster.chain().refresh().await.unwrap().0;
        Self { http, url: replica.endpoint, key, height }
    }

    /// An honest header.
    pub(crate) fn header(&self, target: Target) -> Header {
        Header {
            genesis: self.key.genesis,
            target,
            key_id: self.key.id(),
            request_id: random_id(),
            max_height: self.height + 300,
        }
    }

    /// An honest header to a contract.
    pub(crate) fn to(&self, contract: AccountId) -> Header {
        self.header(Target::Contract(contract))
    }

    /// An honest header to this worker.
    pub(crate) fn to_worker(&self) -> Header {
        self.header(Target::Worker(self.key.worker))
    }

    /// Seals any plaintext under any header.
    pub(crate) fn seal_text(&self, header: &Header, text: &[u8]) -> Forged {
        let context = hpke::Context::new(&self.key.key);
        let ciphertext = context.seal(text, &header.aad());
        let envelope = Envelope { version: VERSION, header: header.clone(), enc: context.enc, ciphertext };
        Forged { bytes: envelope.encode(), context, request_id: header.request_id }
    }

    /// Seals a request under any header.
    pub(crate) fn seal(&self, header: &Header, request: &Request) -> Forged {
        self.seal_text(header, &pad(&request.encode()))
    }

    /// Sends bytes, and returns status and body of the answer.
    pub(crate) async fn post(&self, bytes: Vec<u8>) -> (u16, Vec<u8>) {
        let answer = self.http.post(format!("{}/v1/call", self.url)).body(bytes).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    /// Sends bytes that cannot be opened, and returns the code of the refusal.
    pub(crate) async fn refused(&self, bytes: Vec<u8>) -> Code {
        let (status, body) = self.post(bytes).await;
        match Response::decode_all(&mut &*body) {
            Ok(Response::Refused(error)) => error.known().unwrap(),
            Ok(Response::Sealed(_)) => panic!("it was opened"),
            Err(_) => panic!("status {status} with a body that is no response: {}", String::from_utf8_lossy(&body)),
        }
    }

    /// Sends a request and opens the answer.
    pub(crate) async fn ask(&self, header: &Header, request: &Request) -> Result<Answer, Coded> {
        let forged = self.seal(header, request);
        let (_, body) = self.post(forged.bytes.clone()).await;
        forged.open(&body)
    }

    /// Sends a command under an honest header.
    pub(crate) async fn command(&self, command: SignedCommand) -> Result<Answer, Coded> {
        let header = match &command.command.action {
            Action::Call { contract, .. } => self.to(*contract),
            _ => self.to_worker(),
        };
        self.ask(&header, &Request::Command(command)).await
    }

    /// Asks a contract under an honest header.
    pub(crate) async fn query(&self, caller: &Caller, contract: AccountId, data: &[u8]) -> Result<Vec<u8>, Coded> {
        let header = self.to(contract);
        match self.ask(&header, &caller.request(&header, query(contract, data))).await? {
            Answer::Query { output, .. } => Ok(output.data),
            other => panic!("{other:?} to a query"),
        }
    }
}
