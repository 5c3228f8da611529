//! What queries reach beyond the cluster. The host implements it; nothing that comes from there is trusted.

use crate::{
    map::{MapResult, Parts},
    types::{HttpRequest, HttpResult},
};
use phala_primitives::AccountId;

/// The outside world of queries, and where logs go. Methods may block their thread.
pub trait Outside: Send + Sync + 'static {
    /// Makes requests, all at once; as many results in the same order, after `timeout_ms` at the latest. The policy of
    /// the worker decides which addresses may be reached.
    fn http(&self, contract: &AccountId, requests: Vec<HttpRequest>, timeout_ms: u64) -> Vec<HttpResult>;
    /// Fills bytes with random numbers of the machine.
    fn random(&self, bytes: &mut [u8]);
    /// The host's clock, in milliseconds since 1970.
    fn now_ms(&self) -> u64;
    /// A line of a contract's log, from a query. Levels are 1 (error) to 5 (trace).
    fn log(&self, contract: &AccountId, level: u8, text: &str);
    /// Runs the parts of a query, wherever it is done soonest; as many results in the same order, when the query's time
    /// is over at the latest.
    fn map(&self, parts: Parts) -> Vec<MapResult> {
        parts.run_all()
    }
}
