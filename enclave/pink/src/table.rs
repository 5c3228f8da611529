//! The functions as data: the documentation is made from it, and a test calls each.

/// How a function answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// As its name says.
    Works,
    /// With an error or a fixed value that a contract can tell from a real answer.
    Says(&'static str),
    /// The contract traps.
    Traps,
}

/// A function of the extension.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its number.
    pub id: u32,
    /// Its name in the contract's crate.
    pub name: &'static str,
    /// In queries.
    pub query: Answer,
    /// In commands.
    pub command: Answer,
    /// What is worth knowing.
    pub note: &'static str,
}

const fn function(id: u32, name: &'static str, query: Answer, command: Answer, note: &'static str) -> Function {
    Function { id, name, query, command, note }
}

use Answer::{Says, Traps, Works};

/// All functions, by number.
pub const FUNCTIONS: &[Function] = &[
    function(1, "http_request", Works, Says("status 523"), "at most as long as the query has left"),
    function(2, "sign", Works, Works, "sr25519, ed25519, ecdsa; a key and message have one signature"),
    function(3, "verify", Works, Works, ""),
    function(4, "derive_sr25519_key", Works, Works, "the same on every replica, another for each contract and salt"),
    function(5, "get_public_key", Works, Works, ""),
    function(6, "cache_set", Works, Works, "memory of this worker; a command's takes effect on every worker"),
    function(7, "cache_set_expiration", Works, Works, ""),
    function(8, "cache_get", Works, Says("None"), ""),
    function(9, "cache_remove", Works, Says("None"), "a command's takes effect on every worker"),
    function(10, "log", Works, Works, "levels 1 (error) to 5 (trace)"),
    function(11, "getrandom", Works, Works, "a command's follow from the contract's secret and its place in the log"),
    function(12, "is_in_transaction", Works, Works, "true in a command"),
    function(13, "ecdsa_sign_prehashed", Works, Works, ""),
    function(14, "ecdsa_verify_prehashed", Works, Works, ""),
    function(15, "system_contract_id", Says("32 zero bytes"), Says("32 zero bytes"), "there is no system contract"),
    function(16, "balance_of", Works, Works, "total and free, which are the same, of the contract itself; others trap"),
    function(17, "worker_pubkey", Works, Says("32 zero bytes"), "ed25519 identity of this start of the worker"),
    function(18, "untrusted_millis_since_unix_epoch", Works, Traps, "the host's clock; `block_timestamp` is agreed on"),
    function(19, "code_exists", Works, Works, "false for programs of SideVM, which is not offered"),
    function(20, "import_latest_system_code", Says("None"), Says("None"), "there is no system contract"),
    function(21, "runtime_version", Works, Works, "(1, 2)"),
    function(22, "batch_http_request", Works, Says("Err(NotAllowed)"), "at most 16 at once"),
    function(
        23,
        "current_event_chain_head",
        Works,
        Works,
        "of this contract's events before this call: number and hash",
    ),
    function(24, "js_eval", Says("Err(\"not supported\")"), Says("Err(\"not supported\")"), "use a contract in Rust"),
    function(25, "worker_sgx_quote", Says("None"), Says("None"), "evidence is on the chain"),
    function(100, "log_reader", Says("()"), Works, "who besides the owner may read the contract's log"),
    function(101, "request", Traps, Works, "HTTP after the command; the answer comes by a call, exactly once"),
    function(102, "set_timer", Traps, Works, "a call at a later time, once or with a period of at least 10 ms"),
    function(103, "cancel_timer", Traps, Works, "of the contract's own timers"),
    function(104, "withdraw", Works, Works, "pays an account of the chain, at least 0.01 PHA; a query's is discarded"),
    function(105, "chain_call", Works, Works, "an extrinsic in the contract's name, 4 KiB; a query's is discarded"),
    function(106, "message", Works, Works, "calls a contract of any cluster, later; 16 KiB; a query's is discarded"),
    function(108, "open_hook", Traps, Works, "HTTP requests to a worker's `/v1/hooks` become calls of the contract"),
    function(109, "close_hook", Traps, Works, ""),
    function(112, "map", Works, Traps, "calls of the contract itself, to read, at once on all cores and replicas"),
];
