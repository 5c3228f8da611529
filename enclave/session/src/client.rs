//! The client's side: seals requests and opens replies.

use crate::{
    Answer, BalanceQuery, Command, CommandId, Envelope, FrameReply, FrameRequest, Header, LogQuery, Opening, Operation,
    PartQuery, Query, Receiver, Rehearsal, Request, Response, Scope, Sender, SessionCertificate, SessionKey,
    SignedCertificate, SignedCommand, Target, VERSION,
    crypto::{self, Key, SenderContext},
    padding,
};
use codec::{DecodeAll, Encode};
use ed25519_dalek::{Signer, SigningKey};
use phala_primitives::{AccountId, AccountSignature, Code, Coded, Hash, RequestId, blake2_256, limits::MAX_MESSAGE};
use rand_core::CryptoRng;
use std::sync::Arc;

/// A certificate and the key that it names.
pub struct Credentials {
    certificate: SignedCertificate,
    key: SigningKey,
}

impl Credentials {
    /// Makes a key and has the account certify it: `sign` gets the text that the account signs.
    pub fn issue(
        genesis: Hash,
        account: AccountId,
        scope: Scope,
        not_before_ms: u64,
        not_after_ms: u64,
        rng: &mut impl CryptoRng,
        sign: impl FnOnce(&str) -> AccountSignature,
    ) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        Self::make(genesis, account, scope, (not_before_ms, not_after_ms), &seed, nonce, sign)
    }

    /// The same with a key that follows from a secret and the times, for an account whose key is at hand anyway: what it
    /// signs is then the same each time.
    pub fn derive(
        genesis: Hash,
        account: AccountId,
        scope: Scope,
        not_before_ms: u64,
        not_after_ms: u64,
        secret: &[u8; 32],
        sign: impl FnOnce(&str) -> AccountSignature,
    ) -> Self {
        let input = zeroize::Zeroizing::new(("phala/session-seed/v1", secret, not_before_ms, not_after_ms).encode());
        let seed = zeroize::Zeroizing::new(blake2_256(&input).0);
        Self::make(genesis, account, scope, (not_before_ms, not_after_ms), &seed, [0; 16], sign)
    }

    fn make(
        genesis: Hash,
        account: AccountId,
        scope: Scope,
        (not_before_ms, not_after_ms): (u64, u64),
        seed: &[u8; 32],
        nonce: [u8; 16],
        sign: impl FnOnce(&str) -> AccountSignature,
    ) -> Self {
        let key = SigningKey::from_bytes(seed);
        let session_key = key.verifying_key().to_bytes();
        let body = SessionCertificate { genesis, account, session_key, scope, not_before_ms, not_after_ms, nonce };
        let signature = sign(&body.text());
        Self { certificate: SignedCertificate { body, signature }, key }
    }

    /// Takes up a certificate and its key again, as from a wallet's storage. Fails if they do not fit.
    pub fn resume(certificate: SignedCertificate, key: SigningKey) -> Result<Self, Coded> {
        if certificate.body.session_key != key.verifying_key().to_bytes() {
            return Err(Coded::new(Code::BadSignature, "the certificate names another key"));
        }
        Ok(Self { certificate, key })
    }

    /// The certificate.
    pub fn certificate(&self) -> &SignedCertificate {
        &self.certificate
    }

    /// Signs a command.
    pub fn sign(&self, command: Command) -> SignedCommand {
        command.sign(self.certificate.clone(), &self.key)
    }
}

/// Draws the name of a request or command.
pub fn random_id(rng: &mut impl CryptoRng) -> RequestId {
    let mut id = [0; 16];
    rng.fill_bytes(&mut id);
    id
}

/// Seals requests of one account to one replica.
pub struct Client {
    key: SessionKey,
    recipient: crypto::Public,
    credentials: Arc<Credentials>,
}

/// An encoded envelope, and what opens its answer.
pub struct Sealed<P> {
    /// To be sent.
    pub envelope: Vec<u8>,
    /// Opens what comes back.
    pub pending: P,
}

impl Client {
    /// A client for a session key that was verified with [`crate::SignedSessionKey::verify`].
    pub fn new(key: SessionKey, credentials: Arc<Credentials>) -> Result<Self, Coded> {
        let recipient = crypto::public(&key.key)?;
        Ok(Self { key, recipient, credentials })
    }

    /// The session key that it seals to.
    pub fn session_key(&self) -> &SessionKey {
        &self.key
    }

    /// Seals a query that may be opened up to the chain's height `max_height`.
    pub fn query(
        &self,
        query: Query,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        let target = Target::Contract(query.contract);
        self.signed(target, Operation::Query(query), max_height, rng)
    }

    /// Seals a command.
    pub fn command(
        &self,
        command: SignedCommand,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        let target = match &command.command.action {
            crate::Action::Call { contract, .. } => Target::Contract(*contract),
            _ => Target::Worker(self.key.worker),
        };
        let header = self.header(target, max_height, rng);
        Ok(self.seal(header, &Request::Command(command), rng)?.0)
    }

    /// Seals the question what became of a command.
    pub fn outcome(
        &self,
        command: CommandId,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        self.signed(Target::Worker(self.key.worker), Operation::Outcome(command), max_height, rng)
    }

    /// Seals the question after a contract's log.
    pub fn logs(
        &self,
        query: LogQuery,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        let target = Target::Contract(query.contract);
        self.signed(target, Operation::Logs(query), max_height, rng)
    }

    /// Seals the question after a balance.
    pub fn balance(
        &self,
        query: BalanceQuery,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        self.signed(Target::Worker(self.key.worker), Operation::Balance(query), max_height, rng)
    }

    /// Seals the question after headers.
    pub fn history(
        &self,
        height: u64,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        self.signed(Target::Worker(self.key.worker), Operation::History(height), max_height, rng)
    }

    /// Seals the question after an entry's header and certificate.
    pub fn entry(&self, height: u64, max_height: u32, rng: &mut impl CryptoRng) -> Result<Sealed<PendingReply>, Coded> {
        self.signed(Target::Worker(self.key.worker), Operation::Final(height), max_height, rng)
    }

    /// Seals a part of a query, for which the account must be the identity of a member.
    pub fn part(
        &self,
        part: PartQuery,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        self.signed(Target::Worker(self.key.worker), Operation::Part(part), max_height, rng)
    }

    /// Seals a rehearsal.
    pub fn rehearse(
        &self,
        rehearsal: Rehearsal,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        let target = Target::Contract(rehearsal.contract);
        self.signed(target, Operation::Rehearse(rehearsal), max_height, rng)
    }

    /// Seals the opening of a session.
    pub fn open_session(&self, max_height: u32, rng: &mut impl CryptoRng) -> Result<Sealed<Handshake>, Coded> {
        let header = self.header(Target::Worker(self.key.worker), max_height, rng);
        let request = self.sign(&header, Operation::Open);
        let (sealed, context) = self.seal(header, &request, rng)?;
        let outgoing = Key::export(|out| context.export(crypto::CLIENT_TO_SERVER, out))?;
        let incoming = Key::export(|out| context.export(crypto::SERVER_TO_CLIENT, out))?;
        let pending = Handshake { reply: sealed.pending, outgoing, incoming };
        Ok(Sealed { envelope: sealed.envelope, pending })
    }

    fn signed(
        &self,
        target: Target,
        operation: Operation,
        max_height: u32,
        rng: &mut impl CryptoRng,
    ) -> Result<Sealed<PendingReply>, Coded> {
        let header = self.header(target, max_height, rng);
        let request = self.sign(&header, operation);
        Ok(self.seal(header, &request, rng)?.0)
    }

    fn header(&self, target: Target, max_height: u32, rng: &mut impl CryptoRng) -> Header {
        Header { genesis: self.key.genesis, target, key_id: self.key.id(), request_id: random_id(rng), max_height }
    }

    fn sign(&self, header: &Header, operation: Operation) -> Request {
        let signature = self.credentials.key.sign(&operation.message(&header.aad())).to_bytes();
        Request::Signed { certificate: self.credentials.certificate.clone(), operation, signature }
    }

    fn seal(
        &self,
        header: Header,
        request: &Request,
        rng: &mut impl CryptoRng,
    ) -> Result<(Sealed<PendingReply>, SenderContext), Coded> {
        let mut text = vec![];
        padding::pad(request, &mut text)?;
        let (enc, mut context) = crypto::sender(&self.recipient, rng)?;
        let ciphertext = context.seal(&text, &header.aad()).map_err(|_| Code::Internal)?;
        let key = Key::export(|out| context.export(crypto::REPLY, out))?;
        let pending = PendingReply { key, request_id: header.request_id };
        let envelope = Envelope { version: VERSION, header, enc, ciphertext }.encode();
        Ok((Sealed { envelope, pending }, context))
    }
}

/// Opens the answer to one request.
pub struct PendingReply {
    key: Key,
    request_id: RequestId,
}

impl PendingReply {
    /// Name of the request, which receipts carry.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Opens an encoded [`Response`]. A refusal that is not sealed is believed only as far as anyone may claim it: that
    /// the request was not accepted.
    pub fn open(&self, response: &[u8]) -> Result<Answer, Coded> {
        if response.len() > MAX_MESSAGE {
            return Err(Code::TooLarge.into());
        }
        match Response::decode_all(&mut &*response).map_err(|_| Code::Malformed)? {
            Response::Sealed(sealed) => {
                let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or(Code::Malformed)?;
                let text = self.key.open(*nonce, &self.request_id, sealed)?;
                padding::unpad::<Result<Answer, Coded>>(&text)?
            }
            Response::Refused(error) if may_be_unsealed(&error) => Err(error),
            Response::Refused(_) => Err(Coded::new(Code::NotAuthentic, "an unsealed answer that must be sealed")),
        }
    }
}

/// Whether a replica says this before it can seal.
fn may_be_unsealed(error: &Coded) -> bool {
    use Code::{
        Busy, BytesBusy, DeadlineTooFar, Expired, Internal, Malformed, NotAuthentic, NotReady, Replayed, StaleHead,
        TooLarge, UnknownKey, WrongAddress, WrongNetwork,
    };
    matches!(
        error.known(),
        Some(
            Busy | BytesBusy
                | DeadlineTooFar
                | Expired
                | Internal
                | Malformed
                | NotAuthentic
                | NotReady
                | Replayed
                | StaleHead
                | TooLarge
                | UnknownKey
                | WrongAddress
                | WrongNetwork
        )
    )
}

/// A session that the replica has not yet confirmed.
pub struct Handshake {
    reply: PendingReply,
    outgoing: Key,
    incoming: Key,
}

impl Handshake {
    /// Opens the replica's confirmation.
    pub fn finish(self, response: &[u8]) -> Result<ClientSession, Coded> {
        match self.reply.open(response)? {
            Answer::Opened(opening) => Ok(ClientSession {
                opening,
                sender: Sender::new(self.outgoing),
                receiver: Receiver::new(self.incoming),
            }),
            _ => Err(Coded::new(Code::Malformed, "the replica did not open a session")),
        }
    }
}

/// The client's end of a session. `sender.seal(&FrameRequest { .. })` and `receiver.open(frame)` may run apart.
pub struct ClientSession {
    /// Terms.
    pub opening: Opening,
    /// Seals requests.
    pub sender: Sender<FrameRequest>,
    /// Opens answers, which may come in any order.
    pub receiver: Receiver<FrameReply>,
}
