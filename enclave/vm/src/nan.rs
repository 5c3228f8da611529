//! NaNs of one form, so that commands come to the same bits on every machine.
//!
//! Which bits arithmetic gives to a NaN is the processor's choice. Commands therefore run a form of the contract in which
//! every operation that may make a NaN is followed by a choice between its result and the canonical NaN: the result is
//! taken if it is at least itself, which all numbers are and no NaN is. The engine's own way of doing this blends vectors,
//! which lengthens every chain of operations; a comparison that always goes the same way costs almost nothing. Vectors
//! are blended lane by lane, as there is no other way: a lane is taken if it equals itself.
//!
//! The code that is added is metered like the contract's own: arithmetic of floats takes six units of gas more.
//! Operations that only move bits (loads, signs, reinterpretation) are the same everywhere and stay as they are.

use crate::VmError;
use wasm_encoder::{CodeSection, Function, Module, RawSection};
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload, ValType};

/// `local.tee`, `local.get`.
const TEE: u8 = 0x22;
const GET: u8 = 0x20;

/// Results that may be NaNs. Each has a local of its own type in the function; see [`Kind::local`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    F32x4,
    F64x2,
}

impl Kind {
    /// A constant canonical NaN, and the operations that compare and choose.
    fn parts(self) -> (&'static [u8], &'static [u8]) {
        match self {
            // At least; select.
            Self::F32 => (&[0x43, 0, 0, 0xc0, 0x7f], &[0x60, 0x1b]),
            Self::F64 => (&[0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f], &[0x66, 0x1b]),
            // Equal; bitselect.
            Self::F32x4 => (
                &[0xfd, 0x0c, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f],
                &[0xfd, 0x41, 0xfd, 0x52],
            ),
            Self::F64x2 => {
                (&[0xfd, 0x0c, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f], &[0xfd, 0x47, 0xfd, 0x52])
            }
        }
    }

    /// Type of its local; vectors share one.
    fn local(self) -> wasm_encoder::ValType {
        match self {
            Self::F32 => wasm_encoder::ValType::F32,
            Self::F64 => wasm_encoder::ValType::F64,
            Self::F32x4 | Self::F64x2 => wasm_encoder::ValType::V128,
        }
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
    let mut added: Vec<wasm_encoder::ValType> = Vec::new();
    for operator in body.get_operators_reader().map_err(bad)? {
        if let Some(kind) = kind(&operator.map_err(bad)?).filter(|kind| !added.contains(&kind.local())) {
            added.push(kind.local());
        }
    }
    locals.extend(added.iter().map(|ty| (1, *ty)));
    let mut function = Function::new(locals);
    let mut operators = body.get_operators_reader().map_err(bad)?;
    while !operators.eof() {
        let start = operators.original_position();
        let operator = operators.read().map_err(bad)?;
        let bytes = wasm.get(start..operators.original_position()).ok_or_else(|| bad("an operator beyond the end"))?;
        function.raw(bytes.iter().copied());
        if let Some(kind) = kind(&operator)
            && let Some(place) = added.iter().position(|ty| *ty == kind.local())
        {
            choose(&mut function, count.saturating_add(place as u32), kind);
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

/// What remains on the stack is its top, or the NaN if that is none of the numbers.
fn choose(function: &mut Function, local: u32, kind: Kind) {
    let (nan, compare_and_choose) = kind.parts();
    let mut index = Vec::new();
    wasm_encoder::Encode::encode(&local, &mut index);
    let parts = [&[TEE], &*index, nan, &[GET], &index, &[GET], &index, compare_and_choose];
    function.raw(parts.concat());
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
