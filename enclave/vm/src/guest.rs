//! The border between a contract and the host: gas, and memory that the contract names by pointers of its choice.
//!
//! Every access is checked against the memory's bounds and every length against a limit before anything is allocated.
//! A pointer that does not fit is the contract's fault: it traps, like any access out of bounds.

use crate::{
    error::Reason,
    frame::{Frame, Machine, Role},
    gas,
};
use phala_primitives::{AccountId, Balance, Code, Hash};
use wasmtime::{Caller, Memory, ResourceLimiter};

/// Pointer or length that means "none".
pub(crate) const SENTINEL: u32 = u32::MAX;

/// What a contract's store holds.
pub(crate) struct Host {
    /// The execution; away while a callee runs with it.
    pub(crate) machine: Option<Box<Machine>>,
    pub(crate) frame: Frame,
    pub(crate) memory: Option<Memory>,
    pub(crate) growth: Growth,
}

impl Host {
    /// A host without an execution, for looking at the functions only.
    pub(crate) fn outside() -> Self {
        let (contract, caller, code_hash) = Default::default();
        let frame = Frame { contract, caller, code_hash, value: 0, input: None, read_only: true, role: Role::Call };
        Self { machine: None, frame, memory: None, growth: Growth::default() }
    }
}

/// What came of the contract's wish for memory.
#[derive(Default)]
pub(crate) struct Growth {
    /// Bytes that the instance holds.
    pub(crate) held: usize,
    /// Gas owed for pages that were added and not yet paid.
    pub(crate) owed: u64,
    /// Whether the contract was told that it gets no more: a trap after that is about memory.
    pub(crate) refused: bool,
    /// Whether the frame ends because there is no more for all calls of its contract together.
    pub(crate) failed: bool,
}

/// Watches the contract's memory grow. A contract that wants more than one call may have is told so, as WebAssembly has
/// it; where the sum is the limit, its frame ends.
impl ResourceLimiter for Host {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let Some(machine) = self.machine.as_mut() else { return Ok(false) };
        if desired > machine.limits().memory_bytes || maximum.is_some_and(|maximum| desired > maximum) {
            self.growth.refused = true;
            return Ok(false);
        }
        if let Err(reason) = machine.take_memory(current, desired) {
            self.growth.failed = true;
            return Err(Stop::Failed(reason).into());
        }
        self.growth.held = desired;
        let pages = (desired.saturating_sub(current) / crate::limits::PAGE) as u64;
        self.growth.owed = self.growth.owed.saturating_add(gas::MEMORY_PAGE.saturating_mul(pages));
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// Why control leaves the contract from within a host function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// It returns an output.
    #[error("returned")]
    Return { flags: u32, data: Vec<u8> },
    /// It ended itself for good.
    #[error("terminated")]
    Terminated,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] Reason),
}

impl From<crate::WorldError> for Stop {
    fn from(error: crate::WorldError) -> Self {
        Self::Failed(error.into())
    }
}

/// A failure of the contract that a host function found.
pub(crate) fn trap(detail: impl Into<String>) -> Stop {
    Stop::Failed(Reason::contract(Code::Trapped, detail))
}

/// A limit that the contract passed.
pub(crate) fn beyond(code: Code, what: &str, found: u32, limit: usize) -> Stop {
    Stop::Failed(Reason::contract(code, format!("{found} bytes of {what} where {limit} are allowed")))
}

pub(crate) type Result<T> = std::result::Result<T, Stop>;

/// A contract that has called a host function.
pub(crate) struct Guest<'a, 'b>(pub(crate) &'a mut Caller<'b, Host>);

impl Guest<'_, '_> {
    pub(crate) fn frame(&mut self) -> &mut Frame {
        &mut self.0.data_mut().frame
    }

    pub(crate) fn machine(&mut self) -> Result<&mut Machine> {
        let away = || Stop::Failed(Reason::fault(Code::Internal, "the execution is elsewhere"));
        self.0.data_mut().machine.as_deref_mut().ok_or_else(away)
    }

    /// Takes gas, and with it what the memory owes. Queries pay nothing.
    pub(crate) fn charge(&mut self, cost: u64) -> Result<()> {
        if !self.machine()?.metered() {
            return Ok(());
        }
        let owed = std::mem::take(&mut self.0.data_mut().growth.owed);
        let left = self.gas_left()?;
        match left.checked_sub(cost.saturating_add(owed)) {
            Some(left) => self.set_gas(left),
            None => {
                self.set_gas(0)?;
                Err(Stop::Failed(Reason::contract(Code::OutOfGas, "all gas is used")))
            }
        }
    }

    /// Gas that this frame may still use; without end in a query.
    pub(crate) fn gas_left(&mut self) -> Result<u64> {
        if !self.machine()?.metered() {
            return Ok(u64::MAX);
        }
        self.0.get_fuel().map_err(internal)
    }

    pub(crate) fn set_gas(&mut self, gas: u64) -> Result<()> {
        if !self.machine()?.metered() {
            return Ok(());
        }
        self.0.set_fuel(gas).map_err(internal)
    }

    /// Refuses to write on behalf of a caller that allowed to read only.
    pub(crate) fn deny_read_only(&mut self) -> Result<()> {
        match self.frame().read_only {
            true => Err(trap("a call that may only read tried to write")),
            false => Ok(()),
        }
    }

    /// Says whether the contract may be entered again while it waits for its callee.
    pub(crate) fn set_reentrant(&mut self, reentrant: bool) -> Result<()> {
        if let Some(running) = self.machine()?.stack.last_mut() {
            running.reentrant = reentrant;
        }
        Ok(())
    }

    /// Hash of the code of the account behind the pointer, if it is a contract.
    pub(crate) fn code_of(&mut self, pointer: u32) -> Result<Option<Hash>> {
        self.charge(gas::STORAGE_READ)?;
        let account = self.account(pointer)?;
        Ok(self.machine()?.overlay.code_hash(&account)?)
    }

    fn memory(&mut self) -> Result<&mut [u8]> {
        let memory = self.0.data().memory.ok_or_else(|| trap("the contract's memory is not ready"))?;
        Ok(memory.data_mut(&mut *self.0))
    }

    /// The contract's bytes, where they lie.
    pub(crate) fn view(&mut self, pointer: u32, length: u32) -> Result<&[u8]> {
        let (start, length) = (pointer as usize, length as usize);
        let range = start..start.checked_add(length).ok_or_else(out_of_bounds)?;
        self.memory()?.get(range).ok_or_else(out_of_bounds)
    }

    /// A copy of the contract's bytes, paid for.
    pub(crate) fn read(&mut self, pointer: u32, length: u32) -> Result<Vec<u8>> {
        self.charge(gas::bytes(gas::COPY_BYTE, length as usize))?;
        Ok(self.view(pointer, length)?.to_vec())
    }

    /// Some bytes of a length that the interface fixes.
    pub(crate) fn array<const N: usize>(&mut self, pointer: u32) -> Result<[u8; N]> {
        self.view(pointer, N as u32)?.try_into().map_err(|_| out_of_bounds())
    }

    pub(crate) fn account(&mut self, pointer: u32) -> Result<AccountId> {
        self.array(pointer).map(AccountId)
    }

    pub(crate) fn hash(&mut self, pointer: u32) -> Result<Hash> {
        self.array(pointer).map(Hash)
    }

    /// The amount behind the pointer, if the contract may give it to `to`; `None` if it has too little. An amount other
    /// than zero is paid for in gas, and refused where nothing may be written.
    pub(crate) fn spendable(&mut self, pointer: u32, to: &AccountId) -> Result<Option<Balance>> {
        let amount = Balance::from_le_bytes(self.array(pointer)?);
        if amount == 0 {
            return Ok(Some(0));
        }
        self.deny_read_only()?;
        self.charge(gas::TRANSFER)?;
        let from = self.frame().contract;
        Ok(self.machine()?.overlay.may_transfer(&from, to, amount)?.then_some(amount))
    }

    /// Writes bytes to where the contract wants them.
    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        let start = pointer as usize;
        let range = start..start.checked_add(bytes.len()).ok_or_else(out_of_bounds)?;
        self.memory()?.get_mut(range).ok_or_else(out_of_bounds)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes an output of variable length: the room is read from `length_pointer`, where the length goes then. Nothing
    /// happens if the contract gave no pointer.
    pub(crate) fn output(&mut self, pointer: u32, length_pointer: u32, bytes: &[u8]) -> Result<()> {
        if pointer == SENTINEL {
            return Ok(());
        }
        let room = u32::from_le_bytes(self.array(length_pointer)?);
        if bytes.len() > room as usize {
            return Err(trap(format!("an output of {} bytes does not fit into {room}", bytes.len())));
        }
        self.charge(gas::bytes(gas::COPY_BYTE, bytes.len()))?;
        self.write(pointer, bytes)?;
        self.write(length_pointer, &(bytes.len() as u32).to_le_bytes())
    }
}

fn out_of_bounds() -> Stop {
    trap("a pointer or length given to the host is out of bounds")
}

fn internal(error: wasmtime::Error) -> Stop {
    Stop::Failed(Reason::fault(Code::Internal, error.to_string()))
}
