//! HTTP requests of others, which become calls of the contract.
//!
//! Whoever knows the address of a worker may send any request to `/v1/hooks/CONTRACT/PATH`. A contract that opened a
//! hook for the path is called with it, in a command; what its message returns becomes the response, once the command is
//! final. The message is called by the contract itself, so nobody else can bring it a request; but anyone may have made
//! the request, so the message checks what it carries, most often a signature over the body:
//!
//! ```ignore
//! #[ink(message, selector = 0x0000_0003)]
//! pub fn pushed(&mut self, request: pink::HookRequest) -> pink::HookResponse {
//!     assert_eq!(self.env().caller(), self.env().account_id());
//!     let signature = request.header("x-hub-signature-256").unwrap_or_default();
//!     if !pink::same(signature, &signed(&self.secret, &request.body)) {
//!         return pink::HookResponse::new(401, "not signed by whom this contract knows");
//!     }
//!     // …
//!     pink::HookResponse::new(200, "")
//! }
//! ```
//!
//! The example `webhook` is such a contract. The request is plain HTTP to a worker: its host sees it, and so what must
//! stay secret does not belong into it.

use crate::ext;
use ink::{
    env::hash::{CryptoHash, Sha2x256},
    prelude::{string::String, vec::Vec},
};

/// Gas of a hook that names none: a twentieth of a second of computing.
const GAS: u64 = 100_000_000;
/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// The message that serves a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    selector: [u8; 4],
    gas: u64,
}

impl Hook {
    /// The message with this selector.
    pub fn new(selector: [u8; 4]) -> Self {
        Self { selector, gas: GAS }
    }

    /// The same with so much gas for each request, at most 200,000,000.
    pub fn gas(mut self, gas: u64) -> Self {
        self.gas = gas;
        self
    }
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct HookRequest {
    /// Such as `POST`.
    pub method: String,
    /// What follows the contract's address in the URL, as it came, without the slash in front.
    pub path: String,
    /// What follows the question mark, as it came.
    pub query: String,
    /// Names in lower case, and values as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body as it came, at most 128 KiB.
    pub body: Vec<u8>,
}

impl HookRequest {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }
}

/// An HTTP response, of at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct HookResponse {
    /// From 200 to 599.
    pub status_code: u16,
    /// Names and values. Cookies and what concerns the connection are left out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HookResponse {
    /// A response without headers.
    ///
    /// ```
    /// assert_eq!(pink::HookResponse::new(200, "fine").body, b"fine");
    /// ```
    pub fn new(status_code: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status_code, headers: Vec::new(), body: body.into() }
    }
}

/// Has requests of this path, and of all below it that no other hook serves, brought to a message. Of a path that has a
/// hook already, this changes it; the empty path serves all. A contract has at most 16. In commands only: a query traps.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// pink::open_hook("github", pink::Hook::new([0, 0, 0, 3]));
/// assert_eq!(mock.hooks(), ["github"]);
/// ```
pub fn open_hook(path: &str, hook: Hook) {
    ext().open_hook(path, hook.selector, hook.gas, 0);
}

/// Takes a hook away. In commands only.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// pink::open_hook("github", pink::Hook::new([0, 0, 0, 3]));
/// pink::close_hook("github");
/// assert!(mock.hooks().is_empty());
/// ```
pub fn close_hook(path: &str) {
    ext().close_hook(path);
}

/// HMAC-SHA-256 (RFC 2104), by which many services sign what they send.
///
/// ```
/// let code = pink::hmac_sha256(b"Jefe", b"what do ya want for nothing?");
/// assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
/// ```
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK];
    match block.get_mut(..key.len()) {
        Some(place) => place.copy_from_slice(key),
        None => block[..32].copy_from_slice(&sha256(key)),
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = sha256(&[&padded(0x36), message].concat());
    sha256(&[&padded(0x5c)[..], &inner].concat())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    Sha2x256::hash(bytes, &mut hash);
    hash
}

/// Whether two texts are the same, in a time that depends on their lengths alone.
///
/// ```
/// assert!(pink::same(b"code", b"code") && !pink::same(b"code", b"cove"));
/// ```
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
