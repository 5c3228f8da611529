//! The key service of a development network, in this process, SIMULATED. It knows the chain by a light client of its
//! own and believes no worker.

use crate::folder::Folder;
use futures::future::BoxFuture;
use phala_attest::Provider;
use phala_client::Chain;
use phala_keys::{ChainView, DevKeyService, KeyRequest, KeyService, SealedKeys};
use phala_primitives::{
    AccountId, ClusterId, Coded, Hash,
    records::{ClusterRecord, WorkerRecord},
};
use phala_session::SystemRng;
use phala_worker::{KeyDelivery, now_ms};
use std::sync::Arc;

pub(crate) struct KeyHouse {
    service: DevKeyService,
    chain: Arc<Chain>,
}

impl KeyHouse {
    /// Unseals the master secret on the machine, or draws one and seals it there.
    pub(crate) fn open(folder: &Folder, machine: &dyn Provider, chain: Arc<Chain>) -> Result<Self, Coded> {
        let key = machine.seal_key();
        let sealed: Vec<u8> =
            folder.read_or_make("keys", || DevKeyService::generate(&mut SystemRng).seal(&key, &mut SystemRng))?;
        Ok(Self { service: DevKeyService::unseal(&key, &sealed)?, chain })
    }
}

impl KeyDelivery for KeyHouse {
    fn request(&self, request: KeyRequest) -> BoxFuture<'_, Result<SealedKeys, Coded>> {
        Box::pin(async move {
            // A node that hides the present must not get keys released to members of the past.
            self.chain.present().await?;
            let seen = Seen {
                genesis: self.chain.genesis(),
                worker: (request.worker, self.chain.worker(&request.worker).await?),
                cluster: (request.cluster, self.chain.cluster(request.cluster).await?),
            };
            self.service.release(&request, &seen, &mut SystemRng)
        })
    }
}

/// What a request is judged by: records read with proof when it came.
struct Seen {
    genesis: Hash,
    worker: (AccountId, Option<WorkerRecord>),
    cluster: (ClusterId, Option<ClusterRecord>),
}

impl ChainView for Seen {
    fn genesis(&self) -> Hash {
        self.genesis
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn worker(&self, worker: &AccountId) -> Option<WorkerRecord> {
        self.worker.1.clone().filter(|_| self.worker.0 == *worker)
    }

    fn cluster(&self, cluster: ClusterId) -> Option<ClusterRecord> {
        self.cluster.1.clone().filter(|_| self.cluster.0 == cluster)
    }
}
