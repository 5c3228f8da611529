//! Does the state of a cluster stay as fast as it was when it grows? The store alone, over a file: small values are added
//! in commits as large as busy entries, and for each million there is what a command costs, what a commit waits for,
//! what is written for a byte of change, and how much memory and disk it takes.
//!
//! As with a replica, another thread writes to the disk what was committed, whenever it is much, and a commit waits when
//! it is too much. Reads are of values that were written long ago, by chance.

use crate::report::median;
use anyhow::{Context, Result, anyhow, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use phala_primitives::Hash;
use phala_state::{Changes, Commit, FileBackend, State, StateError, StateKeys, StorageBackend};
use serde::Serialize;
use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// Bytes of a value; a key has 8.
const VALUE: usize = 32;
/// Reads after each step.
const READS: u64 = 2_000;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Values at the end.
    pub(crate) values: u64,
    /// Values after which a line is written.
    pub(crate) step: u64,
    /// Commands of an entry; each writes one value.
    pub(crate) commands: u64,
}

/// The state at one size.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// How many values there are.
    pub(crate) values: u64,
    /// Time of a command since the last step, in microseconds: that of the commits, and of what was left to be written, by
    /// the number of commands.
    pub(crate) command_us: f64,
    /// Median time of a commit, in milliseconds.
    pub(crate) commit_ms_p50: f64,
    /// 99th percentile.
    pub(crate) commit_ms_p99: f64,
    /// Median time of a read, in microseconds.
    pub(crate) read_us_p50: f64,
    /// Bytes written to the file for each byte of keys and values since the last step.
    pub(crate) write_amplification: f64,
    /// Size of the file for each value, in bytes.
    pub(crate) file_bytes_per_value: f64,
    /// Memory of the process, in MiB.
    pub(crate) memory_mib: f64,
}

/// The whole way.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// Values at the end.
    pub(crate) state_values: u64,
    /// Time of a command in the last step, as a multiple of that in the first. 1 is flat.
    pub(crate) state_command_growth: f64,
    /// 99th percentile of a commit in the last step, in milliseconds.
    pub(crate) state_commit_ms_p99: f64,
    /// Of the last step.
    pub(crate) state_write_amplification: f64,
    /// At the end, in MiB.
    pub(crate) state_memory_mib: f64,
    /// Time to open what is there at the end, all of which is checked, in seconds.
    pub(crate) state_open_s: f64,
    /// All steps.
    pub(crate) state_steps: Vec<Step>,
}

/// A file that counts what is written to it.
#[derive(Debug)]
struct Counting {
    file: FileBackend,
    written: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn open(path: &Path, written: &Arc<AtomicU64>) -> Result<State> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let backend = Counting { file: FileBackend::new(file)?, written: written.clone() };
    Ok(State::open(backend, StateKeys::new([1; 32], [3; 32], [(1, [2; 32])]))?)
}

/// The value with this number: key, and what it holds.
fn value(number: u64) -> (Vec<u8>, Vec<u8>) {
    let mut value = vec![7; VALUE];
    value[..8].copy_from_slice(&number.to_le_bytes());
    (number.to_be_bytes().to_vec(), value)
}

/// Grows a state in a file of this folder, and removes it.
pub(crate) fn measure(plan: Plan, folder: &Path) -> Result<Figures> {
    ensure!(plan.commands > 0 && plan.step >= plan.commands && plan.values >= plan.step, "a step holds entries");
    std::fs::create_dir_all(folder)?;
    let path = folder.join("bench-state");
    // One may be left of a run that was stopped.
    let _ = std::fs::remove_file(&path);
    let grown = grow(plan, &path);
    let removed = std::fs::remove_file(&path);
    let figures = grown?;
    removed?;
    Ok(figures)
}

fn grow(plan: Plan, path: &Path) -> Result<Figures> {
    let written = Arc::<AtomicU64>::default();
    let state = open(path, &written)?;
    let steps = std::thread::scope(|scope| {
        // What is asked for while it writes is not forgotten.
        let (due, wanted) = sync_channel(1);
        let settling = scope.spawn(|| wanted.into_iter().try_for_each(|()| state.settle(|| Ok::<_, StateError>(()))));
        let steps = fill(plan, path, &state, &written, &due);
        drop(due);
        settling.join().map_err(|_| anyhow!("the thread that writes to the disk died"))??;
        steps
    })?;
    drop(state);
    let begin = Instant::now();
    drop(open(path, &written)?);
    let state_open_s = begin.elapsed().as_secs_f64();
    let (first, last) = steps.first().zip(steps.last()).context("there is a step")?;
    Ok(Figures {
        state_values: plan.values,
        state_command_growth: last.command_us / first.command_us,
        state_commit_ms_p99: last.commit_ms_p99,
        state_write_amplification: last.write_amplification,
        state_memory_mib: last.memory_mib,
        state_open_s,
        state_steps: steps,
    })
}

/// Adds the values; `due` asks for what is in memory to be written.
fn fill(plan: Plan, path: &Path, state: &State, written: &AtomicU64, due: &SyncSender<()>) -> Result<Vec<Step>> {
    let (mut steps, mut times) = (Vec::<Step>::new(), vec![]);
    let (mut count, mut height, mut since) = (0, 0, 0);
    while count < plan.values {
        let changes: Changes =
            (count..count + plan.commands).map(value).map(|(key, value)| (([9; 32], key), Some(value))).collect();
        (count, height) = (count + plan.commands, height + 1);
        let digest = Hash([height as u8; 32]);
        let begin = Instant::now();
        if state.unsettled() >= State::MUCH {
            // It may be asked for already.
            let _ = due.try_send(());
        }
        state.make_room(State::MOST, || Ok::<_, StateError>(()))?;
        state.commit(Commit { height, digest, changes, ..Commit::default() })?;
        times.push(begin.elapsed());
        if count / plan.step > (count - plan.commands) / plan.step {
            // What is left of the step's work is part of its time.
            let begin = Instant::now();
            state.settle(|| Ok::<_, StateError>(()))?;
            let (rest, now) = (begin.elapsed(), written.load(Ordering::Relaxed));
            let step = step(state, path, count, (std::mem::take(&mut times), rest), plan.commands, now - since)?;
            since = now;
            eprintln!("{}", line(&step));
            steps.push(step);
        }
    }
    Ok(steps)
}

/// `times` are those of the commits, and of what was to be written after them.
fn step(
    state: &State,
    path: &Path,
    count: u64,
    (mut times, rest): (Vec<Duration>, Duration),
    commands: u64,
    written: u64,
) -> Result<Step> {
    let all = times.iter().sum::<Duration>() + rest;
    let done = times.len() as u64 * commands;
    times.sort_unstable();
    let percentile = |p: usize| times[(times.len() - 1) * p / 100].as_secs_f64() * 1e3;
    let snapshot = state.snapshot();
    let mut reads = vec![];
    for read in 0..READS {
        // Multiplied by an odd number, they are spread over all.
        let number = read.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
        let (key, expected) = value(number);
        let begin = Instant::now();
        let found = snapshot.get(&[9; 32], &key)?;
        reads.push(begin.elapsed().as_secs_f64() * 1e6);
        ensure!(found == Some(expected), "value {number} is not what was written");
    }
    Ok(Step {
        values: count,
        command_us: all.as_secs_f64() * 1e6 / done as f64,
        commit_ms_p50: percentile(50),
        commit_ms_p99: percentile(99),
        read_us_p50: median(reads)?,
        write_amplification: written as f64 / (done * (8 + VALUE as u64)) as f64,
        file_bytes_per_value: std::fs::metadata(path)?.len() as f64 / count as f64,
        memory_mib: memory()?,
    })
}

/// Memory of this process, in MiB.
fn memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system tells no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn cells(step: &Step) -> [String; 8] {
    [
        format!("{:.2} M", step.values as f64 / 1e6),
        format!("{:.1}", step.command_us),
        format!("{:.1}", step.commit_ms_p50),
        format!("{:.1}", step.commit_ms_p99),
        format!("{:.1}", step.read_us_p50),
        format!("{:.1}", step.write_amplification),
        format!("{:.0}", step.file_bytes_per_value),
        format!("{:.0}", step.memory_mib),
    ]
}

fn line(step: &Step) -> String {
    let [values, command, p50, p99, read, amplification, bytes, memory] = cells(step);
    format!(
        "{values} values: {command} µs a command, commit {p50} ms, p99 {p99} ms, read {read} µs, \
         {amplification} bytes written for one, {bytes} bytes a value, {memory} MiB"
    )
}

/// The figures as people read them.
pub(crate) fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "values",
        "command µs",
        "commit ms",
        "p99 ms",
        "read µs",
        "written/byte",
        "file/value",
        "memory MiB",
    ]);
    for step in &figures.state_steps {
        table.add_row(cells(step));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\na command costs {:.2} times as much at the end as at the beginning; opened and checked in {:.1} s",
        figures.state_command_growth, figures.state_open_s
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_state_is_measured_and_removed() {
        let folder = std::env::temp_dir().join(format!("phala-bench-{}", std::process::id()));
        let plan = Plan { values: 2_000, step: 1_000, commands: 10 };
        let figures = measure(plan, &folder).unwrap();
        assert_eq!((figures.state_values, figures.state_steps.len()), (2_000, 2));
        assert!(figures.state_steps.iter().all(|step| step.write_amplification > 0.0 && step.command_us > 0.0));
        assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
        std::fs::remove_dir(&folder).unwrap();
    }
}
