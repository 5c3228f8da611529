//! Builds contracts for real. Cold, this compiles ink! twice (for WebAssembly and for metadata), then it takes seconds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use phala_build::{Bundle, Error, Event, Options, Stage, build, new_project};
use phala_primitives::Code;
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/examples").join(name)
}

/// All contracts share what is compiled, also those in temporary folders.
fn options(output: &Path) -> Options {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder).join("contracts"),
        None => example("../target/contracts"),
    };
    Options { output: Some(output.to_owned()), target: Some(target), optimise: false, ..Options::default() }
}

fn shown(error: Error) -> String {
    format!("{error}\n{}", error.output)
}

#[test]
fn flipper_is_built_in_stages() {
    let folder = tempfile::tempdir().unwrap();
    let mut stages = Vec::new();
    let built = build(example("flipper"), &options(folder.path()), &mut |event| {
        if let Event::Ended { stage, .. } = event {
            stages.push(stage);
        }
    })
    .map_err(shown)
    .unwrap();
    use Stage::{Clean, Compile, Inspect, Metadata, Optimise, Target, Write};
    assert_eq!(stages, [Inspect, Target, Compile, Optimise, Clean, Metadata, Write]);
    assert_eq!(built.bundle, Bundle::load(&built.contract).unwrap());
    assert_eq!(built.bundle.code, std::fs::read(&built.wasm).unwrap());
    assert!(built.bundle.code.len() < 8_000, "{} bytes", built.bundle.code.len());
    let messages = built.bundle.messages().unwrap();
    let found: Vec<_> = messages.iter().map(|entry| (&*entry.label, entry.selector, entry.mutates)).collect();
    assert_eq!(found, [("flip", [0x63, 0x3a, 0xa5, 0x51], true), ("get", [0x2f, 0x86, 0x5b, 0xd9], false)]);
    let constructors: Vec<_> = built.bundle.constructors().unwrap().into_iter().map(|entry| entry.selector).collect();
    assert_eq!(constructors, [[0x9b, 0xae, 0x9d, 0x5e], [0xed, 0x4b, 0x9d, 0x1b]]);
}

#[test]
fn new_project_builds_and_a_mistake_in_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let project = new_project("my-first", "flipper", folder.path()).unwrap();
    let options = options(&folder.path().join("out"));
    let built = build(&project, &options, &mut |_| ()).map_err(shown).unwrap();
    assert_eq!(built.bundle.name, "my-first");
    assert!(built.contract.ends_with("my-first.contract"));

    let source = project.join("lib.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("Self { value }", "missing_function()")).unwrap();
    let error = build(&project, &options, &mut |_| ()).unwrap_err();
    assert_eq!(error.coded.known(), Some(Code::BuildFailed));
    assert!(error.output.contains("missing_function"), "{}", error.output);
}

#[test]
fn a_contract_that_wants_speed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let project = new_project("quick", "flipper", folder.path()).unwrap();
    let options = options(&folder.path().join("out"));
    let small = build(&project, &options, &mut |_| ()).map_err(shown).unwrap().bundle.code;
    let manifest = project.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let wants = |aim: &str| {
        std::fs::write(&manifest, format!("{text}\n[package.metadata.phala]\noptimize = \"{aim}\"\n")).unwrap();
        build(&project, &options, &mut |_| ())
    };
    assert_eq!(wants("size").map_err(shown).unwrap().bundle.code, small);
    assert_ne!(wants("speed").map_err(shown).unwrap().bundle.code, small);
    assert_eq!(wants("beauty").unwrap_err().coded.known(), Some(Code::BuildFailed));
}

#[test]
fn what_is_no_contract_of_ink_5_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let code = |path: &Path| build(path, &options(folder.path()), &mut |_| ()).unwrap_err().coded.known();
    assert_eq!(code(&folder.path().join("nothing")), Some(Code::BadArgument));
    assert_eq!(code(&example("..")), Some(Code::BadArgument), "a workspace of many contracts");

    let project = new_project("other", "flipper", folder.path()).unwrap();
    let manifest = project.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (version, expected) in [("6.0.0-beta.1", Code::Ink6), ("4.3.0", Code::BuildFailed)] {
        std::fs::write(&manifest, text.replace("=5.1.1", version)).unwrap();
        assert_eq!(code(&project), Some(expected), "{version}");
    }
    std::fs::write(&manifest, text.replace("\nink = {", "\nserde = {")).unwrap();
    assert_eq!(code(&project), Some(Code::BuildFailed), "without ink!");
}

#[test]
fn the_folder_is_not_in_the_code() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deeper = two.path().join("some/where/else");
    std::fs::create_dir_all(&deeper).unwrap();
    // With a crate of its own beside, a panic that names its place, and generic code of the standard library.
    let hash = |parent: &Path| {
        let project = new_project("same", "http", parent).unwrap();
        build(&project, &options(&parent.join("out")), &mut |_| ()).map_err(shown).unwrap().bundle.code_hash
    };
    assert_eq!(hash(one.path()), hash(&deeper));
}

/// Every template builds, and its tests pass: unit tests, and with the real binary beside (`PHALA_BIN`, or the one of
/// this profile) those on the real engine. Without a binary the latter are only compiled.
#[test]
fn every_template_builds_and_passes_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let binary = match std::env::var_os("PHALA_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("phala"),
    };
    for template in &phala_build::TEMPLATES {
        let name = format!("my-{}", template.name);
        let project = new_project(&name, template.name, folder.path()).unwrap();
        let output = folder.path().join("out").join(template.name);
        let built = build(&project, &options(&output), &mut |_| ()).map_err(shown).unwrap();
        let arguments: &[&str] = if binary.is_file() { &[] } else { &["--lib"] };
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variables = [("PHALA", binary.as_os_str()), ("PHALA_BUNDLE", built.contract.as_os_str())];
        assert!(phala_build::test(&project, &arguments, &variables).unwrap(), "{name}");
        let bytes = built.bundle.code.len();
        println!("{name}: {bytes} bytes, tests pass{}", if binary.is_file() { " on the engine" } else { "" });
    }
}
