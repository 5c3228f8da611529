//! Computations that are compiled twice from one source: natively, and into the contract `contracts/bench-kernels`.
//!
//! Each kernel takes a number of rounds and returns a checksum, which is the same wherever it runs. Inputs are made
//! here from fixed seeds, so nothing has to be passed in.

#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;

mod bytes;
mod floats;
mod text;

/// A kernel: rounds in, checksum out.
pub type Kernel = fn(u32) -> u64;

/// Names, functions, and as many rounds as take some milliseconds natively. The contract knows a kernel by its place.
pub const KERNELS: [(&str, Kernel, u32); 7] = [
    ("sha-256", bytes::sha256, 16),
    ("n-body f64", floats::n_body, 40_000),
    ("matrix product f64", floats::matrix_product, 16),
    ("json parse", text::json, 24),
    ("sort", bytes::sort, 8),
    ("mandelbrot f64", floats::mandelbrot, 6),
    ("regex match", text::regex, 24),
];

/// Xorshift, as all inputs are made with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Adds a value to a checksum.
fn mix(sum: u64, value: u64) -> u64 {
    (sum ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_fixed_and_depend_on_rounds() {
        for (name, kernel, rounds) in KERNELS {
            assert_eq!(kernel(rounds), kernel(rounds), "{name}");
            assert_ne!(kernel(1), kernel(2), "{name}");
        }
    }
}
