//! `chainSpec_v1_*`, `transaction_v1_*` and `transactionWatch_v1_*`: the rest of the new JSON-RPC interface.

use crate::{backend::ExtrinsicStatus, error::Failure, shared::Node, system, types::h256};
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{RpcResult, SubscriptionResult, async_trait, server::SubscriptionMessage},
    proc_macros::rpc,
};
use serde_json::{Value, json};
use sp_core::{Bytes, H256};

#[rpc(server)]
pub(crate) trait Spec {
    #[method(name = "chainSpec_v1_chainName")]
    fn chain_name(&self) -> RpcResult<String>;

    #[method(name = "chainSpec_v1_genesisHash")]
    fn genesis_hash(&self) -> RpcResult<H256>;

    #[method(name = "chainSpec_v1_properties")]
    fn chain_properties(&self) -> RpcResult<Value>;

    /// Says nothing of the extrinsic's validity: who broadcasts looks for it in the blocks.
    #[method(name = "transaction_v1_broadcast", blocking)]
    fn broadcast(&self, extrinsic: Bytes) -> RpcResult<Option<String>>;

    #[method(name = "transaction_v1_stop")]
    fn stop(&self, operation: String) -> RpcResult<()>;

    #[subscription(
        name = "transactionWatch_v1_submitAndWatch" => "transactionWatch_v1_watchEvent",
        unsubscribe = "transactionWatch_v1_unwatch",
        item = Value
    )]
    async fn submit_and_watch(&self, extrinsic: Bytes) -> SubscriptionResult;
}

#[async_trait]
impl SpecServer for Node {
    fn chain_name(&self) -> RpcResult<String> {
        Ok(self.0.info().chain.clone())
    }

    fn genesis_hash(&self) -> RpcResult<H256> {
        Ok(h256(self.0.info().genesis))
    }

    fn chain_properties(&self) -> RpcResult<Value> {
        Ok(system::properties())
    }

    fn broadcast(&self, extrinsic: Bytes) -> RpcResult<Option<String>> {
        Ok(Some(match self.0.submit(&extrinsic) {
            Ok(hash) => hash.to_string(),
            Err(error) => {
                tracing::debug!(%error, "a broadcast extrinsic was refused");
                phala_primitives::blake2_256(&extrinsic).to_string()
            }
        }))
    }

    /// The pool keeps what it has.
    fn stop(&self, _operation: String) -> RpcResult<()> {
        Ok(())
    }

    async fn submit_and_watch(&self, pending: PendingSubscriptionSink, extrinsic: Bytes) -> SubscriptionResult {
        let sink = pending.accept().await?;
        let message = |event: &Value| serde_json::value::to_raw_value(event).map(SubscriptionMessage::from);
        let mut news = match self.blocking(move |node| Ok(node.0.submit_and_watch(&extrinsic)?)).await {
            Ok((_, news)) => news,
            Err(Failure(error)) => {
                sink.send(message(&json!({ "event": "invalid", "error": error.to_string() }))?).await?;
                return Ok(());
            }
        };
        while let Some(status) = tokio::select! { status = news.recv() => status, () = sink.closed() => None } {
            for event in steps(status) {
                sink.send(message(&event)?).await?;
            }
        }
        Ok(())
    }
}

/// A change in the words of the new interface.
fn steps(status: ExtrinsicStatus) -> Vec<Value> {
    match status {
        ExtrinsicStatus::Ready => vec![json!({ "event": "validated" })],
        ExtrinsicStatus::Future => vec![],
        ExtrinsicStatus::Finalized { block, index } => {
            let block = json!({ "hash": h256(block), "index": index });
            vec![
                json!({ "event": "bestChainBlockIncluded", "block": block }),
                json!({ "event": "finalized", "block": block }),
            ]
        }
        ExtrinsicStatus::Invalid(error) => vec![json!({ "event": "invalid", "error": error.to_string() })],
        ExtrinsicStatus::Dropped(error) => vec![json!({ "event": "dropped", "error": error.to_string() })],
    }
}
