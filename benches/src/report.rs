//! From measurements to figures: medians over rounds, ratios to the faster native server.

use crate::{compute, fairness::Fairness, scale::Scale, worker::Worker};
use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

/// One measurement, or the medians of several.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Which server.
    pub(crate) server: &'static str,
    /// Clients at once.
    pub(crate) clients: usize,
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Median time of an answer, in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
}

/// What was measured of the engine alone.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Engine {
    /// Against native code and an interpreter.
    #[serde(flatten)]
    pub(crate) compute: compute::Figures,
    /// How contracts share the cores.
    #[serde(flatten)]
    pub(crate) fairness: Fairness,
    /// What a second core brings.
    #[serde(flatten)]
    pub(crate) scale: Scale,
    /// The same on a whole worker.
    #[serde(flatten)]
    pub(crate) worker: Worker,
}

/// The outcome of a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Our throughput with many clients, as a share of the faster native server's. More is better.
    pub(crate) query_throughput_vs_native: f64,
    /// Our median latency with one client, as a multiple of the faster native server's. Less is better.
    pub(crate) query_p50_vs_native: f64,
    /// The engine alone.
    #[serde(flatten)]
    pub(crate) engine: Engine,
    /// What the words in `measured` stand for.
    pub(crate) sides: [(&'static str, &'static str); 3],
    /// How many rounds.
    pub(crate) rounds: usize,
    /// Medians over rounds.
    pub(crate) measured: Vec<Row>,
}

/// Medians and ratios of rounds that all measured the same servers.
pub(crate) fn figures(rounds: &[Vec<Row>], clients: usize, engine: Engine) -> Result<Figures> {
    let mut measured: Vec<Row> = Vec::new();
    for server in ["native http", "native ws", "phala"] {
        for clients in [1, clients] {
            let rows: Vec<&Row> =
                rounds.iter().flatten().filter(|row| row.server == server && row.clients == clients).collect();
            let median = |of: fn(&Row) -> f64| median(rows.iter().map(|row| of(row)).collect());
            let (per_second, p50_us, p99_us) =
                (median(|r| r.per_second)?, median(|r| r.p50_us)?, median(|r| r.p99_us)?);
            if !measured.iter().any(|row| row.server == server && row.clients == clients) {
                measured.push(Row { server, clients, per_second, p50_us, p99_us });
            }
        }
    }
    let of = |ours: bool, clients: usize, figure: fn(&Row) -> f64| {
        let rows = measured.iter().filter(move |row| (row.server == "phala") == ours && row.clients == clients);
        rows.map(figure).collect::<Vec<_>>()
    };
    let most = |figures: Vec<f64>| figures.into_iter().fold(f64::MIN, f64::max);
    let least = |figures: Vec<f64>| figures.into_iter().fold(f64::MAX, f64::min);
    let query_throughput_vs_native =
        most(of(true, clients, |row| row.per_second)) / most(of(false, clients, |row| row.per_second));
    let query_p50_vs_native = least(of(true, 1, |row| row.p50_us)) / least(of(false, 1, |row| row.p50_us));
    let sides = [
        ("native http", "axum, HTTP/1.1 keep-alive, no encryption, no authentication, in memory"),
        ("native ws", "axum, WebSocket, no encryption, no authentication, in memory"),
        ("phala", "encrypted session, WebAssembly, encrypted state, signed receipt verified; SIMULATED enclave"),
    ];
    Ok(Figures { query_throughput_vs_native, query_p50_vs_native, engine, sides, rounds: rounds.len(), measured })
}

pub(crate) fn median(mut figures: Vec<f64>) -> Result<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().context("nothing was measured")
}

/// One round, for those who wait.
pub(crate) fn line(rows: &[Row]) -> String {
    let cell = |row: &Row| format!("{} ×{} {:.0}/s {:.0} µs", row.server, row.clients, row.per_second, row.p50_us);
    rows.iter().map(cell).collect::<Vec<_>>().join(" · ")
}

/// The figures as people read them.
pub(crate) fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["server", "clients", "answers/s", "p50 µs", "p99 µs"]);
    for row in &figures.measured {
        let number = |value: f64| format!("{value:.0}");
        let cells = [row.clients.to_string(), number(row.per_second), number(row.p50_us), number(row.p99_us)];
        table.add_row(std::iter::once(row.server.to_owned()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let (fairness, scale, worker) = (&figures.engine.fairness, &figures.engine.scale, &figures.engine.worker);
    format!(
        "{table}\nthroughput: {:.2} of the faster native server's\np50, one client: {:.2} times the faster native server's\n\
         a light contract's query, p99: {:.2} ms alone, {:.2} ms beside one that wants all cores\n\
         the same on a whole worker: {:.2} ms alone, {:.2} ms beside it\n\
         queries that compute for a millisecond: {:.0}/s on one core, {:.0}/s on two, {:.2} times as many; for 60 µs {:.2} times\n\
         a query that splits its work is {:.2} times as fast",
        figures.query_throughput_vs_native,
        figures.query_p50_vs_native,
        fairness.fairness_alone_p99_ms,
        fairness.fairness_light_p99_ms,
        worker.fairness_worker_alone_p99_ms,
        worker.fairness_worker_light_p99_ms,
        scale.one_per_second,
        scale.two_per_second,
        scale.vertical_scale_1_to_2,
        scale.vertical_scale_short_1_to_2,
        worker.map_speed_up
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_to_the_faster_native_server() {
        let row = |server, clients, per_second, p50_us| Row { server, clients, per_second, p50_us, p99_us: 0.0 };
        let round = |ours: f64| {
            vec![
                row("native http", 1, 10.0, 100.0),
                row("native ws", 1, 20.0, 50.0),
                row("phala", 1, 5.0, ours),
                row("native http", 8, 1000.0, 9.0),
                row("native ws", 8, 800.0, 9.0),
                row("phala", 8, 250.0, 9.0),
            ]
        };
        let figures = figures(&[round(75.0), round(9000.0), round(60.0)], 8, Engine::default()).unwrap();
        assert_eq!(figures.query_throughput_vs_native, 0.25);
        assert_eq!(figures.query_p50_vs_native, 1.5);
        assert_eq!(figures.measured.len(), 6);
    }
}
