//! The process that runs contracts, and how it is spoken to: one line of JSON each way.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// A running `phala testkit`. It ends when its input ends.
pub(crate) struct Link {
    process: Mutex<(Child, Option<ChildStdin>, BufReader<ChildStdout>)>,
}

/// The program: what `phala test` names, or the one on the `PATH`.
fn phala() -> Command {
    Command::new(std::env::var_os("PHALA").unwrap_or_else(|| "phala".into()))
}

/// The bundle of the contract under test. `phala test` has built it; otherwise it is built once.
pub(crate) fn bundle() -> PathBuf {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(build).clone()
}

fn build() -> PathBuf {
    if let Some(bundle) = std::env::var_os("PHALA_BUNDLE") {
        return bundle.into();
    }
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
    let built = phala().args(["--quiet", "build"]).arg(folder).stderr(Stdio::inherit()).output();
    let built = built.expect("phala is on the PATH");
    assert!(built.status.success(), "the contract does not build");
    PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
}

impl Link {
    pub(crate) fn start() -> Self {
        let mut command = phala();
        command.arg("testkit").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("phala is on the PATH: `phala test` names it");
        let (input, output) = (process.stdin.take(), process.stdout.take().expect("its output is piped"));
        Self { process: Mutex::new((process, input, BufReader::new(output))) }
    }

    /// Asks, and fails the test if the answer is an error.
    pub(crate) fn ask(&self, question: Value) -> Value {
        self.try_ask(question).unwrap_or_else(|why| panic!("{why}"))
    }

    pub(crate) fn try_ask(&self, question: Value) -> Result<Value, String> {
        // A test that panicked between question and answer is over.
        let mut process = self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (_, input, output) = &mut *process;
        let input = input.as_mut().expect("it ends with this");
        writeln!(input, "{question}").and_then(|()| input.flush()).expect("phala testkit takes questions");
        let mut line = String::new();
        output.read_line(&mut line).expect("phala testkit answers");
        let mut answer: Value = serde_json::from_str(&line).expect("phala testkit answers in JSON");
        match answer.get_mut("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            // The end of its input; it writes its gas report and goes.
            process.1 = None;
            let _ = process.0.wait();
        }
    }
}
