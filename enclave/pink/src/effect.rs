//! What a command asks for that is done when its entry is executed.

use crate::HttpRequest;
use codec::{Decode, Encode};
use phala_primitives::{AccountId, Balance};

/// One such thing. The bytes of a `phala_vm::Effect` are the SCALE encoding.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Effect {
    /// A line for the contract's log.
    Log {
        /// 1 (error) to 5 (trace).
        level: u8,
        /// At most [`MAX_LOG`](crate::MAX_LOG) bytes.
        text: String,
    },
    /// A change of the cache of every worker of the cluster.
    Cache(CacheOp),
    /// A request to the outside, whose answer comes to the contract by a call.
    Request {
        /// Its name in this cluster.
        id: u64,
        /// The request.
        request: HttpRequest,
        /// Longest time for an answer, in milliseconds.
        timeout_ms: u64,
        /// What to call.
        callback: Callback,
    },
    /// A call at a later time.
    Timer {
        /// Its name in this cluster.
        id: u64,
        /// How long from now, in milliseconds.
        delay_ms: u64,
        /// Time between further calls; 0 for one call only.
        period_ms: u64,
        /// What to call.
        callback: Callback,
    },
    /// No more calls of a timer of this contract.
    CancelTimer {
        /// The timer.
        id: u64,
    },
    /// Who besides the owner may read what the contract says.
    LogReader {
        /// An account, or everyone.
        who: Option<AccountId>,
        /// Whether it may.
        allowed: bool,
    },
    /// Money that has left the contract's balance, for an account of the chain.
    Withdraw {
        /// The account.
        to: AccountId,
        /// How much.
        amount: Balance,
    },
    /// A call of the chain in the name of the contract.
    ChainCall {
        /// Encoded `RuntimeCall`, at most `MAX_DISPATCH` bytes.
        call: Vec<u8>,
    },
    /// A call of another contract, in whichever cluster it is. The money has left the contract's balance.
    #[codec(index = 106)]
    Message {
        /// The contract.
        to: AccountId,
        /// Selector and arguments, at most `MAX_PARCEL` bytes.
        input: Vec<u8>,
        /// Money that goes along.
        value: Balance,
    },
    /// HTTP requests of a path become calls, see [`HookRequest`](crate::HookRequest).
    #[codec(index = 108)]
    OpenHook(Hook),
    /// They become calls no longer.
    #[codec(index = 109)]
    CloseHook {
        /// The hook's path.
        path: String,
    },
}

/// Where HTTP requests to workers reach a contract.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hook {
    /// It serves this path and all below; the empty one serves all. Without slashes at its ends.
    pub path: String,
    /// Selector of the message. It gets the request and returns the response; the caller is the contract itself.
    pub selector: [u8; 4],
    /// Gas for the call.
    pub gas: u64,
}

impl Hook {
    /// Whether requests of this path are its own, unless another hook is more precise.
    pub fn serves(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

/// The message of a contract that is called when something has come to an end. It gets the name of the request or timer
/// (`u64`), the tag, and, for a request, `Result<HttpResponse, HttpError>`; the caller is the contract itself.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Callback {
    /// Selector of the message.
    pub selector: [u8; 4],
    /// What the contract wants to be reminded of.
    pub tag: Vec<u8>,
    /// Gas for the call.
    pub gas: u64,
}

/// A change of a contract's cache.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum CacheOp {
    /// Keeps a value.
    Set {
        /// Its name.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Forgets a value after some seconds from now.
    Expire {
        /// Its name.
        key: Vec<u8>,
        /// From now.
        seconds: u64,
    },
    /// Forgets a value.
    Remove {
        /// Its name.
        key: Vec<u8>,
    },
}
