//! The replica's side: opens envelopes and frames, and seals replies.

use crate::{
    Answer, Call, CertificateCache, Envelope, FrameReply, FrameRequest, Header, MAX_SESSION_MS, Opening, Operation,
    Query, Receiver, Rehearsal, Request, Response, Scope, Sender, SignedSessionKey, Target, VERSION,
    crypto::{self, Key, ReceiverContext},
    keyring::{KeyRing, Slot},
    padding,
    wire::signed,
};
use codec::{DecodeAll, Encode};
use ed25519_dalek::SigningKey;
use phala_primitives::{
    AccountId, ClusterId, Code, Coded, Hash, RequestId,
    limits::{MAX_HEIGHT_AHEAD, MAX_MESSAGE},
};
use rand_core::CryptoRng;
use std::sync::{Arc, Mutex, PoisonError};

/// Most request ids remembered per session key, unless the [`Place`] says otherwise.
pub const REPLAY_WINDOW: usize = 1 << 20;

/// Where a replica stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// Genesis hash of the network.
    pub genesis: Hash,
    /// Account of the worker.
    pub worker: AccountId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Most request ids remembered per session key; [`REPLAY_WINDOW`] unless memory is scarce.
    pub replay_window: usize,
}

/// Opens what clients send to one replica. Shared by all threads that serve clients.
pub struct Acceptor {
    place: Place,
    keys: Mutex<KeyRing>,
    certificates: Arc<CertificateCache>,
}

/// A request that was opened, and whose right to be answered was checked.
pub struct Opened {
    /// Who asks.
    pub account: AccountId,
    /// The client's name for the request.
    pub request_id: RequestId,
    /// What is asked.
    pub incoming: Incoming,
    /// Seals the answer.
    pub reply: ReplySealer,
}

/// What an envelope holds.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored in numbers")]
pub enum Incoming {
    /// One request.
    Call(Call),
    /// A session. The answer is `Answer::Opened(session.opening)`.
    Open(ServerSession),
}

/// A request that was refused.
pub struct Refusal {
    /// Why.
    pub error: Coded,
    reply: Option<ReplySealer>,
}

impl Refusal {
    /// What to send back: sealed if the request could be decrypted.
    pub fn into_response(self, rng: &mut impl CryptoRng) -> Vec<u8> {
        match self.reply {
            Some(reply) => reply.seal(&Err(self.error), rng),
            None => Response::Refused(self.error).encode(),
        }
    }
}

impl<T: Into<Coded>> From<T> for Refusal {
    fn from(error: T) -> Self {
        Self { error: error.into(), reply: None }
    }
}

/// Seals the one answer to one request.
pub struct ReplySealer {
    key: Key,
    request_id: RequestId,
}

impl ReplySealer {
    /// Seals the answer as an encoded [`Response`]. An answer that is too large becomes [`Code::ReplyTooLarge`].
    pub fn seal(self, reply: &Result<Answer, Coded>, rng: &mut impl CryptoRng) -> Vec<u8> {
        let sealed = self.try_seal(reply, rng).or_else(|error| {
            let error = if error.code == Code::TooLarge as u16 { Code::ReplyTooLarge.into() } else { error };
            self.try_seal(&Err(error), rng)
        });
        sealed.map_or_else(Response::Refused, Response::Sealed).encode()
    }

    fn try_seal(&self, reply: &Result<Answer, Coded>, rng: &mut impl CryptoRng) -> Result<Vec<u8>, Coded> {
        let mut nonce = [0; 12];
        rng.fill_bytes(&mut nonce);
        let mut sealed = nonce.to_vec();
        padding::pad(reply, &mut sealed)?;
        self.key.seal(nonce, &self.request_id, &mut sealed, nonce.len())?;
        Ok(sealed)
    }
}

impl Acceptor {
    /// An acceptor with a first session key, signed by the worker's identity. The cache may be shared with whatever
    /// else checks certificates.
    pub fn new(
        place: Place,
        identity: Arc<SigningKey>,
        certificates: Arc<CertificateCache>,
        now_ms: u64,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let keys = KeyRing::new(place.genesis, place.worker, identity, place.replay_window, now_ms, rng);
        Self { place, keys: Mutex::new(keys), certificates }
    }

    /// Rotates and wipes session keys; to be called at least every minute. Says whether there is a new key to publish.
    pub fn tick(&self, now_ms: u64, rng: &mut impl CryptoRng) -> bool {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).tick(now_ms, rng)
    }

    /// The newest session key, to be published.
    pub fn session_key(&self) -> SignedSessionKey {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).published().clone()
    }

    /// Opens an encoded [`Envelope`]. `height` is that of the chain's newest final block that this replica knows.
    pub fn open(&self, envelope: &[u8], now_ms: u64, height: u32) -> Result<Opened, Refusal> {
        if envelope.len() > MAX_MESSAGE {
            return Err(Code::TooLarge.into());
        }
        let envelope = Envelope::decode_all(&mut &*envelope).map_err(|_| Code::Malformed)?;
        let header = &envelope.header;
        self.check_header(&envelope, height)?;
        let slot = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .find(&header.key_id, now_ms)
            .ok_or(Code::UnknownKey)?;
        if slot.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&header.request_id) {
            return Err(Code::Replayed.into());
        }
        let aad = header.aad();
        let (text, context) = decrypt(&slot, &envelope, &aad).ok_or(Code::NotAuthentic)?;
        let reply =
            ReplySealer { key: Key::export(|out| context.export(crypto::REPLY, out))?, request_id: header.request_id };
        match self.authorise(&text, header, &aad, &context, now_ms).and_then(|found| {
            slot.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(
                header.request_id,
                header.max_height,
                height,
            )?;
            Ok(found)
        }) {
            Ok((account, incoming)) => Ok(Opened { account, request_id: header.request_id, incoming, reply }),
            Err(error) => Err(Refusal { error, reply: Some(reply) }),
        }
    }

    fn check_header(&self, envelope: &Envelope, height: u32) -> Result<(), Coded> {
        let header = &envelope.header;
        if envelope.version != VERSION {
            return Err(Coded::new(Code::Malformed, format!("this replica speaks version {VERSION}")));
        }
        if header.genesis != self.place.genesis {
            return Err(Code::WrongNetwork.into());
        }
        if matches!(header.target, Target::Worker(worker) if worker != self.place.worker) {
            return Err(Coded::new(Code::WrongAddress, format!("this is worker {}", self.place.worker)));
        }
        if header.max_height < height {
            return Err(Coded::new(Code::Expired, format!("the chain has height {height}")));
        }
        if header.max_height - height > MAX_HEIGHT_AHEAD {
            return Err(Coded::new(Code::DeadlineTooFar, format!("the chain has height {height}")));
        }
        Ok(())
    }

    fn authorise(
        &self,
        text: &[u8],
        header: &Header,
        aad: &[u8],
        context: &ReceiverContext,
        now_ms: u64,
    ) -> Result<(AccountId, Incoming), Coded> {
        match padding::unpad::<Request>(text)? {
            Request::Command(command) => {
                command.verify(&self.certificates, &self.place.genesis, self.place.cluster, now_ms)?;
                let target = match &command.command.action {
                    crate::Action::Call { contract, .. } => Target::Contract(*contract),
                    _ => Target::Worker(self.place.worker),
                };
                addressed(header, target)?;
                Ok((*command.account(), Incoming::Call(Call::Command(command))))
            }
            Request::Signed { certificate, operation, signature } => {
                self.certificates.verify(&certificate, &self.place.genesis, now_ms)?;
                let certificate = certificate.body;
                if !signed(&certificate.session_key, &operation.message(aad), &signature) {
                    return Err(Coded::new(Code::BadSignature, "of the request, by its session key"));
                }
                let incoming = match operation {
                    Operation::Query(query) => {
                        may_query(&certificate.scope, &query)?;
                        addressed(header, Target::Contract(query.contract))?;
                        Incoming::Call(Call::Query(query))
                    }
                    Operation::Logs(query) => {
                        in_scope(&certificate.scope, &query.contract)?;
                        addressed(header, Target::Contract(query.contract))?;
                        Incoming::Call(Call::Logs(query))
                    }
                    Operation::Balance(query) => {
                        everything(&certificate.scope)?;
                        addressed(header, Target::Worker(self.place.worker))?;
                        Incoming::Call(Call::Balance(query))
                    }
                    Operation::History(height) => {
                        addressed(header, Target::Worker(self.place.worker))?;
                        Incoming::Call(Call::History(height))
                    }
                    Operation::Final(height) => {
                        addressed(header, Target::Worker(self.place.worker))?;
                        Incoming::Call(Call::Final(height))
                    }
                    Operation::Part(part) => {
                        addressed(header, Target::Worker(self.place.worker))?;
                        Incoming::Call(Call::Part(part))
                    }
                    Operation::Rehearse(rehearsal) => {
                        may_rehearse(&certificate.scope, &rehearsal)?;
                        addressed(header, Target::Contract(rehearsal.contract))?;
                        Incoming::Call(Call::Rehearse(rehearsal))
                    }
                    Operation::Outcome(command) => {
                        addressed(header, Target::Worker(self.place.worker))?;
                        Incoming::Call(Call::Outcome(command))
                    }
                    Operation::Open => {
                        addressed(header, Target::Worker(self.place.worker))?;
                        let expires_ms = certificate.not_after_ms.min(now_ms.saturating_add(MAX_SESSION_MS));
                        let rights = Rights { account: certificate.account, scope: certificate.scope, expires_ms };
                        Incoming::Open(self.session(context, rights)?)
                    }
                };
                Ok((certificate.account, incoming))
            }
        }
    }

    fn session(&self, context: &ReceiverContext, rights: Rights) -> Result<ServerSession, Coded> {
        let incoming = Key::export(|out| context.export(crypto::CLIENT_TO_SERVER, out))?;
        let outgoing = Key::export(|out| context.export(crypto::SERVER_TO_CLIENT, out))?;
        Ok(ServerSession {
            opening: Opening { expires_ms: rights.expires_ms },
            receiver: ServerReceiver {
                frames: Receiver::new(incoming),
                rights,
                place: self.place.clone(),
                certificates: self.certificates.clone(),
            },
            sender: Sender::new(outgoing),
        })
    }
}

fn decrypt(slot: &Slot, envelope: &Envelope, aad: &[u8]) -> Option<(Vec<u8>, ReceiverContext)> {
    let mut context = crypto::receiver(&slot.secret, &envelope.enc).ok()?;
    let text = context.open(&envelope.ciphertext, aad).ok()?;
    Some((text, context))
}

fn addressed(header: &Header, target: Target) -> Result<(), Coded> {
    if header.target != target {
        return Err(Coded::new(Code::WrongAddress, "the envelope names another target than the request"));
    }
    Ok(())
}

fn in_scope(scope: &Scope, contract: &AccountId) -> Result<(), Coded> {
    if !scope.covers(contract) {
        return Err(Code::OutOfScope.into());
    }
    Ok(())
}

/// What an account owns is for those to see who may do all for it.
fn everything(scope: &Scope) -> Result<(), Coded> {
    if *scope != Scope::All {
        return Err(Code::OutOfScope.into());
    }
    Ok(())
}

fn may_query(scope: &Scope, query: &Query) -> Result<(), Coded> {
    if query.value > 0 {
        return everything(scope);
    }
    in_scope(scope, &query.contract)
}

/// Whether a certificate of this scope may try a command: money is for those who may do everything.
fn may_rehearse(scope: &Scope, rehearsal: &Rehearsal) -> Result<(), Coded> {
    if rehearsal.value > 0 {
        return everything(scope);
    }
    in_scope(scope, &rehearsal.contract)
}

/// Whose a session is.
struct Rights {
    account: AccountId,
    scope: Scope,
    expires_ms: u64,
}

/// The replica's end of a session.
pub struct ServerSession {
    /// Terms, for the answer that opens it.
    pub opening: Opening,
    /// Opens the client's frames.
    pub receiver: ServerReceiver,
    /// Seals answers.
    pub sender: Sender<FrameReply>,
}

/// Opens frames of a session and checks the right to what they ask.
pub struct ServerReceiver {
    frames: Receiver<FrameRequest>,
    rights: Rights,
    place: Place,
    certificates: Arc<CertificateCache>,
}

/// A request that came in a frame.
pub struct FrameCall {
    /// Who asks.
    pub account: AccountId,
    /// The client's name for the request.
    pub request_id: RequestId,
    /// What is asked, or why this one request is refused; the session goes on.
    pub call: Result<Call, Coded>,
}

impl ServerReceiver {
    /// Opens a frame. An error ends the session.
    pub fn open(&mut self, frame: &[u8], now_ms: u64) -> Result<FrameCall, Coded> {
        if now_ms >= self.rights.expires_ms {
            return Err(Coded::new(Code::SessionLimit, "it has lasted as long as it may"));
        }
        let FrameRequest { request_id, call } = self.frames.open(frame)?;
        let mut account = self.rights.account;
        let right = match &call {
            Call::Query(query) => may_query(&self.rights.scope, query),
            Call::Logs(query) | Call::Follow(query) => in_scope(&self.rights.scope, &query.contract),
            Call::Balance(_) => everything(&self.rights.scope),
            Call::Rehearse(rehearsal) => may_rehearse(&self.rights.scope, rehearsal),
            // The replica knows who its members are; headers are no secret.
            Call::Outcome(_) | Call::Part(_) | Call::Unfollow(_) | Call::History(_) | Call::Final(_) => Ok(()),
            Call::Command(command) => {
                account = *command.account();
                command.verify(&self.certificates, &self.place.genesis, self.place.cluster, now_ms)
            }
        };
        Ok(FrameCall { account, request_id, call: right.map(|()| call) })
    }

    /// When the session ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.rights.expires_ms
    }
}

impl Sender<FrameReply> {
    /// Seals an answer; one that is too large becomes [`Code::ReplyTooLarge`]. An error ends the session.
    pub fn reply(&mut self, request_id: RequestId, reply: Result<Answer, Coded>) -> Result<Vec<u8>, Coded> {
        self.seal(&FrameReply { request_id, reply }).or_else(|error| match error.known() {
            Some(Code::TooLarge) => self.seal(&FrameReply { request_id, reply: Err(Code::ReplyTooLarge.into()) }),
            _ => Err(error),
        })
    }
}
