//! Why a log does not start.

use phala_primitives::{Code, Coded};
use std::net::SocketAddr;

/// Why a runtime or a log does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The storage folder cannot be used.
    #[error("cannot use {0}: {1}")]
    Storage(String, std::io::Error),
    /// The configuration contradicts itself.
    #[error("the configuration of the log is wrong: {0}")]
    Config(&'static str),
    /// The runtime has stopped.
    #[error("the runtime has stopped")]
    Stopped,
}

impl StartError {
    /// The code under which people look it up.
    pub fn code(&self) -> Code {
        match self {
            Self::Listen(..) => Code::PortInUse,
            Self::Storage(..) => Code::DataDir,
            Self::Config(_) => Code::BadArgument,
            Self::Stopped => Code::Internal,
        }
    }
}

impl From<StartError> for Coded {
    fn from(error: StartError) -> Self {
        Coded::new(error.code(), error.to_string())
    }
}
