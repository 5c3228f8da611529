//! A worker on a machine of its own.

use super::{Plan, Secret, key_service::RemoteKeys};
use crate::{folder::Folder, memory::Memory};
use phala_client::Account;
use phala_consensus::Runtime;
use phala_primitives::{AccountId, Code, Coded};
use phala_worker::{EgressPolicy, Worker, WorkerConfig};
use std::{net::SocketAddr, path::Path, sync::Arc};

/// Where a worker is, and whom it speaks to.
pub struct WorkerPlace<'a> {
    /// Own folder.
    pub folder: &'a Path,
    /// A node of the chain; it is trusted for nothing.
    pub chain_url: &'a str,
    /// The key service.
    pub keys_url: &'a str,
    /// Where clients reach it; it is registered on the chain as it is.
    pub listen: SocketAddr,
    /// Where the other members of its cluster reach it; as well.
    pub peer: SocketAddr,
    /// What contracts may reach over HTTP.
    pub egress: EgressPolicy,
}

/// A running worker.
pub struct WorkerPart {
    worker: Worker,
    runtime: Arc<Runtime>,
    _folder: Folder,
    /// The cluster's consensus syncs often, and what it wrote is worth nothing after a restart.
    _memory: Memory,
}

impl WorkerPart {
    /// Starts the worker of this account on the machine of this secret. It serves once the chain has a place for it.
    pub async fn start(plan: &Plan, secret: &Secret, account: Account, place: WorkerPlace<'_>) -> Result<Self, Coded> {
        if place.listen.ip().is_unspecified() || place.peer.ip().is_unspecified() {
            return Err(Coded::new(Code::BadArgument, "others connect to the address that is given here: name one"));
        }
        let folder = Folder::open(Some(place.folder))?;
        let memory = Memory::open()?;
        let runtime = Arc::new(Runtime::start(memory.path(), 2)?);
        let worker = Worker::start(WorkerConfig {
            account: Arc::new(account),
            chain_url: place.chain_url.to_owned(),
            genesis: plan.genesis()?,
            listen: place.listen,
            peer: place.peer,
            folder: folder.path().to_owned(),
            provider: secret.machine()?,
            keys: Arc::new(RemoteKeys::new(place.keys_url)),
            egress: place.egress,
            runtime: runtime.clone(),
        })
        .await?;
        Ok(Self { worker, runtime, _folder: folder, _memory: memory })
    }

    /// The worker's account.
    pub fn id(&self) -> AccountId {
        self.worker.id()
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.worker.address())
    }

    /// Completes when the worker cannot go on, with the reason. Started again, it may.
    pub async fn failed(&self) -> Coded {
        self.worker.failed().await
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.worker.stop().await;
        // Dropping a runtime waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self.runtime)).await;
    }
}
