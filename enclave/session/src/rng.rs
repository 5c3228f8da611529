//! The machine's randomness in the form that this crate asks for.

use rand_core::{TryCryptoRng, TryRng};
use std::convert::Infallible;

/// The operating system's (in a TEE: the CPU's) random number generator.
///
/// # Panics
/// If the machine has no randomness: there is nothing safe to do without.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemRng;

impl TryRng for SystemRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the machine has no randomness: {error}");
        }
        Ok(())
    }
}

impl TryCryptoRng for SystemRng {}
