//! The kernels on wasmi, with as much of a host as they need.

use super::engine::{Message, number};
use anyhow::{Context, Result, bail};
use std::fmt;
use wasmi::{Caller, Engine, Error, Extern, Linker, Memory, MemoryType, Module, Store};

/// Pages of memory that a contract may have, as on our engine.
const MAX_PAGES: u32 = 1024;

/// A contract's input and output.
#[derive(Default)]
struct Host {
    input: Vec<u8>,
    output: Vec<u8>,
    memory: Option<Memory>,
}

/// How a contract returns.
#[derive(Debug)]
struct Returned;

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("returned")
    }
}

impl wasmi::errors::HostError for Returned {}

/// The contract, compiled for the interpreter.
pub(crate) struct Interpreter {
    engine: Engine,
    module: Module,
    pages: u32,
}

impl Interpreter {
    pub(crate) fn new(code: &[u8]) -> Result<Self> {
        let engine = Engine::default();
        let module = Module::new(&engine, code)?;
        let memory = module.imports().find_map(|import| import.ty().memory().map(|memory| memory.minimum()));
        let pages = u32::try_from(memory.context("the contract imports no memory")?)?;
        Ok(Self { engine, module, pages })
    }

    /// Calls the contract in a fresh instance.
    pub(crate) fn call(&self, message: Message) -> Result<u64> {
        let host = Host { input: message.encode(), ..Host::default() };
        let mut store = Store::new(&self.engine, host);
        let memory = Memory::new(&mut store, MemoryType::new(self.pages, Some(MAX_PAGES)))?;
        store.data_mut().memory = Some(memory);
        let mut linker = Linker::new(&self.engine);
        linker.define("env", "memory", Extern::Memory(memory))?;
        link(&mut linker)?;
        let instance = linker.instantiate_and_start(&mut store, &self.module)?;
        let result = instance.get_typed_func::<(), ()>(&store, "call")?.call(&mut store, ());
        match result {
            Err(error) if error.downcast_ref::<Returned>().is_some() => number(&store.data().output),
            Err(error) => Err(error.into()),
            Ok(()) => bail!("the contract answered nothing"),
        }
    }
}

fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "seal0",
        "input",
        |mut caller: Caller<'_, Host>, out: u32, out_len: u32| -> Result<(), Error> {
            let input = std::mem::take(&mut caller.data_mut().input);
            let memory = memory(&caller)?;
            memory.write(&mut caller, out as usize, &input)?;
            memory.write(&mut caller, out_len as usize, &(input.len() as u32).to_le_bytes())?;
            Ok(())
        },
    )?;
    linker.func_wrap(
        "seal0",
        "seal_return",
        |mut caller: Caller<'_, Host>, _: u32, data: u32, data_len: u32| -> Result<(), Error> {
            let mut output = vec![0; data_len.min(1024) as usize];
            memory(&caller)?.read(&caller, data as usize, &mut output)?;
            caller.data_mut().output = output;
            Err(Error::host(Returned))
        },
    )?;
    // Kernels touch neither storage nor other contracts.
    linker.func_wrap("seal1", "get_storage", |_: u32, _: u32, _: u32, _: u32| 3_u32)?;
    linker.func_wrap("seal2", "set_storage", |_: u32, _: u32, _: u32, _: u32| u32::MAX)?;
    linker.func_wrap("seal1", "call", |_: u32, _: u32, _: u64, _: u32, _: u32, _: u32, _: u32, _: u32| 1_u32)?;
    Ok(())
}

fn memory(caller: &Caller<'_, Host>) -> Result<Memory, Error> {
    caller.data().memory.ok_or_else(|| Error::new("the contract has no memory"))
}
