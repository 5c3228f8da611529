//! NaNs of one form, so that commands come to the same bits on every machine.
//!
//! Which bits arithmetic gives to a NaN is the processor's choice. Commands therefore run a form of the contract in which
//! every operation that may make a NaN is followed by a choice between its result and the canonical NaN: the result is
//! taken if it is at least itself, which all numbers are and no NaN is. The engine's own way of doing this blends vectors,
//! which lengthens every chain of operations; a comparison that always goes the same way costs almost nothing. Vectors
//! are blended lane by lane, but the result of that is chosen only if some lane is a NaN, so again nothing waits for it.
//!
//! The code that is added is metered like the contract's own: arithmetic of floats takes six units of gas more, that of
//! vectors twelve.
//! Operations that only move bits (loads, signs, reinterpretation) are the same everywhere and stay as they are.

use crate::VmError;
use wasm_encoder::{CodeSection, Function, Module, RawSection};
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload, ValType};

const SET: &[u8] = &[0x21];
const TEE: &[u8] = &[0x22];
const GET: &[u8] = &[0x20];
const SELECT: &[u8] = &[0x1b];
const ANY_TRUE: &[u8] = &[0xfd, 0x53];
const BITSELECT: &[u8] = &[0xfd, 0x52];
/// `f32.ge`, `f64.ge`; `f32x4.ne`, `f64x2.ne`.
const AT_LEAST_32: &[u8] = &[0x60];
const AT_LEAST_64: &[u8] = &[0x66];
const OTHER_32: &[u8] = &[0xfd, 0x42];
const OTHER_64: &[u8] = &[0xfd, 0x48];
/// Constant canonical NaNs.
const NAN_32: &[u8] = &[0x43, 0, 0, 0xc0, 0x7f];
const NAN_64: &[u8] = &[0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f];
const NAN_32X4: &[u8] = &[0xfd, 0x0c, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f];
const NAN_64X2: &[u8] = &[0xfd, 0x0c, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f];

/// Results that may be NaNs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// Locals that a function gets: one of each kind that it needs, of vectors two.
#[derive(Default)]
struct Locals {
    added: Vec<(u32, wasm_encoder::ValType)>,
    next: u32,
    narrow: Option<u32>,
    wide: Option<u32>,
    vector: Option<u32>,
}

impl Locals {
    /// The first of those of a kind.
    fn of(&mut self, kind: Kind) -> u32 {
        let (place, count, ty) = match kind {
            Kind::F32 => (&mut self.narrow, 1, wasm_encoder::ValType::F32),
            Kind::F64 => (&mut self.wide, 1, wasm_encoder::ValType::F64),
            Kind::F32x4 | Kind::F64x2 => (&mut self.vector, 2, wasm_encoder::ValType::V128),
        };
        *place.get_or_insert_with(|| {
            self.added.push((count, ty));
            self.next = self.next.saturating_add(count);
            self.next.saturating_sub(count)
        })
    }
}

fn bad(error: impl std::fmt::Display) -> VmError {
    VmError::BadModule(error.to_string())
}

/// The module in this form. It must be valid.
pub(crate) fn canonical(wasm: &[u8]) -> Result<Vec<u8>, VmError> {
    let (mut module, mut code) = (Module::new(), CodeSection::new());
    let (mut parameters, mut functions) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(bad)?;
        match &payload {
            Payload::TypeSection(types) => {
                for ty in types.clone().into_iter_err_on_gc_types() {
                    parameters.push(ty.map_err(bad)?.params().len());
                }
            }
            Payload::FunctionSection(types) => {
                for ty in types.clone() {
                    functions.push(ty.map_err(bad)?);
                }
            }
            Payload::CodeSectionEntry(body) => {
                let ty = functions.get(code.len() as usize).and_then(|ty| parameters.get(*ty as usize));
                code.function(&function(wasm, body, *ty.ok_or_else(|| bad("a function without a type"))?)?);
                continue;
            }
            _ => {}
        }
        let Some((id, range)) = payload.as_section() else { continue };
        if let Payload::CodeSectionStart { .. } = payload {
            continue;
        }
        // Only data come after code.
        if id == wasm_encoder::SectionId::Data as u8 && !code.is_empty() {
            module.section(&code);
            code = CodeSection::new();
        }
        let data = wasm.get(range).ok_or_else(|| bad("a section reaches beyond the end"))?;
        module.section(&RawSection { id, data });
    }
    if !code.is_empty() {
        module.section(&code);
    }
    Ok(module.finish())
}

fn function(wasm: &[u8], body: &FunctionBody<'_>, parameters: usize) -> Result<Function, VmError> {
    let mut locals = Vec::new();
    let mut count = parameters as u32;
    for group in body.get_locals_reader().map_err(bad)? {
        let (number, ty) = group.map_err(bad)?;
        count = count.saturating_add(number);
        locals.push((number, number_type(ty)?));
    }
    let mut added = Locals { next: count, ..Locals::default() };
    for operator in body.get_operators_reader().map_err(bad)? {
        kind(&operator.map_err(bad)?).map(|kind| added.of(kind));
    }
    locals.extend(&added.added);
    let mut function = Function::new(locals);
    let mut operators = body.get_operators_reader().map_err(bad)?;
    while !operators.eof() {
        let start = operators.original_position();
        let operator = operators.read().map_err(bad)?;
        let bytes = wasm.get(start..operators.original_position()).ok_or_else(|| bad("an operator beyond the end"))?;
        function.raw(bytes.iter().copied());
        if let Some(kind) = kind(&operator) {
            choose(&mut function, added.of(kind), kind);
        }
    }
    operators.finish().map_err(|error: BinaryReaderError| bad(error))?;
    Ok(function)
}

fn number_type(ty: ValType) -> Result<wasm_encoder::ValType, VmError> {
    match ty {
        ValType::I32 => Ok(wasm_encoder::ValType::I32),
        ValType::I64 => Ok(wasm_encoder::ValType::I64),
        ValType::F32 => Ok(wasm_encoder::ValType::F32),
        ValType::F64 => Ok(wasm_encoder::ValType::F64),
        ValType::V128 => Ok(wasm_encoder::ValType::V128),
        ValType::Ref(_) => Err(bad(format!("a local of type {ty}"))),
    }
}

/// What remains on the stack is its top, or the NaN where that is none of the numbers.
fn choose(function: &mut Function, local: u32, kind: Kind) {
    let index = |local: u32| {
        let mut bytes = Vec::new();
        wasm_encoder::Encode::encode(&local, &mut bytes);
        bytes
    };
    let (value, mask) = (index(local), index(local.saturating_add(1)));
    let (get, value, mask) = (&*[GET, &value].concat(), &*value, &*mask);
    let number = |nan, at_least| [TEE, value, nan, get, get, at_least, SELECT].concat();
    let vector = |nan, other| {
        let blended = [nan, get, get, get, other, TEE, mask, BITSELECT].concat();
        [SET, value, &blended, get, GET, mask, ANY_TRUE, SELECT].concat()
    };
    function.raw(match kind {
        Kind::F32 => number(NAN_32, AT_LEAST_32),
        Kind::F64 => number(NAN_64, AT_LEAST_64),
        Kind::F32x4 => vector(NAN_32X4, OTHER_32),
        Kind::F64x2 => vector(NAN_64X2, OTHER_64),
    });
}

/// The result of an operation that may make a NaN. The vectors' `pmin` and `pmax` only choose between given bits.
fn kind(operator: &Operator<'_>) -> Option<Kind> {
    use Operator::*;
    match operator {
        F32Ceil | F32Floor | F32Trunc | F32Nearest | F32Sqrt | F32Add | F32Sub | F32Mul | F32Div | F32Min | F32Max
        | F32DemoteF64 => Some(Kind::F32),
        F64Ceil | F64Floor | F64Trunc | F64Nearest | F64Sqrt | F64Add | F64Sub | F64Mul | F64Div | F64Min | F64Max
        | F64PromoteF32 => Some(Kind::F64),
        F32x4Ceil | F32x4Floor | F32x4Trunc | F32x4Nearest | F32x4Sqrt | F32x4Add | F32x4Sub | F32x4Mul | F32x4Div
        | F32x4Min | F32x4Max | F32x4DemoteF64x2Zero => Some(Kind::F32x4),
        F64x2Ceil | F64x2Floor | F64x2Trunc | F64x2Nearest | F64x2Sqrt | F64x2Add | F64x2Sub | F64x2Mul | F64x2Div
        | F64x2Min | F64x2Max | F64x2PromoteLowF32x4 => Some(Kind::F64x2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arithmetic_is_changed_and_the_result_is_valid() {
        let text = r#"(module (memory 1) (global f64 (f64.const nan:0x4))
            (func (export "call") (param i32 f64) (result f64) (local i64 f32) (drop (i64.add (local.get 2) (local.get 2)))
                (f64.mul (f64.neg (local.get 1)) (f64.promote_f32 (f32.sqrt (local.get 3)))))
            (func (export "deploy") (unreachable) (f32.add) (drop))
            (data (i32.const 8) "data"))"#;
        let wasm = wat::parse_str(text).unwrap();
        let result = canonical(&wasm).unwrap();
        wasmparser::Validator::new().validate_all(&result).unwrap();
        // Four operations, three of them in the first function, two of each width; indices of locals take a byte.
        let (locals, added) = (2 + 4, 2 * (8 + 5) + 2 * (8 + 9));
        assert_eq!(result.len(), wasm.len() + locals + added);
        let idle = wat::parse_str("(module (memory 1) (data (i32.const 8) \"data\"))").unwrap();
        assert_eq!(canonical(&idle).unwrap(), idle);
    }
}
