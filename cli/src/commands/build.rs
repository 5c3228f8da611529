//! `phala new`, `phala build` and `phala build --check`.

use crate::{
    commands::contract::load_bundle,
    output::{Output, Tone},
};
use anyhow::Result;
use phala_build::{Built, Bundle, Event, Options};
use phala_primitives::{Code, Coded};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Creates a contract.
pub(crate) fn new(name: &str, template: &str, path: Option<PathBuf>, output: Output) -> Result<()> {
    let parent = path.unwrap_or_else(|| ".".into());
    let folder = phala_build::new_project(name, template, parent).map_err(|e| e.coded)?;
    let constructor =
        phala_build::TEMPLATES.iter().find(|known| known.name == template).map_or("new", |t| t.constructor);
    output.data(&json!({ "name": name, "template": template, "path": folder }), folder.display().to_string());
    let shown = folder.display().to_string();
    let next = [
        (format!("cd {}", shown.strip_prefix("./").unwrap_or(&shown)), ""),
        ("phala test".into(), "unit tests, and tests on the real engine"),
        ("phala dev".into(), "a network on this machine, in another terminal"),
        (format!("phala watch {constructor}"), "builds, deploys, and upgrades whenever you save"),
    ];
    output.say(output.paint(Tone::Bold, "\nNext:"));
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, why) in next {
        output.say(format!("  {command:<width$}  {}", output.paint(Tone::Dim, why)).trim_end());
    }
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

/// Builds the source and holds it against a bundle.
///
/// Errors: `NotReproduced`, with both hashes.
pub(crate) fn check(path: &Path, bundle: &Path, output: Output) -> Result<()> {
    let expected = load_bundle(bundle)?;
    // Where nobody takes it for the bundle of the source.
    let folder = tempfile::tempdir()?;
    let built = run(path, Some(folder.path()), output)?.bundle;
    let (ours, theirs) = (built.code_hash, expected.code_hash);
    if ours != theirs {
        let version = |bundle: &Bundle| {
            let optimiser = bundle.build_info.get("wasm_opt").and_then(|v| v.as_str()).unwrap_or("no wasm-opt");
            format!("{}, {optimiser}", bundle.compiler)
        };
        output.say(format!("bundle  {theirs}  {}\nsource  {ours}  {}", version(&expected), version(&built)));
        return Err(Coded::new(Code::NotReproduced, format!("{ours} instead of {theirs}")).into());
    }
    output.done(format!("{} {}: the source gives the code of the bundle", built.name, built.version));
    output.data(&json!({ "name": built.name, "code_hash": ours.to_string(), "reproduced": true }), ours.to_string());
    Ok(())
}

/// Builds a contract without a line for each stage; the compiler is heard if it fails.
pub(crate) fn quietly(path: &Path, output: Output) -> Result<Built> {
    let bar = output.spinner("building");
    let built = phala_build::build(path, &Options::default(), &mut |event| {
        if let Event::Began(stage) = event {
            bar.set_message(stage.to_string());
        }
    });
    bar.finish_and_clear();
    told(built, output)
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
    told(built, output)
}

fn told(built: Result<Built, phala_build::Error>, output: Output) -> Result<Built> {
    built.map_err(|error| {
        if !error.output.is_empty() {
            output.say(&error.output);
        }
        error.coded.into()
    })
}
