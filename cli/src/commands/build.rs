//! `phala new` and `phala build`.

use crate::output::{Output, Tone};
use anyhow::Result;
use phala_build::{Built, Event, Options};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Creates a contract.
pub(crate) fn new(name: &str, path: Option<PathBuf>, output: Output) -> Result<()> {
    let folder = phala_build::new_project(name, path.unwrap_or_else(|| ".".into())).map_err(|e| e.coded)?;
    output.data(&json!({ "name": name, "path": folder }), folder.display().to_string());
    output.say(format!("\nNext:\n  cd {}\n  phala build\n  phala dev        in another terminal\n  phala deploy target/ink/{name}/{name}.contract new true", folder.display()));
    Ok(())
}

/// Builds a contract and prints where the bundle is.
pub(crate) fn build(path: &Path, out: Option<&Path>, output: Output) -> Result<Built> {
    let built = run(path, out, output)?;
    let json = json!({
        "name": built.bundle.name, "version": built.bundle.version, "contract": built.contract,
        "code_hash": built.bundle.code_hash.to_string(), "code_bytes": built.bundle.code.len(),
    });
    let text = built.contract.display().to_string();
    output.done(format!(
        "{} {}: {} bytes of code, hash {}",
        built.bundle.name,
        built.bundle.version,
        built.bundle.code.len(),
        built.bundle.code_hash
    ));
    output.data(&json, text);
    Ok(built)
}

/// Builds a contract and tells people how it goes.
pub(crate) fn run(path: &Path, out: Option<&Path>, output: Output) -> Result<Built> {
    let options = Options { output: out.map(Path::to_owned), ..Options::default() };
    let bar = output.spinner("building");
    let mut tell = |event: Event| match event {
        Event::Began(stage) => bar.set_message(stage.to_string()),
        Event::Said(stage, line) => {
            bar.set_message(format!("{stage}: {}", line.trim().chars().take(80).collect::<String>()))
        }
        Event::Ended { stage, took, note } => {
            let line = format!("{:<9} {:>6.1} s  {note}", stage.to_string(), took.as_secs_f64());
            bar.suspend(|| output.say(output.paint(Tone::Dim, &line)));
        }
    };
    let built = phala_build::build(path, &options, &mut tell);
    bar.finish_and_clear();
    built.map_err(|error| {
        if !error.output.is_empty() {
            output.say(&error.output);
        }
        error.coded.into()
    })
}
