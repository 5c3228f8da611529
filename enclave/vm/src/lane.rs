//! Compiled contracts of one mode: a wasmtime engine, the host's functions, and a bounded cache by code hash.
//!
//! Commands and queries need different machine code of the same module: the former counts fuel, the latter looks at the
//! epoch. Each is compiled when it is first called, outside of all locks but its own, so that one compilation serves
//! all who wait for it and holds up nobody else.

use crate::{
    Capacity, VmError, World,
    engine::Shared,
    error::Reason,
    guest::Host,
    host,
    limits::{MAX_MEMORY, STACK_BYTES, TABLE_ELEMENTS},
    module, nan,
};
use lru::LruCache;
use parking_lot::Mutex;
use phala_primitives::{Code, Hash};
use std::sync::Arc;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, ModuleExport, OptLevel,
    PoolingAllocationConfig,
};

/// Most contracts in a cache, whatever their size.
const MAX_CACHED: usize = 1024;
/// Slots that stay mapped to the contract that last used them.
const WARM_SLOTS: u32 = 16;
/// Memory of a warm slot that is wiped by writing instead of by a system call, in bytes. A system call that takes pages
/// away interrupts every core that runs this process, and the next call faults for each page that it touches. Contracts
/// of ink! begin with two pages of 64 KiB or more and touch few: with one page kept, a call took half as long again.
/// Where the kernel does not tell what was written, all that is kept is wiped, so 1 MiB would make a contract of 16
/// pages three times slower.
const KEEP_RESIDENT: usize = 128 << 10;

/// How the machine code of a lane is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Fuel,
    Epoch,
}

/// A contract ready to be instantiated.
pub(crate) struct Prepared {
    pub(crate) module: InstancePre<Host>,
    pub(crate) call: ModuleExport,
    pub(crate) deploy: ModuleExport,
    pub(crate) memory: ModuleExport,
    /// Bytes of the code as it was uploaded.
    pub(crate) code_bytes: usize,
    /// Pages of memory at the start.
    pub(crate) pages: u64,
    /// Bytes of machine code.
    size: usize,
}

/// A place in the cache, locked by whoever compiles.
type Slot = Arc<Mutex<Option<Arc<Prepared>>>>;

struct Cache {
    slots: LruCache<Hash, Slot>,
    /// Sizes of the slots that are filled.
    bytes: usize,
}

pub(crate) struct Lane {
    bound: Bound,
    pub(crate) engine: Engine,
    linker: Linker<Host>,
    cache: Mutex<Cache>,
    cache_bytes: usize,
}

impl Lane {
    pub(crate) fn new(bound: Bound, instances: usize, capacity: &Capacity) -> Result<Self, VmError> {
        let refused = |error: wasmtime::Error| VmError::Engine(format!("{error:#}"));
        if !PoolingAllocationConfig::is_pagemap_scan_available() {
            tracing::info!(
                "the kernel does not tell which pages were written (Linux 6.7 does): instances are wiped whole"
            );
        }
        let engine = Engine::new(&config(bound, instances, Enabled::Auto)).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(refused)?;
        let cache = Mutex::new(Cache { slots: LruCache::unbounded(), bytes: 0 });
        Ok(Self { bound, engine, linker, cache, cache_bytes: capacity.cache_bytes })
    }

    /// Names and types of the host's functions.
    pub(crate) fn host_types(&self) -> module::HostTypes {
        host::types(&self.engine, &self.linker)
    }

    /// The contract with this code, compiled now if it is not in the cache.
    pub(crate) fn prepared(&self, hash: &Hash, world: &dyn World, shared: &Shared) -> Result<Arc<Prepared>, Reason> {
        let slot = {
            let mut cache = self.cache.lock();
            Arc::clone(cache.slots.get_or_insert(*hash, Slot::default))
        };
        let mut place = slot.lock();
        if let Some(prepared) = &*place {
            return Ok(Arc::clone(prepared));
        }
        let result = self.fetch(hash, world, shared);
        *place = result.as_ref().ok().cloned();
        drop(place);
        self.settle(hash, &slot, result.as_ref().ok().map(|prepared| prepared.size));
        result
    }

    fn fetch(&self, hash: &Hash, world: &dyn World, shared: &Shared) -> Result<Arc<Prepared>, Reason> {
        let code =
            world.code(hash)?.ok_or_else(|| Reason::contract(Code::NoCode, format!("there is no code {hash}")))?;
        let prepared = self.compile(&code, shared)?;
        tracing::debug!(code = %hash, bytes = prepared.size, "compiled");
        Ok(Arc::new(prepared))
    }

    fn compile(&self, code: &[u8], shared: &Shared) -> Result<Prepared, VmError> {
        let contract = module::prepare(code, &shared.host_types)?;
        let refused = |error: wasmtime::Error| VmError::BadModule(format!("{error:#}"));
        let wasm = match self.bound {
            Bound::Fuel => nan::canonical(&contract.wasm)?,
            Bound::Epoch => contract.wasm,
        };
        let module = Module::new(&self.engine, &wasm).map_err(refused)?;
        let export =
            |name: &str| module.get_export_index(name).ok_or_else(|| VmError::BadModule(format!("no export `{name}`")));
        let (call, deploy, memory) = (export("call")?, export("deploy")?, export(module::MEMORY_EXPORT)?);
        let image = module.image_range();
        let size = (image.end as usize).saturating_sub(image.start as usize);
        let module = self.linker.instantiate_pre(&module).map_err(refused)?;
        Ok(Prepared { module, call, deploy, memory, code_bytes: code.len(), pages: contract.pages, size })
    }

    /// Counts a new entry and drops those that were not used for longest until all fit; forgets one that failed.
    fn settle(&self, hash: &Hash, slot: &Slot, size: Option<usize>) {
        let mut cache = self.cache.lock();
        if !cache.slots.peek(hash).is_some_and(|kept| Arc::ptr_eq(kept, slot)) {
            return;
        }
        let Some(size) = size else {
            cache.slots.pop(hash);
            return;
        };
        cache.bytes = cache.bytes.saturating_add(size);
        while (cache.bytes > self.cache_bytes || cache.slots.len() > MAX_CACHED) && cache.slots.len() > 1 {
            let Some((_, dropped)) = cache.slots.pop_lru() else { break };
            // One that is being compiled was not counted, and finds itself gone when it is done.
            let size = dropped.try_lock().and_then(|place| place.as_ref().map(|prepared| prepared.size));
            cache.bytes = cache.bytes.saturating_sub(size.unwrap_or(0));
        }
    }
}

/// `scan` says whether the kernel is asked which pages were written: `Auto` does where it can.
fn config(bound: Bound, instances: usize, scan: Enabled) -> Config {
    let count = u32::try_from(instances).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(count)
        .total_memories(count)
        .total_tables(count)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        // Wipes only pages that were written, where the kernel tells which (Linux 6.7). Elsewhere all are wiped.
        .pagemap_scan(scan)
        .table_keep_resident(KEEP_RESIDENT);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .max_wasm_stack(STACK_BYTES)
        .consume_fuel(bound == Bound::Fuel)
        .epoch_interruption(bound == Bound::Epoch)
        // Commands have code for it in the module, see `nan`; no replica has to come to what another's query came to.
        .cranelift_nan_canonicalization(false)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .relaxed_simd_deterministic(true)
        // Of which modules use copying and filling only. Both cost a unit of fuel per byte, and look at the epoch once.
        .wasm_bulk_memory(true)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_extended_const(false)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false)
        .generate_address_map(false)
        .concurrency_support(false);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Instance, Store};

    /// Writes to each page of 4 KiB, after it found there what the module put there.
    const DIRTY: &str = r#"(module (memory 4 64) (data (i32.const 8) "A") (func (export "call") (local $at i32)
        (if (i32.ne (i32.load8_u (i32.const 8)) (i32.const 65)) (then unreachable)) (drop (memory.grow (i32.const 40)))
        (i32.store8 (i32.const 8) (i32.const 0)) (loop
            (if (i32.load (local.get $at)) (then unreachable)) (i64.store (local.get $at) (i64.const -1))
            (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.const 2883584))))))"#;

    #[test]
    fn memory_is_fresh_whether_or_not_the_kernel_tells_what_was_written() {
        let scans = [Some(Enabled::Auto), Some(Enabled::No)];
        let there = PoolingAllocationConfig::is_pagemap_scan_available().then_some(Enabled::Yes);
        for scan in scans.into_iter().chain([there]).flatten() {
            let mut config = config(Bound::Fuel, 1, scan);
            let engine = Engine::new(config.consume_fuel(false)).unwrap();
            let module = Module::new(&engine, wat::parse_str(DIRTY).unwrap()).unwrap();
            for _ in 0..50 {
                let mut store = Store::new(&engine, ());
                let instance = Instance::new(&mut store, &module, &[]).unwrap();
                instance.get_typed_func::<(), ()>(&mut store, "call").unwrap().call(&mut store, ()).unwrap();
            }
        }
    }
}
