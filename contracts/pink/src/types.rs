//! What crosses between contract and network, in SCALE.

use ink::prelude::{string::String, vec::Vec};

/// A request to a server on the internet.
///
/// ```
/// let request = pink::HttpRequest::get("https://example.com/").header("Accept", "application/json");
/// assert_eq!((request.method.as_str(), request.headers.len()), ("GET", 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct HttpRequest {
    /// `https://` or `http://`.
    pub url: String,
    /// Such as `GET`.
    pub method: String,
    /// Names and values, at most 256.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// A request with this method, without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { url: url.into(), method: method.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `POST` with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// The same with one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct HttpResponse {
    /// Such as 200. Also 523 if the request is not allowed or failed, and 524 if the server took too long.
    pub status_code: u16,
    /// Such as `OK`.
    pub reason_phrase: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Whether the status is between 200 and 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum HttpError {
    /// The URL cannot be read, or is of another kind than HTTP.
    InvalidUrl,
    /// There is no such method.
    InvalidMethod,
    /// A header's name has characters that names have not, or there are too many headers.
    InvalidHeaderName,
    /// A header's value has characters that values have not.
    InvalidHeaderValue,
    /// The worker cannot make requests now.
    FailedToCreateClient,
    /// The server did not answer in time.
    Timeout,
    /// A command must not wait for the outside, or the policy of the worker forbids the address.
    NotAllowed,
    /// More than 16 at once.
    TooManyRequests,
    /// The server cannot be reached.
    NetworkError,
    /// More than 2 MiB.
    ResponseTooLarge,
}

/// What came of one request.
pub type HttpResult = Result<HttpResponse, HttpError>;

/// Why a part of a query has no answer, as the network says it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum MapError {
    /// The contract took it back, and returned this.
    Reverted(Vec<u8>),
    /// It failed with the error of this number.
    Failed(u16),
}

/// What came of a part of a query.
pub type MapResult = Result<Vec<u8>, MapError>;

/// A kind of signature, as Substrate's accounts know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum SigType {
    /// Keys of 64 bytes, as [`derive_sr25519_key`](crate::derive_sr25519_key) gives them, or seeds of 32.
    Sr25519,
    /// Seeds of 32 bytes.
    Ed25519,
    /// Secp256k1 over the BLAKE2b-256 of the message; keys of 32 bytes.
    Ecdsa,
}

/// The contract's share of the worker's cache is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct StorageQuotaExceeded;

/// Why nothing is paid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum WithdrawError {
    /// The contract owns less, or would be left with dust.
    TooLittle,
    /// Less than an account of the chain can live with: 0.01 PHA.
    TooSmall,
}

/// Why a message to another contract is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum MessageError {
    /// The contract owns less, or would be left with dust.
    TooLittle,
    /// Money goes along, but less than may move: 0.0001 PHA.
    TooSmall,
    /// The arguments are longer than 16 KiB.
    InputTooLong,
}

/// A `Result` that the network returns.
///
/// ink! takes a plain `Result` of an extension for something else: it decodes the value of `Ok` alone and expects the
/// error elsewhere. Behind another type it is decoded as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode)]
pub struct Kept<T, E>(pub Result<T, E>);
