//! Vectors of 128 bits.

use super::{V128, Writer};

pub(super) const CANONICAL: &str = "
    (func $cf32x4 (param v128) (result v128) (v128.bitselect (local.get 0) (v128.const f32x4 nan nan nan nan)
        (f32x4.eq (local.get 0) (local.get 0))))
    (func $cf64x2 (param v128) (result v128) (v128.bitselect (local.get 0) (v128.const f64x2 nan nan)
        (f64x2.eq (local.get 0) (local.get 0))))";

/// Operations of two vectors on whole numbers.
const TWO: [&str; 44] = [
    "i8x16.add",
    "i8x16.sub",
    "i8x16.add_sat_s",
    "i8x16.sub_sat_u",
    "i8x16.min_u",
    "i8x16.max_s",
    "i8x16.avgr_u",
    "i8x16.swizzle",
    "i8x16.eq",
    "i8x16.lt_u",
    "i8x16.narrow_i16x8_s",
    "i8x16.narrow_i16x8_u",
    "i16x8.add",
    "i16x8.mul",
    "i16x8.sub_sat_s",
    "i16x8.q15mulr_sat_s",
    "i16x8.min_s",
    "i16x8.avgr_u",
    "i16x8.gt_s",
    "i16x8.narrow_i32x4_u",
    "i16x8.extmul_low_i8x16_s",
    "i16x8.extmul_high_i8x16_u",
    "i32x4.add",
    "i32x4.sub",
    "i32x4.mul",
    "i32x4.min_u",
    "i32x4.max_s",
    "i32x4.dot_i16x8_s",
    "i32x4.ge_u",
    "i32x4.ne",
    "i32x4.extmul_low_i16x8_u",
    "i64x2.add",
    "i64x2.sub",
    "i64x2.mul",
    "i64x2.eq",
    "i64x2.lt_s",
    "i64x2.extmul_high_i32x4_s",
    "v128.and",
    "v128.or",
    "v128.xor",
    "v128.andnot",
    "f32x4.lt",
    "f64x2.ge",
    "f64x2.ne",
];

/// Operations of one vector on bits and whole numbers.
const ONE: [&str; 23] = [
    "v128.not",
    "i8x16.abs",
    "i8x16.neg",
    "i8x16.popcnt",
    "i16x8.abs",
    "i16x8.extend_low_i8x16_s",
    "i16x8.extend_high_i8x16_u",
    "i16x8.extadd_pairwise_i8x16_s",
    "i32x4.neg",
    "i32x4.extadd_pairwise_i16x8_u",
    "i32x4.extend_low_i16x8_u",
    "i64x2.abs",
    "i64x2.extend_high_i32x4_s",
    "i32x4.trunc_sat_f32x4_s",
    "i32x4.trunc_sat_f32x4_u",
    "i32x4.trunc_sat_f64x2_s_zero",
    "i32x4.trunc_sat_f64x2_u_zero",
    "f32x4.convert_i32x4_s",
    "f32x4.convert_i32x4_u",
    "f64x2.convert_low_i32x4_s",
    "f64x2.convert_low_i32x4_u",
    "f32x4.neg",
    "f64x2.abs",
];

impl Writer<'_> {
    pub(super) fn vector_constant(&mut self) -> String {
        match self.random.below(4) {
            0 => format!("(v128.const f32x4 1.5 -0 inf {})", self.random.below(100)),
            1 => format!("(v128.const f64x2 -2.25 {}e10)", self.random.below(100)),
            2 => format!("(v128.const i8x16 0 1 2 3 17 5 6 7 15 14 13 12 255 128 127 {})", self.random.below(256)),
            _ => format!("(v128.const i64x2 {} {})", self.random.next() as i64, self.random.next() as i64),
        }
    }

    pub(super) fn loaded_vector(&mut self) -> String {
        let load = *self.random.pick(&[
            "v128.load",
            "v128.load align=1",
            "v128.load8x8_s",
            "v128.load32x2_u",
            "v128.load16_splat",
            "v128.load64_splat",
            "v128.load32_zero",
        ]);
        format!("({load} {})", self.place())
    }

    pub(super) fn vector_operation(&mut self, depth: usize) -> String {
        match self.random.below(16) {
            0..5 => self.two_vectors(&TWO, depth),
            5..7 => format!("({} {})", self.random.pick(&ONE), self.value(V128, depth)),
            7..9 => {
                let shape = *self.random.pick(&["f32x4", "f64x2"]);
                let name = *self.random.pick(&["add", "sub", "mul", "div", "min", "max"]);
                format!("(call $c{shape} ({shape}.{name} {} {}))", self.value(V128, depth), self.value(V128, depth))
            }
            9 => {
                let shape = *self.random.pick(&["f32x4", "f64x2"]);
                let name = *self.random.pick(&["sqrt", "ceil", "floor", "trunc", "nearest"]);
                format!("(call $c{shape} ({shape}.{name} {}))", self.value(V128, depth))
            }
            10 => match self.random.below(2) {
                0 => format!("(call $cf32x4 (f32x4.demote_f64x2_zero {}))", self.value(V128, depth)),
                _ => format!("(call $cf64x2 (f64x2.promote_low_f32x4 {}))", self.value(V128, depth)),
            },
            // These choose between given bits.
            11 => self.two_vectors(&["f32x4.pmin", "f32x4.pmax", "f64x2.pmin", "f64x2.pmax"], depth),
            12 => {
                let name = *self.random.pick(&["i8x16.shl", "i16x8.shr_s", "i32x4.shr_u", "i64x2.shr_s", "i64x2.shl"]);
                format!("({name} {} {})", self.value(V128, depth), self.value(0, depth))
            }
            13 => {
                let lanes: String = (0..16).map(|_| format!(" {}", self.random.below(32))).collect();
                format!("(i8x16.shuffle{lanes} {} {})", self.value(V128, depth), self.value(V128, depth))
            }
            14 => {
                let parts = [self.value(V128, depth), self.value(V128, depth), self.value(V128, depth)];
                format!("(v128.bitselect {})", parts.join(" "))
            }
            _ => self.vector_of(depth),
        }
    }

    fn two_vectors(&mut self, operations: &[&str], depth: usize) -> String {
        let operation = self.random.pick(operations);
        format!("({operation} {} {})", self.value(V128, depth), self.value(V128, depth))
    }

    /// A vector of numbers.
    fn vector_of(&mut self, depth: usize) -> String {
        match self.random.below(6) {
            0 => {
                let shape = *self.random.pick(&["i8x16", "i16x8", "i32x4"]);
                format!("({shape}.splat {})", self.value(0, depth))
            }
            1 => format!("(i64x2.splat {})", self.value(1, depth)),
            2 => format!("(f32x4.splat (call $c32 {}))", self.value(2, depth)),
            3 => format!("(f64x2.splat (call $c64 {}))", self.value(3, depth)),
            4 => format!("(i32x4.replace_lane 2 {} {})", self.value(V128, depth), self.value(0, depth)),
            _ => format!("(f64x2.replace_lane 1 {} (call $c64 {}))", self.value(V128, depth), self.value(3, depth)),
        }
    }

    /// A whole number from a vector.
    pub(super) fn of_vector(&mut self, depth: usize) -> String {
        let name = *self.random.pick(&[
            "i8x16.extract_lane_s 15",
            "i8x16.extract_lane_u 7",
            "i16x8.extract_lane_s 3",
            "i32x4.extract_lane 1",
            "v128.any_true",
            "i8x16.all_true",
            "i64x2.all_true",
            "i8x16.bitmask",
            "i32x4.bitmask",
        ]);
        format!("({name} {})", self.value(V128, depth))
    }
}
