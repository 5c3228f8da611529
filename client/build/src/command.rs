//! Running programs: their lines are told as they come, and kept for errors.

use crate::error::{Error, Result};
use phala_primitives::Code;
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    thread,
};

/// Most that is kept of what a program says; a first error stands at the beginning.
const MAX_KEPT: usize = 256 << 10;
/// Most that a program may print as its result: metadata of the largest contracts is below 1 MiB.
const MAX_RESULT: u64 = 16 << 20;

/// What came of a program.
pub(crate) struct Outcome {
    /// Whether it ended well.
    pub(crate) success: bool,
    /// What it printed as its result.
    pub(crate) stdout: Vec<u8>,
    /// What it said besides.
    pub(crate) stderr: String,
}

impl Outcome {
    /// The result as text, without white space around.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Runs a program to its end, with `input` as its standard input.
pub(crate) fn run(command: &mut Command, input: &[u8], tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Error::new(Code::BuildFailed, format!("cannot run {program}: {error}"));
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_RESULT).read_to_end(&mut bytes).map(|_| ())?;
        }
        Ok::<_, std::io::Error>(bytes)
    });
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it read everything says why itself.
        stdin.write_all(input).ok();
    }
    let mut stderr = String::new();
    if let Some(pipe) = child.stderr.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let line = String::from_utf8_lossy(&line.map_err(failed)?).trim_end().to_owned();
            if stderr.len().saturating_add(line.len()) < MAX_KEPT {
                stderr.push_str(&line);
                stderr.push('\n');
            }
            tell(&line);
        }
    }
    let status = child.wait().map_err(failed)?;
    let stdout = reader.join().map_err(|_| Error::new(Code::BuildFailed, format!("{program} was not read")))?;
    Ok(Outcome { success: status.success(), stdout: stdout.map_err(failed)?, stderr })
}
