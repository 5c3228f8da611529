//! Logs on real sockets and files.

use crate::{Application, LogConfig, LogHandle, StartError};
use std::{net::SocketAddr, path::Path, sync::Arc};

/// A runtime for logs, on threads of its own.
pub struct Runtime {}

impl Runtime {
    /// Starts a runtime that keeps its files in this folder.
    pub fn start(_storage: &Path, _worker_threads: usize) -> Result<Self, StartError> {
        Err(StartError::Stopped)
    }

    /// Starts a log. Checks the configuration and the address; the rest goes on in the background.
    pub fn start_log(
        &self,
        _listen: SocketAddr,
        _config: LogConfig,
        _app: Arc<dyn Application>,
    ) -> Result<LogHandle, StartError> {
        Err(StartError::Stopped)
    }

    /// Stops all logs, and returns when they have ended.
    pub fn stop(self) {}
}
