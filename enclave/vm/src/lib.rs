//! Runs ink! contracts on wasmtime
