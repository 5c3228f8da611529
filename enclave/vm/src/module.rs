//! Which modules are contracts, and the form in which they are compiled.
//!
//! A contract is plain WebAssembly: the first version with mutable globals, which is what `wasm32v1-none` emits, and
//! what makes heavy code fast: sign extension, saturating conversions, several results, SIMD, and copying and filling
//! memory. All of it is the same on every machine, NaNs aside, for which see [`nan`](crate::nan). It imports functions of
//! the host alone, has a memory, and exports `deploy` and `call`. It must not run code when instantiated. All else is
//! refused at upload, with a text that names it: relaxed SIMD, as it depends on the machine, above all.
//!
//! ink! contracts import their memory. A memory that the host makes would be mapped anew for each call, so the import
//! is rewritten to a memory of the module's own, which the pooling allocator serves from a warm slot and initialises
//! copy-on-write. The export under [`MEMORY_EXPORT`] gives the host access.

use crate::{
    VmError,
    limits::{CODE_BYTES, MAX_MEMORY, PAGE, TABLE_ELEMENTS},
};
use std::collections::{BTreeMap, BTreeSet};
use wasm_encoder::RawSection;
use wasmparser::{
    ExternalKind, FuncType, MemoryType, Operator, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

/// Name under which the rewritten module exports its memory.
pub(crate) const MEMORY_EXPORT: &str = "phala:memory";
/// First bytes of ink! 6 programs, and of ELF files, their form before linking.
const POLKAVM: &[u8] = b"PVM\0";
const ELF: &[u8] = b"\x7fELF";

const MAX_FUNCTIONS: u32 = 40_000;
const MAX_GLOBALS: u32 = 1024;
const MAX_BODY: usize = 128 << 10;
/// Bytes of all functions together, which is what takes time to compile. The rest of a large code is data.
const MAX_BODIES: u64 = 4 << 20;
const MAX_LOCALS: u32 = 4096;
const MAX_PARAMETERS: usize = 32;
const MAX_BRANCHES: u32 = 4096;
/// Locals that a function may have beyond one for each byte.
const SPARE_LOCALS: u64 = 64;
const MAX_DEPTH: u64 = 2048;
/// The compiler's time grows with the square of this.
const MAX_BRANCHES_TO_LABEL: u64 = 2048;
/// The same.
const MAX_INDIRECT_CALLS: u64 = 512;
/// Blocks of a function times its locals: at the end of each block, each local may have to be joined of two values.
/// Time grows with the square of that. The largest function of a library for regular expressions has 23,000.
const MAX_JOINS: u64 = 40_000;
/// Of all functions, what there may be beyond as many as bytes so far.
const SPARE_JOINS: u64 = 40_000;
const MAX_TYPES: u32 = 4096;
const MAX_EXPORTS: u32 = 1024;
const MAX_IMPORTS: u32 = 1024;
const MAX_SEGMENTS: u32 = 8192;
const MAX_ELEMENTS: u64 = 64 << 10;

/// Parameters and results of the host's functions, by module and name.
pub(crate) type HostTypes = BTreeMap<(String, String), (Vec<ValType>, Vec<ValType>)>;

/// A module that passed all checks, rewritten for the engine.
pub(crate) struct Contract {
    /// Rewritten module.
    pub(crate) wasm: Vec<u8>,
    /// Pages of memory at the start.
    pub(crate) pages: u64,
}

fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::SIMD
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::FLOATS
        | WasmFeatures::GC_TYPES
}

fn bad(what: impl std::fmt::Display) -> VmError {
    VmError::BadModule(what.to_string())
}

/// Everything that must be found in a module, gathered while it is walked.
#[derive(Default)]
struct Survey {
    types: Vec<FuncType>,
    functions: Vec<u32>,
    /// Functions that have been imported, and bodies that have been seen.
    imported: usize,
    bodies: usize,
    /// Blocks times locals of all functions.
    joins: u64,
    memory: Option<MemoryType>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    /// Of all functions so far.
    body_bytes: u64,
}

/// Checks `code` and rewrites it.
pub(crate) fn prepare(code: &[u8], host: &HostTypes) -> Result<Contract, VmError> {
    if code.starts_with(POLKAVM) || code.starts_with(ELF) {
        return Err(VmError::Ink6);
    }
    if code.len() > CODE_BYTES {
        return Err(VmError::CodeTooLarge { size: code.len(), limit: CODE_BYTES });
    }
    Validator::new_with_features(features()).validate_all(code).map_err(bad)?;
    let mut survey = Survey::default();
    for payload in Parser::new(0).parse_all(code) {
        survey.see(payload.map_err(bad)?, host)?;
    }
    let memory = survey.judge()?;
    Ok(Contract { wasm: rewrite(code, memory)?, pages: memory.initial })
}

impl Survey {
    fn see(&mut self, payload: Payload<'_>, host: &HostTypes) -> Result<(), VmError> {
        match payload {
            Payload::TypeSection(types) => {
                bounded("types", types.count().into(), MAX_TYPES.into())?;
                for ty in types.into_iter_err_on_gc_types() {
                    self.types.push(checked_type(ty.map_err(bad)?)?);
                }
            }
            Payload::ImportSection(imports) => {
                bounded("imports", imports.count().into(), MAX_IMPORTS.into())?;
                for import in imports.into_imports() {
                    let import = import.map_err(bad)?;
                    self.import(import.module, import.name, import.ty, host)?;
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty.map_err(bad)?);
                }
                bounded("functions", self.functions.len() as u64, MAX_FUNCTIONS.into())?;
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table.map_err(bad)?.ty;
                    bounded("elements of a table", table.initial, TABLE_ELEMENTS as u64)?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memory = Some(memory.map_err(bad)?);
                }
            }
            Payload::GlobalSection(globals) => bounded("globals", globals.count().into(), MAX_GLOBALS.into())?,
            Payload::ExportSection(exports) => {
                bounded("exports", exports.count().into(), MAX_EXPORTS.into())?;
                for export in exports {
                    let export = export.map_err(bad)?;
                    self.exports.insert(export.name.to_owned(), (export.kind, export.index));
                }
            }
            Payload::StartSection { .. } => return Err(bad("a start function is not allowed")),
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::DataSection(data) => bounded("data segments", data.count().into(), MAX_SEGMENTS.into())?,
            Payload::ElementSection(elements) => self.elements(elements)?,
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef, host: &HostTypes) -> Result<(), VmError> {
        match ty {
            TypeRef::Memory(memory) if module == "env" && name == "memory" => self.memory = Some(memory),
            TypeRef::Func(index) => {
                let key = (module.to_owned(), name.to_owned());
                let (params, results) = host.get(&key).ok_or_else(|| bad(format!("unknown import {module}.{name}")))?;
                let found = self.types.get(index as usize).ok_or_else(|| bad("an import without a type"))?;
                if found.params() != params.as_slice() || found.results() != results.as_slice() {
                    return Err(bad(format!("import {module}.{name} has another type than the host's function")));
                }
                self.functions.push(index);
                self.imported = self.functions.len();
            }
            _ => return Err(bad(format!("unknown import {module}.{name}"))),
        }
        Ok(())
    }

    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), VmError> {
        let ty = self.functions.get(self.imported.saturating_add(self.bodies));
        let parameters = ty.and_then(|ty| self.types.get(*ty as usize)).map_or(0, |ty| ty.params().len());
        self.bodies = self.bodies.saturating_add(1);
        self.body_bytes = self.body_bytes.saturating_add(body.range().len() as u64);
        bounded("bytes of all functions", self.body_bytes, MAX_BODIES)?;
        self.joins = self.joins.saturating_add(checked_body(body, parameters)?);
        let limit = (body.range().end as u64).saturating_add(SPARE_JOINS);
        bounded("blocks times locals of all functions", self.joins, limit)
    }

    fn elements(&self, elements: wasmparser::ElementSectionReader<'_>) -> Result<(), VmError> {
        bounded("element segments", elements.count().into(), MAX_SEGMENTS.into())?;
        let mut count = 0_u64;
        for segment in elements {
            count = count.saturating_add(match segment.map_err(bad)?.items {
                wasmparser::ElementItems::Functions(functions) => functions.count().into(),
                wasmparser::ElementItems::Expressions(_, expressions) => expressions.count().into(),
            });
        }
        bounded("elements", count, MAX_ELEMENTS)
    }

    /// Checks what needs the whole module, and returns its memory.
    fn judge(&self) -> Result<MemoryType, VmError> {
        for name in ["deploy", "call"] {
            let Some((ExternalKind::Func, index)) = self.exports.get(name) else {
                return Err(bad(format!("no function `{name}` is exported")));
            };
            let ty = self.functions.get(*index as usize).and_then(|ty| self.types.get(*ty as usize));
            if !ty.is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty()) {
                return Err(bad(format!("the exported function `{name}` must have neither parameters nor results")));
            }
        }
        if self.exports.contains_key(MEMORY_EXPORT) {
            return Err(bad(format!("the name `{MEMORY_EXPORT}` is reserved")));
        }
        let memory = self.memory.ok_or_else(|| bad("no memory: contracts import env.memory"))?;
        let most = (MAX_MEMORY / PAGE) as u64;
        if memory.initial > most {
            return Err(bad(format!("{} pages of memory where {most} are allowed", memory.initial)));
        }
        Ok(memory)
    }
}

fn bounded(what: &str, count: u64, limit: u64) -> Result<(), VmError> {
    if count > limit {
        return Err(bad(format!("{count} {what} where {limit} are allowed")));
    }
    Ok(())
}

fn checked_type(ty: FuncType) -> Result<FuncType, VmError> {
    bounded("parameters and results of a function", ty.params().len() as u64, MAX_PARAMETERS as u64)?;
    bounded("parameters and results of a function", ty.results().len() as u64, MAX_PARAMETERS as u64)?;
    Ok(ty)
}

/// Bounds what makes compilation slow beyond measure. `parameters` counts for locals.
fn checked_body(body: &wasmparser::FunctionBody<'_>, parameters: usize) -> Result<u64, VmError> {
    let bytes = body.range().len();
    bounded("bytes of a function", bytes as u64, MAX_BODY as u64)?;
    let mut locals = parameters as u32;
    for group in body.get_locals_reader().map_err(bad)? {
        locals = locals.saturating_add(group.map_err(bad)?.0);
    }
    bounded("locals of a function", locals.into(), MAX_LOCALS.into())?;
    // A local that is used takes two bytes and more.
    bounded("locals in a function of its size", locals.into(), (bytes as u64).saturating_add(SPARE_LOCALS))?;
    // Branches to each label under way; the function's own is the first.
    let (mut labels, mut ends, mut indirect) = (vec![0_u32], 0_u64, 0_u64);
    for operator in body.get_operators_reader().map_err(bad)? {
        match operator.map_err(bad)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                labels.push(0);
                ends = ends.saturating_add(1);
                bounded("blocks inside each other", labels.len() as u64, MAX_DEPTH)?;
            }
            Operator::End => drop(labels.pop()),
            Operator::CallIndirect { .. } => {
                indirect = indirect.saturating_add(1);
                bounded("indirect calls in a function", indirect, MAX_INDIRECT_CALLS)?;
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => branch(&mut labels, relative_depth)?,
            Operator::BrTable { targets } => {
                bounded("targets of a branch", targets.len().into(), MAX_BRANCHES.into())?;
                let mut distinct = BTreeSet::from([targets.default()]);
                for target in targets.targets() {
                    distinct.insert(target.map_err(bad)?);
                }
                for target in distinct {
                    branch(&mut labels, target)?;
                }
            }
            _ => {}
        }
    }
    let joins = ends.saturating_mul(locals.into());
    bounded("blocks times locals of a function", joins, MAX_JOINS)?;
    Ok(joins)
}

/// Counts a branch to a label.
fn branch(labels: &mut [u32], depth: u32) -> Result<(), VmError> {
    let place = labels.len().checked_sub(depth as usize).and_then(|above| above.checked_sub(1));
    let Some(count) = place.and_then(|place| labels.get_mut(place)) else { return Ok(()) };
    *count = count.saturating_add(1);
    bounded("branches to one label", (*count).into(), MAX_BRANCHES_TO_LABEL)
}

/// Copies all sections but those that name the memory, which becomes the module's own, within the limit, and exported.
fn rewrite(code: &[u8], memory: MemoryType) -> Result<Vec<u8>, VmError> {
    let mut module = wasm_encoder::Module::new();
    let mut memory = Some(memory_section(memory));
    for payload in Parser::new(0).parse_all(code) {
        let payload = payload.map_err(bad)?;
        let Some((id, range)) = payload.as_section() else { continue };
        // Sections come in the order of their ids up to code (10) and data (11); data count (12) is not MVP.
        if id > 5
            && id != 12
            && let Some(memory) = memory.take()
        {
            module.section(&memory);
        }
        match payload {
            Payload::CustomSection(_) | Payload::MemorySection(_) => {}
            Payload::ImportSection(imports) => drop(module.section(&functions_only(imports)?)),
            Payload::ExportSection(exports) => drop(module.section(&with_memory(exports)?)),
            _ => {
                let data = code.get(range).ok_or_else(|| bad("a section reaches beyond the end"))?;
                module.section(&RawSection { id, data });
            }
        }
    }
    Ok(module.finish())
}

fn memory_section(memory: MemoryType) -> wasm_encoder::MemorySection {
    let most = (MAX_MEMORY / PAGE) as u64;
    let mut section = wasm_encoder::MemorySection::new();
    section.memory(wasm_encoder::MemoryType {
        minimum: memory.initial,
        maximum: Some(memory.maximum.map_or(most, |pages| pages.min(most))),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    section
}

fn functions_only(imports: wasmparser::ImportSectionReader<'_>) -> Result<wasm_encoder::ImportSection, VmError> {
    let mut section = wasm_encoder::ImportSection::new();
    for import in imports.into_imports() {
        let import = import.map_err(bad)?;
        if let TypeRef::Func(index) = import.ty {
            section.import(import.module, import.name, wasm_encoder::EntityType::Function(index));
        }
    }
    Ok(section)
}

fn with_memory(exports: wasmparser::ExportSectionReader<'_>) -> Result<wasm_encoder::ExportSection, VmError> {
    let mut section = wasm_encoder::ExportSection::new();
    for export in exports {
        let export = export.map_err(bad)?;
        let kind = match export.kind {
            ExternalKind::Func => wasm_encoder::ExportKind::Func,
            ExternalKind::Table => wasm_encoder::ExportKind::Table,
            ExternalKind::Memory => wasm_encoder::ExportKind::Memory,
            ExternalKind::Global => wasm_encoder::ExportKind::Global,
            _ => return Err(bad(format!("the export `{}` is of an unknown kind", export.name))),
        };
        section.export(export.name, kind, export.index);
    }
    section.export(MEMORY_EXPORT, wasm_encoder::ExportKind::Memory, 0);
    Ok(section)
}
