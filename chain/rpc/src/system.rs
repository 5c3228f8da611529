//! `system_*`: the node and its network.

use crate::{
    error::Failure,
    shared::Node,
    types::{HealthJson, PeerJson, h256},
};
use jsonrpsee::{core::RpcResult, proc_macros::rpc};
use phala_primitives::{AccountId, Code, Coded, DECIMALS, SS58_PREFIX};
use serde_json::{Value, json};

#[rpc(server)]
pub(crate) trait System {
    #[method(name = "system_name")]
    fn name(&self) -> RpcResult<String>;

    #[method(name = "system_version")]
    fn version(&self) -> RpcResult<String>;

    #[method(name = "system_chain")]
    fn chain(&self) -> RpcResult<String>;

    #[method(name = "system_chainType")]
    fn chain_type(&self) -> RpcResult<&'static str>;

    #[method(name = "system_properties")]
    fn properties(&self) -> RpcResult<Value>;

    #[method(name = "system_health", blocking)]
    fn health(&self) -> RpcResult<HealthJson>;

    #[method(name = "system_peers", blocking)]
    fn peers(&self) -> RpcResult<Vec<PeerJson>>;

    #[method(name = "system_nodeRoles")]
    fn node_roles(&self) -> RpcResult<Vec<&'static str>>;

    #[method(name = "system_localPeerId")]
    fn local_peer_id(&self) -> RpcResult<String>;

    #[method(name = "system_localListenAddresses")]
    fn local_listen_addresses(&self) -> RpcResult<Vec<String>>;

    #[method(name = "system_accountNextIndex", aliases = ["account_nextIndex"], blocking)]
    fn account_next_index(&self, account: String) -> RpcResult<u32>;
}

/// What wallets need to show addresses and amounts.
pub(crate) fn properties() -> Value {
    json!({ "isEthereum": false, "ss58Format": SS58_PREFIX, "tokenDecimals": DECIMALS, "tokenSymbol": "PHA" })
}

impl SystemServer for Node {
    fn name(&self) -> RpcResult<String> {
        Ok(self.0.info().name.clone())
    }

    fn version(&self) -> RpcResult<String> {
        Ok(self.0.info().version.clone())
    }

    fn chain(&self) -> RpcResult<String> {
        Ok(self.0.info().chain.clone())
    }

    fn chain_type(&self) -> RpcResult<&'static str> {
        Ok(if self.0.info().development { "Development" } else { "Live" })
    }

    fn properties(&self) -> RpcResult<Value> {
        Ok(properties())
    }

    fn health(&self) -> RpcResult<HealthJson> {
        let health = self.0.health();
        Ok(HealthJson { peers: health.peers, is_syncing: health.syncing, should_have_peers: health.needs_peers })
    }

    fn peers(&self) -> RpcResult<Vec<PeerJson>> {
        let json = |peer: crate::Peer| PeerJson {
            peer_id: peer.id,
            roles: "FULL",
            best_hash: h256(peer.best.hash),
            best_number: peer.best.number,
        };
        Ok(self.0.peers().into_iter().map(json).collect())
    }

    fn node_roles(&self) -> RpcResult<Vec<&'static str>> {
        Ok(vec![if self.0.info().validator { "Authority" } else { "Full" }])
    }

    fn local_peer_id(&self) -> RpcResult<String> {
        Ok(self.0.info().peer_id.clone())
    }

    fn local_listen_addresses(&self) -> RpcResult<Vec<String>> {
        Ok(self.0.info().listen.clone())
    }

    fn account_next_index(&self, account: String) -> RpcResult<u32> {
        let parsed = account.parse::<AccountId>();
        let account = parsed.map_err(|error| Failure(Coded::new(Code::Malformed, error.to_string())))?;
        Ok(self.0.next_index(&account).map_err(Failure)?)
    }
}
