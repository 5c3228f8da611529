//! What an operator can watch: numbers only, never contents, in the OpenMetrics text format.

use phala_primitives::Code;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// Label of what was asked and how it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ending {
    kind: &'static str,
    /// `ok` or the number of an error code.
    code: String,
}

/// Label of a limit that was reached.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reached {
    /// Number of its error code.
    code: String,
    /// Name of the code.
    name: String,
}

/// Label of where a part of a query was computed: `here`, or by a `peer`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Place {
    place: &'static str,
}

/// The worker's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Ending, Counter>,
    limits: Family<Reached, Counter>,
    parts: Family<Place, Counter>,
    query_seconds: Histogram,
    command_seconds: Histogram,
    /// Bytes that requests and replies under way hold.
    pub(crate) request_bytes: Gauge,
    /// Linear memory of queries beyond the first of each instance, in bytes.
    pub(crate) query_memory: Gauge,
    /// Version of the policy that the cluster follows.
    pub(crate) policy_version: Gauge,
    /// Queries that were let in and have not ended.
    pub(crate) queries_under_way: Gauge,
    /// WebSocket sessions that are open.
    pub(crate) sessions: Gauge,
    /// Height of the command log that was executed last.
    pub(crate) height: Gauge,
    /// Height of the chain's head that the light client verified last.
    pub(crate) chain_height: Gauge,
    /// Commands that wait to be ordered.
    pub(crate) waiting: Gauge,
    /// 1 while the replica leads its cluster.
    pub(crate) leads: Gauge,
    /// Queries that hold a core.
    pub(crate) queries_running: Gauge,
    /// Queries that wait for a core.
    pub(crate) queries_waiting: Gauge,
    /// How often a query had to make room for one of another contract, or for the next of its own.
    pub(crate) preemptions: Gauge,
}

/// Whether the error says that there is a limit.
fn is_limit(code: Code) -> bool {
    use Code::{
        Busy, BytesBusy, CallDepth, CodeTooLarge, CommandTooLarge, ContractBusy, ContractMemoryLimit, GasLimitTooHigh,
        HookBusy, HookTooLarge, HttpOff, MapLimit, MemoryBusy, MemoryLimit, OutOfGas, OutboxFull, QueueFull,
        ReplyTooLarge, SessionLimit, StorageLimit, TimeLimit, TooLarge, TooManyHooks, TooManySessions, UploadLimit,
    };
    matches!(
        code,
        Busy | BytesBusy
            | CallDepth
            | CodeTooLarge
            | CommandTooLarge
            | ContractBusy
            | ContractMemoryLimit
            | GasLimitTooHigh
            | HookBusy
            | HookTooLarge
            | HttpOff
            | MapLimit
            | MemoryBusy
            | MemoryLimit
            | OutOfGas
            | OutboxFull
            | QueueFull
            | ReplyTooLarge
            | SessionLimit
            | StorageLimit
            | TimeLimit
            | TooLarge
            | TooManyHooks
            | TooManySessions
            | UploadLimit
    )
}

/// From 50 µs to 13 s, each bound twice the one before.
fn latency() -> Histogram {
    Histogram::new((0..19).map(|i| 50e-6 * f64::from(1 << i)))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("phala_worker");
        let metrics = Self {
            requests: Family::default(),
            limits: Family::default(),
            parts: Family::default(),
            request_bytes: Gauge::default(),
            query_memory: Gauge::default(),
            policy_version: Gauge::default(),
            queries_under_way: Gauge::default(),
            query_seconds: latency(),
            command_seconds: latency(),
            sessions: Gauge::default(),
            height: Gauge::default(),
            chain_height: Gauge::default(),
            waiting: Gauge::default(),
            leads: Gauge::default(),
            queries_running: Gauge::default(),
            queries_waiting: Gauge::default(),
            preemptions: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered, by kind and by error code", metrics.requests.clone());
        registry.register("limits", "Requests that reached a limit, by error code", metrics.limits.clone());
        registry.register("map_parts", "Parts of queries by where they were computed", metrics.parts.clone());
        registry.register("request_bytes", "Bytes that requests under way hold", metrics.request_bytes.clone());
        registry.register(
            "query_memory_bytes",
            "Linear memory of queries beyond the first 2 MiB of each instance",
            metrics.query_memory.clone(),
        );
        registry.register("policy_version", "Version of the policy followed", metrics.policy_version.clone());
        registry.register("queries_under_way", "Queries let in and not ended", metrics.queries_under_way.clone());
        registry.register("query_seconds", "Time from a query's arrival to its reply", metrics.query_seconds.clone());
        registry.register(
            "command_seconds",
            "Time from a command's arrival to its reply",
            metrics.command_seconds.clone(),
        );
        registry.register("sessions", "Open WebSocket sessions", metrics.sessions.clone());
        registry.register("log_height", "Height of the command log executed last", metrics.height.clone());
        registry.register("chain_height", "Height of the chain verified last", metrics.chain_height.clone());
        registry.register("leads", "1 while the replica leads its cluster", metrics.leads.clone());
        registry.register("commands_waiting", "Commands that wait to be ordered", metrics.waiting.clone());
        registry.register("queries_running", "Queries that hold a core", metrics.queries_running.clone());
        registry.register("queries_waiting", "Queries that wait for a core", metrics.queries_waiting.clone());
        registry.register(
            "query_preemptions",
            "How often a query had to give its core to another since the start",
            metrics.preemptions.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts one answered request.
    pub(crate) fn answered(&self, kind: &'static str, error: Option<Code>, took: Duration) {
        let code = error.map_or_else(|| "ok".to_owned(), |code| code.to_string());
        self.requests.get_or_create(&Ending { kind, code }).inc();
        if let Some(code) = error {
            self.reached(code);
        }
        match kind {
            "query" => self.query_seconds.observe(took.as_secs_f64()),
            "command" => self.command_seconds.observe(took.as_secs_f64()),
            _ => {}
        }
    }

    /// Counts an end that is a limit's doing.
    pub(crate) fn reached(&self, code: Code) {
        if is_limit(code) {
            let label = Reached { code: code.to_string(), name: format!("{code:?}") };
            self.limits.get_or_create(&label).inc();
        }
    }

    /// Counts a part of a query that was computed.
    pub(crate) fn part(&self, place: &'static str) {
        self.parts.get_or_create(&Place { place }).inc();
    }

    /// The text that a Prometheus server scrapes.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
