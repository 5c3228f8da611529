//! Lists the sources of the crates that new projects get a copy of, so that none is forgotten.

use std::{env, fs, path::Path};

fn main() {
    let contracts = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("Cargo sets it")).join("../../contracts");
    let mut table = String::new();
    for (constant, folder) in [("PINK", "pink"), ("TESTKIT", "kit")] {
        let sources = contracts.join(folder).join("src");
        println!("cargo::rerun-if-changed={}", sources.display());
        let files = fs::read_dir(&sources).expect("the crate is in this repository");
        let mut files: Vec<_> = files.map(|file| file.expect("the folder can be read").path()).collect();
        files.sort();
        table.push_str(&format!("const {constant}: &[(&str, &str)] = &[\n"));
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
            let name = file.file_name().and_then(|name| name.to_str()).expect("names of sources are text");
            table.push_str(&format!("    ({name:?}, include_str!({:?})),\n", file.display().to_string()));
        }
        table.push_str("];\n");
    }
    let out = Path::new(&env::var("OUT_DIR").expect("Cargo sets it")).join("crates.rs");
    fs::write(out, table).expect("the folder for generated files can be written");
}
