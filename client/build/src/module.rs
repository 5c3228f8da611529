//! A contract's module: what must be in it, and what need not.
//!
//! A contract imports its memory as `env.memory` and functions of `seal0`, `seal1`, `seal2` or `__unstable__`; it
//! exports the functions `call` and `deploy`; it has no start function. [`inspect`] checks that.
//!
//! [`clean`] drops
//! - custom sections (names, producers), which nothing reads;
//! - exports other than `call` and `deploy`;
//! - zeros in data: a contract's memory is fresh, so all zero, at every call. This is most of a small contract, because
//!   a linker that imports memory cannot know that, and writes ink!'s empty 16 KiB buffer out.

use phala_primitives::{Code, Coded};
use std::ops::Range;
use wasmparser::{
    Data, DataKind, DataSectionReader, ExportSectionReader, ExternalKind, Operator, Parser, Payload, TypeRef,
    Validator, WasmFeatures,
};

const CUSTOM: u8 = 0;
const EXPORTS: u8 = 7;
const DATA: u8 = 11;
/// A run of zeros of at least so many bytes ends a segment: starting another costs about seven bytes.
const WORTHWHILE: usize = 8;
/// Most segments that are made of one, so that nothing grows without bound.
const MAX_PIECES: usize = 4096;

fn bad(error: impl std::fmt::Display) -> Coded {
    Coded::new(Code::BadModule, error.to_string())
}

/// Checks that the module is valid and has the shape of a contract.
pub fn inspect(wasm: &[u8]) -> Result<(), Coded> {
    Validator::new_with_features(WasmFeatures::WASM2).validate_all(wasm).map_err(bad)?;
    let (mut memory, mut call, mut deploy) = (false, false, false);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(bad)? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(bad)?;
                    match (import.module, import.name, import.ty) {
                        ("env", "memory", TypeRef::Memory(_)) => memory = true,
                        ("seal0" | "seal1" | "seal2" | "__unstable__", _, TypeRef::Func(_)) => (),
                        (module, name, _) => return Err(bad(format!("it imports {module}.{name}"))),
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(bad)?;
                    let function = export.kind == ExternalKind::Func;
                    call |= function && export.name == "call";
                    deploy |= function && export.name == "deploy";
                }
            }
            Payload::StartSection { .. } => return Err(bad("it has a start function")),
            _ => (),
        }
    }
    match (memory, call, deploy) {
        (true, true, true) => Ok(()),
        (false, ..) => Err(bad("it does not import env.memory")),
        _ => Err(bad("it does not export call and deploy")),
    }
}

/// The same contract without what nobody reads. The result is valid if `wasm` is.
pub fn clean(wasm: &[u8]) -> Result<Vec<u8>, Coded> {
    let mut result = wasm.get(..8).ok_or_else(|| bad("it is empty"))?.to_vec();
    // Instructions that name data segments count them, and then their number must not change.
    let mut counted = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(bad)?;
        counted |= matches!(payload, Payload::DataCountSection { .. });
        let Some((id, range)) = payload.as_section() else { continue };
        match (id, payload) {
            (CUSTOM, _) => (),
            (EXPORTS, Payload::ExportSection(exports)) => section(&mut result, EXPORTS, &wanted_exports(exports)?),
            (DATA, Payload::DataSection(data)) if !counted => match without_zeros(data)? {
                Some(body) => section(&mut result, DATA, &body),
                None => section(&mut result, DATA, bytes(wasm, range)?),
            },
            _ => section(&mut result, id, bytes(wasm, range)?),
        }
    }
    Ok(result)
}

fn wanted_exports(exports: ExportSectionReader<'_>) -> Result<Vec<u8>, Coded> {
    let (mut body, mut count) = (Vec::new(), 0);
    for export in exports {
        let export = export.map_err(bad)?;
        if export.kind == ExternalKind::Func && matches!(export.name, "call" | "deploy") {
            count += 1;
            number(&mut body, export.name.len());
            body.extend_from_slice(export.name.as_bytes());
            body.push(0);
            number(&mut body, export.index as usize);
        }
    }
    Ok(list(count, &body))
}

/// The data section without zeros; `None` if it has segments whose order or extent could matter.
fn without_zeros(data: DataSectionReader<'_>) -> Result<Option<Vec<u8>>, Coded> {
    let mut segments = Vec::new();
    for segment in data {
        let segment = segment.map_err(bad)?;
        match offset(&segment) {
            Some(start) => segments.push((start, segment.data)),
            None => return Ok(None),
        }
    }
    segments.sort_by_key(|(start, _)| *start);
    let ends = segments.iter().map(|(start, data)| u64::from(*start).saturating_add(data.len() as u64));
    let mut next = segments.iter().skip(1).map(|(start, _)| u64::from(*start));
    if ends.zip(next.by_ref()).any(|(end, next)| end > next) {
        return Ok(None);
    }
    let (mut body, mut count) = (Vec::new(), 0_usize);
    for (start, data) in segments {
        for piece in pieces(data) {
            let Some(bytes) = data.get(piece.clone()) else { continue };
            let Ok(at) = u32::try_from(u64::from(start).saturating_add(piece.start as u64)) else { return Ok(None) };
            count = count.saturating_add(1);
            // Active, memory 0, `i32.const at`, `end`.
            body.extend_from_slice(&[0, 0x41]);
            signed(&mut body, at as i32);
            body.push(0x0b);
            number(&mut body, bytes.len());
            body.extend_from_slice(bytes);
        }
    }
    Ok((count <= MAX_PIECES).then(|| list(count, &body)))
}

/// Where an active segment of memory 0 begins, if that is a constant.
fn offset(segment: &Data<'_>) -> Option<u32> {
    let DataKind::Active { memory_index: 0, offset_expr } = &segment.kind else { return None };
    let mut operators = offset_expr.get_operators_reader();
    let Ok(Operator::I32Const { value }) = operators.read() else { return None };
    matches!(operators.read(), Ok(Operator::End)).then_some(value as u32)
}

/// Where `data` holds something: ranges between long runs of zeros.
fn pieces(data: &[u8]) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    for (at, _) in data.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        let end = at.saturating_add(1);
        match pieces.last_mut() {
            Some(last) if at.saturating_sub(last.end) < WORTHWHILE => last.end = end,
            _ => pieces.push(at..end),
        }
    }
    pieces
}

fn bytes(wasm: &[u8], range: Range<usize>) -> Result<&[u8], Coded> {
    wasm.get(range).ok_or_else(|| bad("a section ends early"))
}

fn section(result: &mut Vec<u8>, id: u8, body: &[u8]) {
    result.push(id);
    number(result, body.len());
    result.extend_from_slice(body);
}

fn list(count: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    number(&mut bytes, count);
    bytes.extend_from_slice(body);
    bytes
}

/// Unsigned LEB128.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Signed LEB128.
fn signed(bytes: &mut Vec<u8>, mut value: i32) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && low & 0x40 == 0) || (value == -1 && low & 0x40 != 0) {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
