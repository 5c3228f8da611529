//! What a contract may use, and what the engine has to give.
//!
//! [`Limits`] are those of one execution. Every replica of a cluster must use the same for a command, because reaching
//! one is part of the outcome; so they come from the state that the execution starts from, see
//! [`World::limits`](crate::World::limits). [`Capacity`] is the engine's own and for each host to choose: an instance of
//! the greatest memory that limits allow fits into each place of its pool, as address space, which costs nothing.

use phala_primitives::{ClusterPolicy, limits::MAX_CODE};

/// Bytes of a WebAssembly page.
pub(crate) const PAGE: usize = 64 << 10;
/// Most linear memory that limits may allow.
pub(crate) const MAX_MEMORY: usize = 1 << 30;
/// Deepest calls that limits may allow.
pub(crate) const MAX_DEPTH: usize = 32;
/// Elements of the table of functions. Part of the outcome of commands, so not for hosts to choose.
pub(crate) const TABLE_ELEMENTS: usize = 64 << 10;
/// Native stack of one contract in one call, in bytes. As above.
pub(crate) const STACK_BYTES: usize = 256 << 10;
/// Largest code that the engine takes, in bytes.
pub(crate) const CODE_BYTES: usize = MAX_CODE;

/// Bounds of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one contract in one call, in bytes; at most 1 GiB.
    pub memory_bytes: usize,
    /// Linear memory of all calls that are under way for a contract that was asked, in bytes: those of its queries at
    /// this replica together, and those of one command.
    pub total_memory_bytes: usize,
    /// How many contracts may be under way inside each other, the first included; at most 32.
    pub call_depth: usize,
    /// Longest storage key, in bytes.
    pub key_bytes: usize,
    /// Longest storage value, in bytes.
    pub value_bytes: usize,
    /// Most bytes of keys and values that one execution may hold back for writing.
    pub change_bytes: usize,
    /// Longest input and output of a call of one contract by another in a command, in bytes. What a contract was asked
    /// with may be longer, and be handed on as it is.
    pub call_bytes: usize,
    /// Longest input and output of a query or command, and of a call of one contract by another in a query, in bytes.
    pub message_bytes: usize,
    /// Most events of one execution.
    pub events: usize,
    /// Longest data of one event, in bytes.
    pub event_bytes: usize,
    /// Most topics of one event.
    pub topics: usize,
    /// Most effects of an extension in one execution.
    pub effects: usize,
    /// Most bytes of them together.
    pub effect_bytes: usize,
    /// Debug messages of one execution that are kept, in bytes; what comes after is dropped.
    pub debug_bytes: usize,
    /// Queries that may be under way for one contract at once, those that wait included.
    pub contract_queries: usize,
    /// HTTP requests that one query may make at once.
    pub http_requests: usize,
    /// Parts into which a query may split its work at once.
    pub map_parts: usize,
    /// Longest time of a query, in milliseconds, for whoever lets it wait for something outside.
    pub query_ms: u64,
}

impl Limits {
    /// The limits of a cluster with this policy.
    pub const fn of(policy: &ClusterPolicy) -> Self {
        let ClusterPolicy { memory_bytes, total_memory_bytes, message_bytes, value_bytes, call_depth, .. } = *policy;
        Self {
            memory_bytes: memory_bytes as usize,
            total_memory_bytes: total_memory_bytes as usize,
            call_depth: call_depth as usize,
            key_bytes: 128,
            value_bytes: value_bytes as usize,
            change_bytes: 4 << 20,
            call_bytes: 1 << 20,
            message_bytes: message_bytes as usize,
            events: 1024,
            event_bytes: 64 << 10,
            topics: 8,
            effects: 256,
            effect_bytes: 1 << 20,
            debug_bytes: 64 << 10,
            contract_queries: policy.queries as usize,
            http_requests: policy.http_requests as usize,
            map_parts: policy.map_parts as usize,
            query_ms: policy.query_ms,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&ClusterPolicy::DEFAULT)
    }
}

/// What an engine has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Commands that may execute at once; further ones wait.
    pub concurrent_commands: usize,
    /// Queries that may run at once: as many as the machine has cores. Further ones wait for their turn.
    pub query_slots: usize,
    /// Queries that may have been started and not ended, running or not: each holds an instance. At least twice the
    /// slots, because one contract gets no more than half of them.
    pub concurrent_queries: usize,
    /// Queries that may be under way at once, those that wait for their start included; further ones are refused with
    /// `Busy`.
    pub queries: usize,
    /// Linear memory of all queries, in bytes, beyond the first 2 MiB of each instance. A contract gets more of it only
    /// while it holds less than is free.
    pub query_memory: usize,
    /// Compiled code kept per mode, in bytes.
    pub cache_bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            concurrent_commands: 2,
            query_slots: 2,
            concurrent_queries: 32,
            queries: 256,
            query_memory: 4 << 30,
            cache_bytes: 64 << 20,
        }
    }
}

impl Capacity {
    /// The usual capacity of a machine with so many cores.
    pub fn for_cores(cores: usize) -> Self {
        let capacity = Self::default();
        let query_slots = cores.max(1);
        let concurrent_queries = capacity.concurrent_queries.max(query_slots.saturating_mul(4));
        Self { query_slots, concurrent_queries, ..capacity }
    }
}
