//! What crosses between contract and host, in the encoding of Phala's `pink` crate.

use codec::{Decode, DecodeAll, Encode};

/// Most requests of one batch.
pub const MAX_HTTP_REQUESTS: usize = 16;
/// Most headers of a request or response.
pub const MAX_HTTP_HEADERS: usize = 256;
/// Largest body of a response, in bytes. A larger one is [`HttpError::ResponseTooLarge`].
pub const MAX_HTTP_RESPONSE: usize = 2 << 20;
/// Longest time for a request, in milliseconds. A query gives less when it has less left.
pub const MAX_HTTP_TIMEOUT_MS: u64 = 60_000;
/// Largest request of a command in its encoding, in bytes: it is kept in the state.
pub const MAX_REQUEST: usize = 64 << 10;
/// Longest tag of a callback, in bytes.
pub const MAX_TAG: usize = 1024;
/// Longest path of a hook, in bytes.
pub const MAX_HOOK_PATH: usize = 128;
/// Most gas of the call that answers a hook, a tenth of a second of computing: anyone on the internet may cause it.
pub const MAX_HOOK_GAS: u64 = 200_000_000;
/// Longest line of a log, in bytes. What comes after is cut off.
pub const MAX_LOG: usize = 16 << 10;

/// A request to a server on the internet.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpRequest {
    /// `https://` or `http://`.
    pub url: String,
    /// Such as `GET`.
    pub method: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the server said.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpResponse {
    /// Such as 200. 523 and 524 also stand for errors of a single `http_request`, see [`HttpError`].
    pub status_code: u16,
    /// Such as `OK`.
    pub reason_phrase: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum HttpError {
    /// The URL cannot be read, or is of another kind than HTTP.
    InvalidUrl,
    /// There is no such method.
    InvalidMethod,
    /// A header's name has characters that names have not.
    InvalidHeaderName,
    /// A header's value has characters that values have not.
    InvalidHeaderValue,
    /// The host cannot make requests now.
    FailedToCreateClient,
    /// The server did not answer in time.
    Timeout,
    /// A command must not wait for the outside, or the policy of the worker forbids the address.
    NotAllowed,
    /// More than [`MAX_HTTP_REQUESTS`] at once.
    TooManyRequests,
    /// The server cannot be reached.
    NetworkError,
    /// More than [`MAX_HTTP_RESPONSE`] bytes.
    ResponseTooLarge,
}

/// An HTTP request that came to a worker for a contract.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HookRequest {
    /// Such as `POST`.
    pub method: String,
    /// What follows the contract's address, as it came, without the slash in front.
    pub path: String,
    /// What follows the question mark, as it came.
    pub query: String,
    /// Names in lower case, and values as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// What a contract answers to it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct HookResponse {
    /// From 200 to 599.
    pub status_code: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What came of one request.
pub type HttpResult = Result<HttpResponse, HttpError>;

impl HookResponse {
    /// Reads what a message of ink! returned: a `Result` of the language around it.
    pub fn from_output(data: &[u8]) -> Option<Self> {
        Result::<Self, u8>::decode_all(&mut &*data).ok()?.ok()
    }
}

impl HttpError {
    /// The response by which a single `http_request`, which has no room for errors, tells it: 524 for a timeout, 523
    /// for all else.
    pub(crate) fn into_response(self) -> HttpResponse {
        let (status_code, reason) = match self {
            Self::Timeout => (524, "Timeout".to_owned()),
            other => (523, format!("API Unavailable: {other:?}")),
        };
        HttpResponse { status_code, reason_phrase: reason, headers: vec![], body: vec![] }
    }
}

/// A kind of signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum SigType {
    Sr25519,
    Ed25519,
    Ecdsa,
}

/// The contract's share of the worker's cache is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct StorageQuotaExceeded;

/// Why nothing is paid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum WithdrawError {
    /// The contract owns less, or would be left with dust.
    TooLittle,
    /// Less than an account of the chain can live with.
    TooSmall,
}

/// Why a message to another contract is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) enum MessageError {
    /// The contract owns less, or would be left with dust.
    TooLittle,
    /// Money goes along, but less than may move.
    TooSmall,
    /// The input is longer than a message may be.
    InputTooLong,
}
