//! End-to-end encryption between a client and one replica.
//!
//! Sans-io: bytes go in, bytes come out; time, randomness and the chain's height are handed in by the caller. The
//! replica's side is [`Acceptor`], the client's is [`Client`].
//! All structures are SCALE encoded; "over" a structure means over its SCALE bytes; hashes are BLAKE2b-256; domain
//! strings that begin a signed tuple are SCALE strings (length, then UTF-8).
//!
//! # Keys
//!
//! A replica has an *identity* (ed25519, made afresh at every start, on the chain with its evidence) and *session
//! keys* (X25519). The [`Acceptor`] makes a session key every hour, keeps the one before for ten more minutes, then wipes
//! it: what was sealed to a wiped key can never be opened again. It publishes the newest as a [`SignedSessionKey`].
//! A client verifies that against the identity it read from the chain, before it seals anything.
//!
//! An account signs once a [`SessionCertificate`] that names an ed25519 key made by the client, a scope and a time.
//! What it signs is a text, [`SessionCertificate::text`], so that wallets can show it.
//!
//! # One request
//!
//! 1. The client draws a [`RequestId`], and builds a [`Header`] with the highest chain height at which the request
//!    may be opened. `aad = SCALE(version, header)`.
//! 2. It encodes a [`Request`]. A [`Request::Signed`] carries a signature by the certificate's key over
//!    `("phala/request/v2", hash(aad), hash(operation))`, so that a stolen certificate is worth nothing and no request
//!    can be moved under another header. A [`Request::Command`] carries the command's own signature, which every
//!    replica of the cluster checks again.
//! 3. It pads the encoding to a bucket (see below) and seals it with HPKE (RFC 9180), base mode,
//!    DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, `info = "phala/session/v1"`, and sends the [`Envelope`].
//! 4. The replica ([`Acceptor::open`]) checks in this order: size, decoding, network, worker, height, key, whether the
//!    id was seen, decryption, certificate (network, time, signature), signature, scope, address, deadline; then it
//!    remembers the id until the request's highest height has passed. Each failure has its own code.
//! 5. The reply is `Result<Answer, Coded>`, padded, under AES-256-GCM with the key exported from the same HPKE context
//!    under `"phala/reply/v1"`, a random nonce of 12 bytes in front, `AAD = request id`. It travels in a [`Response`].
//!    What a replica cannot seal because it could not decrypt is [`Response::Refused`]: a hint, not evidence.
//!
//! # A session of many requests
//!
//! The first message is an envelope with [`Operation::Open`], answered by [`Answer::Opened`]. After that both sides
//! send frames: a counter (u64 little endian), then AES-256-GCM under the key exported under `"phala/c2s/v1"` or
//! `"phala/s2c/v1"`, nonce = four zero bytes and the eight of the counter, AAD empty, plaintext a padded
//! [`FrameRequest`] or [`FrameReply`]. Counters grow strictly; a frame that is replayed or overtaken is refused.
//! Many requests may be in flight. A session lives at most an hour and never longer than its certificate.
//!
//! [`Call::Follow`] subscribes to a contract's log: the replica sends pages under the request's id as records come, each
//! when the one before is on its way, and ends with an error. A client goes on at any replica of the cluster by asking
//! from the number after the last record that it has: what commands say is the same everywhere, numbers included.
//!
//! # Padding
//!
//! Plaintext is `u32 length ++ content ++ zeros`, of the smallest size that fits among 256, 1 Ki, 4 Ki, 16 Ki, 64 Ki
//! and 256 Ki bytes; above, sizes are the multiples of an eighth of the greatest power of two that is not greater, so
//! that at most an eighth is added, up to [`MAX_PADDED`]. A receiver refuses any other size and any padding that is not
//! zero.
//!
//! # Receipts
//!
//! An answer to a query comes with a [`QueryReceipt`], signed by the replica's identity. How new its state has to be, the
//! query says by a height and a [`Freshness`]. The outcome of a command comes
//! with a [`CommandReceipt`]: the entry's header, the certificate by which the cluster finalised it, the command's
//! Merkle path into it, and the replica's signature over the outcome.
//!
//! # Deliberately absent
//!
//! No secret type prints or is cloned; all are wiped when dropped. No type that carries a caller's plaintext prints it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod acceptor;
mod certificate;
mod client;
mod command;
mod crypto;
mod frames;
mod keyring;
mod padding;
mod receipt;
mod replay;
mod rng;
#[cfg(test)]
mod tests;
mod wire;

pub use acceptor::{
    Acceptor, FrameCall, Incoming, Opened, Place, REPLAY_WINDOW, Refusal, ReplySealer, ServerReceiver, ServerSession,
};
pub use certificate::{CertificateCache, MAX_SCOPE, Scope, SessionCertificate, SignedCertificate};
pub use client::{Client, ClientSession, Credentials, Handshake, PendingReply, Sealed, random_id};
pub use command::{Action, Command, CommandId, InputId, SignedCommand};
pub use frames::{MAX_SESSION_MS, Receiver, Sender};
pub use keyring::{GRACE_MS, ROTATE_MS};
pub use phala_primitives::RequestId;
pub use receipt::{CommandReceipt, Outcome, Output, QueryReceipt, ReceiptError};
pub use rng::SystemRng;
pub use wire::{
    Answer, BalanceQuery, Call, Envelope, EventChain, FrameReply, FrameRequest, Freshness, Header, KeyId, LogPage,
    LogQuery, LogRecord, MAX_HEADERS, MAX_PADDED, Opening, Operation, PartQuery, Query, Rehearsal, Rehearsed, Request,
    Response, Said, SessionKey, SignedSessionKey, Target, VERSION,
};
