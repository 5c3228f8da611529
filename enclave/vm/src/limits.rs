//! What a contract may use. Every replica of a cluster must use the same limits: reaching one is part of the outcome.
//! Excepted are those of queries and of what runs at once, which are for each host to choose.

use phala_primitives::limits::MAX_CODE;

/// Bytes of a WebAssembly page.
pub(crate) const PAGE: usize = 64 << 10;

/// Bounds of one execution and of the engine that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest code of a contract, in bytes.
    pub code_bytes: usize,
    /// Linear memory of one contract in one call, in bytes; a multiple of 64 KiB.
    pub memory_bytes: usize,
    /// How many contracts may be under way inside each other, the first included.
    pub call_depth: usize,
    /// Longest storage key, in bytes.
    pub key_bytes: usize,
    /// Longest storage value, in bytes.
    pub value_bytes: usize,
    /// Most bytes of keys and values that one execution may hold back for writing.
    pub change_bytes: usize,
    /// Longest input of a call, in bytes.
    pub input_bytes: usize,
    /// Longest output of a call, in bytes.
    pub output_bytes: usize,
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
    /// Elements of the table of functions.
    pub table_elements: usize,
    /// Native stack of one contract in one call, in bytes.
    pub stack_bytes: usize,
    /// Commands that may execute at once; further ones wait.
    pub concurrent_commands: usize,
    /// Queries that may run at once: as many as the machine has cores. Further ones wait for their turn.
    pub query_slots: usize,
    /// Queries that may have been started and not ended, running or not: each holds an instance. At least twice the
    /// slots, because one contract gets no more than half of them.
    pub concurrent_queries: usize,
    /// Queries that may be under way at once, those that wait for their start included; further ones are refused with
    /// `Busy`. Each holds a thread.
    pub queries: usize,
    /// The same for the queries of one contract.
    pub contract_queries: usize,
    /// Compiled code kept per mode, in bytes.
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes: MAX_CODE,
            memory_bytes: 64 << 20,
            call_depth: 16,
            key_bytes: 128,
            value_bytes: 64 << 10,
            change_bytes: 4 << 20,
            input_bytes: 1 << 20,
            output_bytes: 1 << 20,
            events: 1024,
            event_bytes: 64 << 10,
            topics: 8,
            effects: 256,
            effect_bytes: 1 << 20,
            debug_bytes: 64 << 10,
            table_elements: 16 << 10,
            stack_bytes: 256 << 10,
            concurrent_commands: 2,
            query_slots: 2,
            concurrent_queries: 32,
            queries: 256,
            contract_queries: 64,
            cache_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// The usual limits on a machine with so many cores.
    pub fn for_cores(cores: usize) -> Self {
        let limits = Self::default();
        let query_slots = cores.max(1);
        let concurrent_queries = limits.concurrent_queries.max(query_slots.saturating_mul(4));
        Self { query_slots, concurrent_queries, ..limits }
    }
}
