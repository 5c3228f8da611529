//! What can go wrong in a node.

use phala_primitives::{Code, Coded};

/// Why the node cannot go on, or cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk or the store on it failed.
    #[error("the store failed: {0}")]
    Store(#[from] redb::Error),
    /// What the store holds does not decode: it is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// The folder cannot be made or opened.
    #[error("the data folder cannot be used: {0}")]
    Folder(std::io::Error),
    /// The store was written by another version.
    #[error("the store has format {found}, this version reads {expected}")]
    Format {
        /// What the folder holds.
        found: u32,
        /// What this version reads.
        expected: u32,
    },
    /// The folder holds another chain.
    #[error("the folder holds the chain with genesis {found}, not {expected}")]
    OtherChain {
        /// Genesis of what the folder holds.
        found: phala_primitives::Hash,
        /// Genesis of the spec.
        expected: phala_primitives::Hash,
    },
    /// The spec makes no genesis.
    #[error(transparent)]
    Genesis(#[from] phala_runtime::GenesisError),
    /// The block or its state is not there, or not any more.
    #[error("block {0} or its state is not here")]
    UnknownBlock(phala_primitives::Hash),
    /// The runtime stopped in the middle.
    #[error("the runtime panicked: {0}")]
    Panicked(String),
    /// A trie node is missing or damaged.
    #[error("the state cannot be read: {0}")]
    State(String),
}

impl From<NodeError> for Coded {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::Folder(_) | NodeError::OtherChain { .. } | NodeError::Damaged(_) => Code::DataDir,
            NodeError::Format { .. } => Code::UnknownFormat,
            NodeError::Genesis(_) => Code::BadArgument,
            NodeError::UnknownBlock(_) => Code::UnknownBlock,
            NodeError::Panicked(_) => Code::Malformed,
            NodeError::Store(_) | NodeError::State(_) => Code::StorageFailed,
        };
        Coded::new(code, error.to_string())
    }
}
