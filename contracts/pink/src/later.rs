//! What a command asks for and gets later: answers of servers, and calls at a time.
//!
//! The network calls the contract back by a message that [`Callback`] names. The message is called by the contract
//! itself, so it begins by making sure that nobody else calls it:
//!
//! ```ignore
//! #[ink(message, selector = 0x0000_0001)]
//! pub fn arrived(&mut self, job: u64, tag: Vec<u8>, result: pink::HttpResult) {
//!     assert_eq!(self.env().caller(), self.env().account_id());
//!     // …
//! }
//!
//! #[ink(message, selector = 0x0000_0002)]
//! pub fn tick(&mut self, job: u64, tag: Vec<u8>) {
//!     assert_eq!(self.env().caller(), self.env().account_id());
//!     // …
//! }
//! ```

use crate::{ext, HttpRequest};
use ink::prelude::vec::Vec;

/// Gas of a callback that names none: a tenth of a second of computing.
const GAS: u64 = 200_000_000;

/// The message that is called back, and what it is told besides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct Callback {
    selector: [u8; 4],
    tag: Vec<u8>,
    gas: u64,
}

impl Callback {
    /// A call of the message with this selector.
    pub fn new(selector: [u8; 4]) -> Self {
        Self { selector, tag: Vec::new(), gas: GAS }
    }

    /// The same with a tag of at most 1024 bytes, by which the message knows what it is about.
    pub fn tag(mut self, tag: impl Into<Vec<u8>>) -> Self {
        self.tag = tag.into();
        self
    }

    /// The same with so much gas, at most 1,000,000,000.
    pub fn gas(mut self, gas: u64) -> Self {
        self.gas = gas;
        self
    }
}

/// Has a request made once this command is final. The callback gets its name, which is returned here, the tag, and what
/// came of it: exactly once, whatever happens to servers and workers. The server may see the request more than once. A
/// request is at most 64 KiB, its response 256 KiB. In commands only: a query traps.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// let request = pink::HttpRequest::post("https://example.com/", "paid");
/// let job = pink::request_later(request, 5_000, pink::Callback::new([0, 0, 0, 1]).tag("order 7"));
/// assert_eq!(mock.jobs(), [job]);
/// ```
pub fn request_later(request: HttpRequest, timeout_ms: u64, callback: Callback) -> u64 {
    ext().request(request, timeout_ms, callback)
}

/// Has the callback made once, after so many milliseconds. Returns the timer's name. In commands only.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// let job = pink::call_after(60_000, pink::Callback::new([0, 0, 0, 2]));
/// pink::cancel(job);
/// assert!(mock.jobs().is_empty());
/// ```
pub fn call_after(delay_ms: u64, callback: Callback) -> u64 {
    ext().set_timer(delay_ms, 0, callback)
}

/// Has the callback made again and again, each so many milliseconds, at least 10, until it is cancelled. Calls that the
/// cluster was too late for are left out. In commands only.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// let job = pink::call_each(50, pink::Callback::new([0, 0, 0, 2]));
/// assert_eq!(mock.jobs(), [job]);
/// ```
pub fn call_each(period_ms: u64, callback: Callback) -> u64 {
    ext().set_timer(period_ms, period_ms, callback)
}

/// Ends a timer of this contract. In commands only.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// pink::cancel(pink::call_each(50, pink::Callback::new([0, 0, 0, 2])));
/// assert!(mock.jobs().is_empty());
/// ```
pub fn cancel(timer: u64) {
    ext().cancel_timer(timer);
}
