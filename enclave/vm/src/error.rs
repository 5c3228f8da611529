//! What can go wrong, told apart by whose doing it is: the module's, the contract's, or this replica's.

use phala_primitives::{Code, Coded};

/// The engine cannot be made, or a module is refused.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The bytes are no module that the network runs; the text names what is wrong.
    #[error("not a valid contract: {0}")]
    BadModule(String),
    /// A program of ink! 6.
    #[error("compiled by ink! 6 for RISC-V")]
    Ink6,
    /// Larger than `MAX_CODE` of `phala_primitives::limits`.
    #[error("{size} bytes of code where {limit} are allowed")]
    CodeTooLarge {
        /// Bytes of the code.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// wasmtime refuses its configuration, or the machine its reservation.
    #[error("the engine cannot be made: {0}")]
    Engine(String),
}

impl VmError {
    /// Number under which people and programs know this.
    pub fn code(&self) -> Code {
        match self {
            Self::BadModule(_) => Code::BadModule,
            Self::Ink6 => Code::Ink6,
            Self::CodeTooLarge { .. } => Code::CodeTooLarge,
            Self::Engine(_) => Code::Internal,
        }
    }
}

/// The store behind a [`World`](crate::World) failed. It says nothing about the contract.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the state cannot be read: {0}")]
pub struct WorldError(pub String);

/// Why a contract stopped without an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    /// The contract's own doing: every replica comes to the same.
    #[error("{detail}")]
    Contract { code: Code, detail: String },
    /// This replica's state or the caller's patience: the whole execution ends, and nothing of it counts.
    #[error("{detail}")]
    Fault { code: Code, detail: String },
}

impl Reason {
    pub(crate) fn contract(code: Code, detail: impl Into<String>) -> Self {
        Self::Contract { code, detail: detail.into() }
    }

    pub(crate) fn fault(code: Code, detail: impl Into<String>) -> Self {
        Self::Fault { code, detail: detail.into() }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Contract { code, .. } | Self::Fault { code, .. } => *code,
        }
    }

    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Fault { .. })
    }
}

impl From<WorldError> for Reason {
    fn from(error: WorldError) -> Self {
        Self::fault(Code::StorageFailed, error.to_string())
    }
}

impl From<VmError> for Reason {
    fn from(error: VmError) -> Self {
        match error {
            VmError::Engine(_) => Self::fault(Code::Internal, error.to_string()),
            _ => Self::contract(error.code(), error.to_string()),
        }
    }
}

/// An execution that ended without an output. Nothing it wrote remains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub(crate) reason: Reason,
    /// Gas used until then; the caller pays it. Zero for queries.
    pub gas_used: u64,
    /// Debug messages until then.
    pub debug: Vec<u8>,
}

impl Failure {
    pub(crate) fn early(reason: Reason) -> Self {
        Self { reason, gas_used: 0, debug: Vec::new() }
    }

    /// Number under which people and programs know this.
    pub fn code(&self) -> Code {
        self.reason.code()
    }

    /// Code and detail as they cross the wire.
    pub fn coded(&self) -> Coded {
        Coded::new(self.code(), self.reason.to_string())
    }

    /// Whether the contract is not to blame: this replica's store failed, it is busy, or the query's time is over.
    /// Another replica may come to another end, so such a failure of a command must never become its outcome.
    pub fn is_fault(&self) -> bool {
        self.reason.is_fault()
    }
}
