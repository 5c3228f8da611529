//! A worker between its clusters: it registers, and serves wherever the chain places it.
//!
//! Without a place it offers itself to the pool and waits. When it loses its place, as it was drained or replaced, it
//! removes what it kept for that cluster and offers itself again.

use crate::{
    blame,
    start::{AbortOnDrop, Keys, RECONNECT, Start},
    worker::{Status, WorkerConfig},
};
use parking_lot::Mutex;
use phala_attest::identity_report_data;
use phala_client::{Call, Chain};
use phala_consensus::LogHandle;
use phala_primitives::{AccountId, ClusterId, Code, Coded, storage};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::mpsc;

/// Blocks that pass before a worker without a place offers itself: it may be about to get one.
const OFFER_AFTER: u32 = 8;
/// Blocks after which it says that it still waits; the chain forgets who does not.
const OFFER_AGAIN: u32 = 400;

pub(crate) struct Life {
    pub(crate) config: WorkerConfig,
    /// Where clients really connect, once the port is bound.
    pub(crate) address: SocketAddr,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Mutex<Option<LogHandle>>>,
}

impl Life {
    /// Brings the worker up and goes on until the task is dropped. Returns only an error.
    pub(crate) async fn run(self) -> Result<(), Coded> {
        let chain = self.connect().await?;
        let keys = Keys::generate();
        self.status.wait_for("its registration on the chain");
        self.register(&chain, &keys).await?;
        let _following = AbortOnDrop(tokio::spawn(follow(chain.clone(), self.status.clone())));
        let (blame, found) = mpsc::channel(blame::WAITING);
        let _blaming = AbortOnDrop(tokio::spawn(blame::bring(chain.clone(), self.config.account.clone(), found)));
        loop {
            let cluster = self.place(&chain).await?;
            let folder = self.config.folder.join(format!("cluster-{cluster}"));
            std::fs::create_dir_all(&folder)
                .map_err(|e| Coded::new(Code::StorageFailed, format!("{}: {e}", folder.display())))?;
            let start = Start {
                config: self.config.clone(),
                cluster,
                folder: folder.clone(),
                status: self.status.clone(),
                log: self.log.clone(),
                blame: blame.clone(),
            };
            start.run(&chain, &keys).await?;
            self.status.withdraw();
            tracing::info!(worker = %self.worker(), cluster, "has no seat any more");
            // Nobody reads it without the cluster's keys, and this worker has no use for it.
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(%error, "what it kept for the cluster stays");
            }
        }
    }

    fn worker(&self) -> AccountId {
        self.config.account.id()
    }

    async fn connect(&self) -> Result<Arc<Chain>, Coded> {
        loop {
            match Chain::connect(&self.config.chain_url, Some(self.config.genesis)).await {
                Ok(chain) => return Ok(Arc::new(chain)),
                Err(error) if error.known() == Some(Code::NoNode) => tokio::time::sleep(RECONNECT).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn register(&self, chain: &Chain, keys: &Keys) -> Result<(), Coded> {
        let (identity, recipient) = (keys.public(), keys.recipient.public());
        let report = identity_report_data(&self.config.genesis, &self.worker(), &identity, &recipient);
        let evidence = self.config.provider.quote(&report)?;
        let endpoint = format!("http://{}", self.address);
        let call = Call::register_worker(&identity, &recipient, &endpoint, &self.config.peer.to_string(), &evidence);
        chain.submit(&self.config.account, &call).await.map(|_| ())
    }

    /// Waits until the chain has a place for this worker.
    async fn place(&self, chain: &Arc<Chain>) -> Result<ClusterId, Coded> {
        self.status.wait_for("a cluster that needs it");
        loop {
            let Ok(mut heads) = chain.heads().await else {
                tokio::time::sleep(RECONNECT).await;
                continue;
            };
            for count in 0u32.. {
                match chain.read::<ClusterId>(&storage::placement(&self.worker())).await {
                    Ok(Some(cluster)) => return Ok(cluster),
                    Ok(None) if count >= OFFER_AFTER => self.offer(chain).await,
                    // A node that cannot be read now is asked at its next head.
                    _ => {}
                }
                if heads.next().await.is_err() {
                    break;
                }
            }
        }
    }

    /// Goes into the pool, or says again that it is there.
    async fn offer(&self, chain: &Chain) {
        let Ok(since) = chain.read::<u32>(&storage::pool(&self.worker())).await else { return };
        if blame::is_barred(chain, &self.worker()).await {
            return;
        }
        if since.is_some_and(|since| chain.head().0 < since.saturating_add(OFFER_AGAIN)) {
            return;
        }
        // It may have got a place in this very block. Otherwise it tries again.
        if let Err(error) = chain.submit(&self.config.account, &Call::offer()).await {
            tracing::info!(%error, "the worker is not in the pool yet");
        }
    }
}

/// Follows the chain for as long as the worker lives. Each head is verified before it counts.
async fn follow(chain: Arc<Chain>, status: Arc<Status>) {
    let see = || status.head.set(chain.head().0, chain.time_ms());
    see();
    loop {
        if let Ok(mut heads) = chain.heads().await {
            while heads.next().await.is_ok() {
                see();
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}
