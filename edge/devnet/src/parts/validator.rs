//! A validator and its JSON-RPC.

use super::{Plan, Secret};
use crate::{folder::Folder, public_key};
use phala_consensus::{LogConfig, LogHandle, Runtime, Secret as Key};
use phala_node::{Node, NodeConfig};
use phala_primitives::{Code, Coded, Hash, records::chain_namespace};
use phala_rpc::{Limits, Server};
use std::{net::SocketAddr, path::Path, sync::Arc};

/// Bytes of the database that are cached in memory.
const CACHE: usize = 64 << 20;

/// A running validator.
pub struct ValidatorPart {
    node: Arc<Node>,
    log: LogHandle,
    rpc: Server,
    runtime: Runtime,
    _folder: Folder,
}

impl ValidatorPart {
    /// Starts the validator of this secret: its place and address are in the plan.
    ///
    /// Errors: `BadKey` if the plan has no such validator.
    pub async fn start(plan: &Plan, secret: &Secret, folder: &Path, rpc: SocketAddr) -> Result<Self, Coded> {
        let seed = secret.validator()?;
        let key = public_key(seed);
        let peers = plan.peers();
        let foreign = || Coded::new(Code::BadKey, "the network has no such validator");
        let (index, peer) = peers.iter().enumerate().find(|(_, peer)| peer.key == key).ok_or_else(foreign)?;
        let listen = peer.address;
        let folder = Folder::open(Some(folder))?;
        let node = Node::open(NodeConfig {
            folder: Some(folder.below("database")?),
            peer_id: Hash(key).to_string(),
            listen: vec![listen.to_string()],
            validator: true,
            cache: CACHE,
            ..plan.node()?
        })?;
        let runtime = Runtime::start(&folder.below("consensus")?, 2)?;
        let namespace = chain_namespace(&node.genesis_hash());
        let log = LogConfig::chain(Key::new(*seed), peers, 0, namespace, format!("validator-{index}"));
        let log = runtime.start_log(listen, log, node.clone())?;
        node.set_gossip(Arc::new(log.clone()));
        let rpc = phala_rpc::serve(rpc, Limits::default(), node.clone()).await?;
        Ok(Self { node, log, rpc, runtime, _folder: folder })
    }

    /// Genesis hash of the chain.
    pub fn genesis(&self) -> Hash {
        self.node.genesis_hash()
    }

    /// URL of the JSON-RPC.
    pub fn url(&self) -> String {
        format!("ws://{}", self.rpc.address())
    }

    /// Completes when the log has ended by itself: a block could not be kept.
    pub async fn failed(&self) -> Coded {
        self.log.stopped().await;
        Coded::new(Code::StorageFailed, "the chain's log has ended")
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.log.stop();
        self.log.stopped().await;
        self.rpc.stop().await;
        // Dropping a runtime waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self.runtime)).await;
    }
}
