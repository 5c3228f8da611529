//! What does running as a contract cost? The same kernels natively, as a query, as a command, and on wasmi.
//!
//! All four run the source of `phala-kernels`, compiled with the same optimisation. As a contract each run is a whole
//! call: a fresh instance, the kernel, the answer. Compilation is done before. What wasmi is given is the same module.
//!
//! Besides: what a call costs that does nothing, and what it adds to read, to write, and to call another contract. The
//! state behind is in memory, so these are the engine's share alone.

mod contract;
mod engine;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use engine::{Message, Operation, Vm};
use phala_interpreter::Interpreter;
use phala_kernels::KERNELS;
use serde::Serialize;
use std::{path::Path, time::Instant};

/// Runs in a loop for what takes microseconds.
const SHORT_RUNS: usize = 2_000;
/// Host calls in one run, so that the run itself does not count.
const HOST_CALLS: u32 = 1_000;
/// As for storage; the engine makes an instance for each.
const NESTED_CALLS: u32 = 200;

/// A kernel's times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Which kernel.
    pub(crate) kernel: &'static str,
    /// As part of this program.
    pub(crate) native_ms: f64,
    /// As a query, bounded by time.
    pub(crate) query_ms: f64,
    /// As a command, bounded by gas.
    pub(crate) command_ms: f64,
    /// On the interpreter.
    pub(crate) wasmi_ms: f64,
}

/// What came of it. Ratios are of times: less is better.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// A query's time as a multiple of the native one, geometric mean over the kernels.
    pub(crate) vm_query_vs_native_geomean: f64,
    /// The same in the median of the kernels.
    pub(crate) vm_query_vs_native_median: f64,
    /// A command's time as a multiple of the native one.
    pub(crate) vm_command_vs_native_geomean: f64,
    /// A query's time as a share of the interpreter's.
    pub(crate) vm_query_vs_wasmi_geomean: f64,
    /// A query that does nothing, in microseconds.
    pub(crate) instantiate_call_us_p50: f64,
    /// What reading 32 bytes adds to a query, in microseconds.
    pub(crate) storage_read_us: f64,
    /// What writing 32 bytes adds.
    pub(crate) storage_write_us: f64,
    /// What calling another contract adds.
    pub(crate) nested_call_us: f64,
    /// Medians over rounds.
    pub(crate) kernels: Vec<Row>,
}

/// Measures all kernels in each of `rounds`, in this module or in one that is compiled for it.
pub(crate) fn measure(checkout: &Path, module: Option<&Path>, rounds: usize) -> Result<Figures> {
    ensure!(rounds > 0, "all numbers must be above zero");
    let code = match module {
        Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
        None => {
            eprintln!("compiling the kernels as a contract");
            contract::compile(checkout)?
        }
    };
    let (vm, interpreter) = (Vm::new(&code)?, Interpreter::new()?);
    eprintln!("measuring {} kernels in {rounds} rounds", KERNELS.len());
    let mut measured = vec![[const { Vec::new() }; 4]; KERNELS.len()];
    for round in 0..rounds {
        for (number, (name, kernel, runs)) in KERNELS.into_iter().enumerate() {
            let message = Message { operation: Operation::Compute, argument: number as u32, rounds: runs };
            let expected = kernel(runs);
            // The order rotates, so that no engine is always measured after the same other.
            for turn in 0..4 {
                let side = (round + turn) % 4;
                let begin = Instant::now();
                let answer = match side {
                    0 => kernel(std::hint::black_box(runs)),
                    1 => vm.query(message)?,
                    2 => vm.command(message)?,
                    _ => vm.interpret(&interpreter, message)?,
                };
                measured[number][side].push(begin.elapsed().as_secs_f64() * 1e3);
                ensure!(answer == expected, "{name} on side {side} comes to {answer:x}, not to {expected:x}");
            }
        }
    }
    let kernels = KERNELS.into_iter().zip(measured).map(|((kernel, ..), [native, query, command, wasmi])| {
        let (native_ms, query_ms) = (median(native)?, median(query)?);
        Ok(Row { kernel, native_ms, query_ms, command_ms: median(command)?, wasmi_ms: median(wasmi)? })
    });
    figures(&vm, kernels.collect::<Result<_>>()?)
}

fn figures(vm: &Vm, kernels: Vec<Row>) -> Result<Figures> {
    let geomean =
        |ratio: fn(&Row) -> f64| (kernels.iter().map(|row| ratio(row).ln()).sum::<f64>() / kernels.len() as f64).exp();
    let added = |operation, rounds: u32| -> Result<f64> {
        let of = |rounds| short(|| vm.query(Message { operation, argument: 1, rounds }).map(drop), 25);
        Ok((of(rounds)? - of(0)?) / f64::from(rounds))
    };
    Ok(Figures {
        vm_query_vs_native_geomean: geomean(|row| row.query_ms / row.native_ms),
        vm_query_vs_native_median: median(kernels.iter().map(|row| row.query_ms / row.native_ms).collect())?,
        vm_command_vs_native_geomean: geomean(|row| row.command_ms / row.native_ms),
        vm_query_vs_wasmi_geomean: geomean(|row| row.query_ms / row.wasmi_ms),
        instantiate_call_us_p50: short(|| vm.nothing(), SHORT_RUNS)?,
        storage_read_us: added(Operation::Read, HOST_CALLS)?,
        storage_write_us: added(Operation::Write, HOST_CALLS)?,
        nested_call_us: added(Operation::Call, NESTED_CALLS)?,
        kernels,
    })
}

/// Median time of something short, in microseconds.
fn short(run: impl Fn() -> Result<()>, runs: usize) -> Result<f64> {
    let once = || {
        let begin = Instant::now();
        run().map(|()| begin.elapsed().as_secs_f64() * 1e6)
    };
    once()?;
    median((0..runs).map(|_| once()).collect::<Result<_>>()?)
}

fn median(mut figures: Vec<f64>) -> Result<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().context("nothing was measured")
}

/// The figures as people read them.
pub(crate) fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    let header =
        ["kernel", "native ms", "query", "command", "wasmi ms", "query/native", "command/native", "wasmi/query"];
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for row in &figures.kernels {
        let Row { kernel, native_ms, query_ms, command_ms, wasmi_ms } = row;
        let times = [native_ms, query_ms, command_ms, wasmi_ms].map(|ms| format!("{ms:.2}"));
        let ratios =
            [query_ms / native_ms, command_ms / native_ms, wasmi_ms / query_ms].map(|ratio| format!("{ratio:.2}"));
        table.add_row(std::iter::once((*kernel).to_owned()).chain(times).chain(ratios));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let Figures { vm_query_vs_native_geomean: query, vm_command_vs_native_geomean: command, .. } = figures;
    let Figures { vm_query_vs_native_median: median, vm_query_vs_wasmi_geomean: wasmi, .. } = figures;
    let Figures { instantiate_call_us_p50: nothing, storage_read_us: read, .. } = figures;
    let Figures { storage_write_us: write, nested_call_us: nested, .. } = figures;
    format!(
        "{table}\nquery: {query:.2} times native ({median:.2} in the median), {wasmi:.3} times wasmi\n\
        command: {command:.2} times native\nempty query: {nothing:.1} µs; one read {read:.2} µs, one write {write:.2} µs, \
        one call of another contract {nested:.1} µs"
    )
}
