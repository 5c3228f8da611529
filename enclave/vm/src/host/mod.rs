//! The functions that contracts import, as `pallet-contracts-uapi` 9 declares them.
//!
//! A function `x` of `seal0` is there as `x` and as `seal_x`, its name in older compilers. Every call is charged before
//! it works. Pointers are `u32` offsets into the contract's memory; where an output is optional, `u32::MAX` is none.

mod call;
mod chain;
mod crypto;
mod event;
mod extension;
mod storage;

use crate::{guest::Host, module::HostTypes};
use wasmparser::ValType;
use wasmtime::{Engine, Extern, Linker, Store};

/// Codes that host functions return.
mod status {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const CALLEE_TRAPPED: u32 = 1;
    pub(super) const CALLEE_REVERTED: u32 = 2;
    pub(super) const KEY_NOT_FOUND: u32 = 3;
    pub(super) const TRANSFER_FAILED: u32 = 5;
    pub(super) const CODE_NOT_FOUND: u32 = 7;
    pub(super) const NOT_CALLABLE: u32 = 8;
    pub(super) const CALL_RUNTIME_FAILED: u32 = 10;
    pub(super) const ECDSA_RECOVERY_FAILED: u32 = 11;
    pub(super) const SR25519_VERIFY_FAILED: u32 = 12;
    pub(super) const XCM_EXECUTION_FAILED: u32 = 13;
    pub(super) const XCM_SEND_FAILED: u32 = 14;
}

/// Defines host functions: module and name, the function, and the arguments as the contract passes them.
macro_rules! define {
    ($linker:ident; $($module:literal $name:literal = $function:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $({
            let function = |mut caller: wasmtime::Caller<'_, crate::guest::Host>, $($argument: $type),*| -> wasmtime::Result<$result> {
                let mut guest = crate::guest::Guest(&mut caller);
                guest.charge(crate::gas::HOST_CALL)?;
                Ok($function(&mut guest, $($argument),*)?)
            };
            $linker.func_wrap($module, $name, function)?;
            $linker.func_wrap($module, concat!("seal_", $name), function)?;
        })*
    };
}
use define;

/// Adds all functions.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    storage::link(linker)?;
    call::link(linker)?;
    chain::link(linker)?;
    crypto::link(linker)?;
    event::link(linker)?;
    extension::link(linker)
}

/// Types of all functions that were added. Those with other than numbers are left out, as there are none.
pub(crate) fn types(engine: &Engine, linker: &Linker<Host>) -> HostTypes {
    let mut store = Store::new(engine, Host::outside());
    let functions: Vec<_> = linker
        .iter(&mut store)
        .filter_map(|(module, name, item)| match item {
            Extern::Func(function) => Some((module.to_owned(), name.to_owned(), function)),
            _ => None,
        })
        .collect();
    let mut types = HostTypes::new();
    for (module, name, function) in functions {
        let ty = function.ty(&store);
        let (params, results): (Option<Vec<_>>, Option<Vec<_>>) =
            (ty.params().map(|ty| number(&ty)).collect(), ty.results().map(|ty| number(&ty)).collect());
        if let (Some(params), Some(results)) = (params, results) {
            types.insert((module, name), (params, results));
        }
    }
    types
}

fn number(ty: &wasmtime::ValType) -> Option<ValType> {
    match ty {
        wasmtime::ValType::I32 => Some(ValType::I32),
        wasmtime::ValType::I64 => Some(ValType::I64),
        _ => None,
    }
}
