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

/// The worker's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Ending, Counter>,
    query_seconds: Histogram,
    command_seconds: Histogram,
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

/// From 50 µs to 13 s, each bound twice the one before.
fn latency() -> Histogram {
    Histogram::new((0..19).map(|i| 50e-6 * f64::from(1 << i)))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("phala_worker");
        let metrics = Self {
            requests: Family::default(),
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
        match kind {
            "query" => self.query_seconds.observe(took.as_secs_f64()),
            "command" => self.command_seconds.observe(took.as_secs_f64()),
            _ => {}
        }
    }

    /// The text that a Prometheus server scrapes.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
