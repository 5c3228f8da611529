//! Builds the bundles that tests use as fixtures: `cargo run -p phala-build --example fixtures`, in the repository.

use phala_build::{Event, Options, build};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts");
    for name in ["flipper", "psp22", "oracle", "till", "webhook"] {
        // binaryen's version would show in the code.
        let options = Options { optimise: false, ..Options::default() };
        let built = build(contracts.join("examples").join(name), &options, &mut |event| {
            if let Event::Ended { stage, took, note } = event {
                eprintln!("{name}: {stage} {:.1} s {note}", took.as_secs_f32());
            }
        })
        .map_err(|error| format!("{error}\n{}", error.output))?;
        std::fs::copy(&built.contract, contracts.join("fixtures").join(format!("{name}.contract")))?;
    }
    Ok(())
}
