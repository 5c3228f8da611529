//! The way from nothing to a serving replica; the steps are told in [`crate::worker`].

use crate::{
    app::LogApp,
    entries::EntryFile,
    service::{Service, now_ms},
    worker::{Status, WorkerConfig},
};
use codec::Encode;
use ed25519_dalek::SigningKey;
use phala_attest::identity_report_data;
use phala_client::{Call, Chain};
use phala_consensus::{LogConfig, LogHandle, Peer, Secret};
use phala_keys::{ClusterKeys, KeyRequest, RecipientKey};
use phala_primitives::{
    AccountId, Code, Coded, PublicKey,
    records::{ClusterRecord, cluster_namespace},
};
use phala_session::SystemRng;
use rand_core::Rng;
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use zeroize::Zeroizing;

/// How often a connection to the chain is tried again.
const RECONNECT: Duration = Duration::from_millis(500);
/// How often session keys are looked after, and the log is made durable.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Ticks of the VM's clock for queries.
const VM_TICK: Duration = Duration::from_millis(10);

pub(crate) struct Start {
    pub(crate) config: WorkerConfig,
    /// Where clients really connect, once the port is bound.
    pub(crate) address: SocketAddr,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<OnceLock<LogHandle>>,
}

/// Keys of one start of a worker. They live in memory only.
struct Keys {
    identity: Arc<SigningKey>,
    recipient: RecipientKey,
}

impl Keys {
    fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRng.fill_bytes(seed.as_mut_slice());
        Self { identity: Arc::new(SigningKey::from_bytes(&seed)), recipient: RecipientKey::generate(&mut SystemRng) }
    }

    fn public(&self) -> PublicKey {
        self.identity.verifying_key().to_bytes()
    }
}

impl Start {
    fn worker(&self) -> AccountId {
        self.config.account.id()
    }

    /// Brings the worker up and then looks after it until the task is dropped.
    pub(crate) async fn run(self) -> Result<(), Coded> {
        let chain = self.connect().await?;
        let keys = Keys::generate();
        self.status.wait_for("its registration on the chain");
        self.register(&chain, &keys).await?;
        tokio::spawn(follow(chain.clone(), self.status.clone()));
        let entries = Arc::new(self.open_entries()?);
        self.status.share_entries(entries.clone());
        self.status.wait_for("a seat in its cluster");
        let record = self.seat(&chain, &keys, &entries).await?;
        self.status.wait_for("the cluster's keys");
        let cluster_keys = self.keys(&keys, record.epoch).await?;
        self.status.wait_for("its state");
        let app = self.open_replica(&chain, &keys, &record, &cluster_keys, entries).await?;
        self.status.wait_for("the cluster's consensus");
        let log = self.join(&chain, &keys, &record, app.clone()).await?;
        app.attach(log.clone());
        let _ = self.log.set(log);
        let acceptor = app.replica().acceptor(now_ms(), &mut SystemRng);
        let service =
            Arc::new(Service::new(app.replica().clone(), acceptor, self.status.head.clone(), self.status.metrics().clone()));
        self.status.serve(service.clone());
        look_after(&app, &service).await
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

    fn open_entries(&self) -> Result<EntryFile, Coded> {
        let path = self.config.folder.join("entries");
        EntryFile::open(&path).map_err(|e| Coded::new(Code::StorageFailed, format!("{}: {e}", path.display())))
    }

    /// Waits until the present epoch of the cluster counts on this identity, and reports the own log if it does not.
    async fn seat(&self, chain: &Arc<Chain>, keys: &Keys, entries: &EntryFile) -> Result<ClusterRecord, Coded> {
        let mut heads = chain.heads().await?;
        let mut reported = None;
        loop {
            if let Some(record) = chain.cluster(self.config.cluster).await?
                && let Some(seat) = record.members.iter().find(|member| member.worker == self.worker())
            {
                if seat.identity == keys.public() {
                    return Ok(record);
                }
                if reported != Some(record.epoch) {
                    self.rejoin(chain, &record, entries).await?;
                    reported = Some(record.epoch);
                }
            }
            heads.next().await?;
        }
    }

    async fn rejoin(&self, chain: &Chain, record: &ClusterRecord, entries: &EntryFile) -> Result<(), Coded> {
        let (anchor, certificate) = phala_replica::anchor(entries, &record.floor)?;
        let proof = certificate.map(|certificate| certificate.encode());
        tracing::info!(worker = %self.worker(), height = anchor.height, "reports its log to rejoin its cluster");
        let call = Call::rejoin(self.config.cluster, &anchor, proof.as_deref());
        chain.submit(&self.config.account, &call).await.map(|_| ())
    }

    async fn keys(&self, keys: &Keys, epoch: u64) -> Result<ClusterKeys, Coded> {
        let recipient = keys.recipient.public();
        let (genesis, cluster) = (self.config.genesis, self.config.cluster);
        let request = KeyRequest::sign(genesis, cluster, epoch, self.worker(), recipient, &keys.identity);
        self.config.keys.request(request.clone()).await?.open(&request, &keys.recipient)
    }
}

/// Follows the chain for as long as the worker lives. Each head is verified before it counts.
async fn follow(chain: Arc<Chain>, status: Arc<Status>) {
    loop {
        if let Ok(mut heads) = chain.heads().await {
            while let Ok((header, _)) = heads.next().await {
                status.head.set(header.number);
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}
