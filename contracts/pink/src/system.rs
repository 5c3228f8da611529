//! Where the contract runs, and chance.

use crate::ext;
use ink::{prelude::vec::Vec, primitives::Hash};

/// Random bytes, at most 255. In a query they are the machine's. In a command they follow from the contract's secret
/// and the command's place in the log: the same on every replica, and nobody foresees them who has not the secret.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert_eq!(pink::random(16).len(), 16);
/// ```
pub fn random(length: u8) -> Vec<u8> {
    ext().getrandom(length)
}

/// Whether this is a command: it runs on every replica, and touches nothing outside.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_command(true);
/// assert!(pink::is_command());
/// ```
pub fn is_command() -> bool {
    ext().is_in_transaction()
}

/// Milliseconds since 1970 by the worker's clock, which its operator sets. In queries only: a command traps, and has
/// `block_timestamp`, on which the cluster agrees.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert!(pink::untrusted_time_ms() > 0);
/// ```
pub fn untrusted_time_ms() -> u64 {
    ext().untrusted_millis_since_unix_epoch()
}

/// Whether the cluster holds the code with this hash.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert!(!pink::code_exists([1; 32].into()));
/// ```
pub fn code_exists(hash: Hash) -> bool {
    ext().code_exists(hash, false)
}

/// The Ed25519 identity of the worker that answers a query; new at each of its starts. `None` in a command, which has
/// no worker of its own.
///
/// ```
/// # let mock = pink::mock::install();
/// assert!(pink::worker_key().is_some());
/// # mock.set_command(true);
/// # assert!(pink::worker_key().is_none());
/// ```
pub fn worker_key() -> Option<[u8; 32]> {
    Some(ext().worker_pubkey()).filter(|key| *key != [0; 32])
}

/// Version of the functions, such as (1, 2).
///
/// ```
/// # let _mock = pink::mock::install();
/// assert_eq!(pink::runtime_version(), (1, 2));
/// ```
pub fn runtime_version() -> (u32, u32) {
    ext().runtime_version()
}

/// How many events this contract has emitted before this call, and the head of the chain of their hashes. Whoever reads
/// the log holds it against this, and knows that no event was withheld: see `EventChain` of the network's sessions.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert_eq!(pink::event_chain().0, 0);
/// ```
pub fn event_chain() -> (u64, Hash) {
    ext().current_event_chain_head()
}
