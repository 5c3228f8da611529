//! The memory of a contract that has called a function.

use crate::{Frame, Host, Machine};
use phala_primitives::{AccountId, Hash};
use std::cell::RefMut;
use wasmi::{Caller, Error, Memory};

/// A contract that has called a function of the host.
pub(crate) struct Guest<'a>(pub(crate) Caller<'a, Host>);

/// Pointer that means "none".
const NONE: u32 = u32::MAX;

impl Guest<'_> {
    pub(crate) fn frame(&mut self) -> &mut Frame {
        &mut self.0.data_mut().frame
    }

    pub(crate) fn machine(&self) -> RefMut<'_, Machine> {
        self.0.data().machine.borrow_mut()
    }

    fn memory(&self) -> Result<Memory, Error> {
        self.0.data().memory.ok_or_else(|| Error::new("no memory"))
    }

    pub(crate) fn read(&self, pointer: u32, length: u32, limit: usize) -> Result<Vec<u8>, Error> {
        let (start, length) = (pointer as usize, length as usize);
        match self.memory()?.data(&self.0).get(start..start.saturating_add(length)) {
            Some(bytes) if length <= limit => Ok(bytes.to_vec()),
            _ => Err(Error::new("out of bounds, or too long")),
        }
    }

    fn array<const N: usize>(&self, pointer: u32) -> Result<[u8; N], Error> {
        self.read(pointer, N as u32, N)?.try_into().map_err(|_| Error::new("out of bounds"))
    }

    pub(crate) fn account(&self, pointer: u32) -> Result<AccountId, Error> {
        self.array(pointer).map(AccountId)
    }

    pub(crate) fn hash(&self, pointer: u32) -> Result<Hash, Error> {
        self.array(pointer).map(Hash)
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), Error> {
        self.memory()?.write(&mut self.0, pointer as usize, bytes).map_err(|_| Error::new("out of bounds"))
    }

    /// Writes an output of variable length where there is room for it.
    pub(crate) fn output(&mut self, pointer: u32, length_pointer: u32, bytes: &[u8]) -> Result<(), Error> {
        if pointer == NONE {
            return Ok(());
        }
        if bytes.len() > u32::from_le_bytes(self.array(length_pointer)?) as usize {
            return Err(Error::new("no room"));
        }
        self.write(pointer, bytes)?;
        self.write(length_pointer, &(bytes.len() as u32).to_le_bytes())
    }

    /// Ends the contract if it may only read.
    pub(crate) fn deny_read_only(&mut self) -> Result<(), Error> {
        if self.frame().read_only { Err(Error::new("may only read")) } else { Ok(()) }
    }
}
