//! `phala_*`: what light clients read. Answers are hex of SCALE.

use crate::{error::Failure, shared::Node};
use codec::Encode;
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{RpcResult, SubscriptionResult, server::SubscriptionMessage},
    proc_macros::rpc,
};
use phala_primitives::{Code, Coded, Fact, FinalizedHead, Hash};
use sp_core::{Bytes, H256};

#[rpc(server)]
pub(crate) trait Phala {
    /// The newest head, or that of a block: `FinalizedHead`.
    #[method(name = "phala_finalizedHead", blocking)]
    fn finalized_head(&self, at: Option<H256>) -> RpcResult<Bytes>;

    /// A storage entry, or its absence, proven under the newest head or that of a block: `Fact`.
    #[method(name = "phala_fact", blocking)]
    fn fact(&self, key: Bytes, at: Option<H256>) -> RpcResult<Bytes>;

    /// A storage entry proven under the genesis block: `Fact`. With the validators' key it is all that a client
    /// which knows the genesis hash needs to start.
    #[method(name = "phala_genesisFact", blocking)]
    fn genesis_fact(&self, key: Bytes) -> RpcResult<Bytes>;

    /// The newest head now, then each new one: `FinalizedHead`.
    #[subscription(
        name = "phala_subscribeFinalizedHeads" => "phala_head",
        unsubscribe = "phala_unsubscribeFinalizedHeads",
        item = Bytes
    )]
    async fn subscribe_finalized_heads(&self) -> SubscriptionResult;
}

impl Node {
    fn signed_head(&self, hash: &Hash) -> Result<FinalizedHead, Failure> {
        let (header, finality) = (self.0.header(hash)?, self.0.finality(hash)?);
        match (header, finality) {
            (Some(header), Some(finality)) => Ok(FinalizedHead { header, finality }),
            _ => Err(Failure(Coded::new(Code::UnknownBlock, hash.to_string()))),
        }
    }

    fn proven(&self, key: Bytes, at: Hash) -> Result<Bytes, Failure> {
        let head = self.signed_head(&at)?;
        let proof = self.0.read_proof(&at, std::slice::from_ref(&key.0))?;
        Ok(Bytes(Fact { head, key: key.0, proof }.encode()))
    }
}

#[jsonrpsee::core::async_trait]
impl PhalaServer for Node {
    fn finalized_head(&self, at: Option<H256>) -> RpcResult<Bytes> {
        Ok(Bytes(self.signed_head(&self.at(at))?.encode()))
    }

    fn fact(&self, key: Bytes, at: Option<H256>) -> RpcResult<Bytes> {
        Ok(self.proven(key, self.at(at))?)
    }

    fn genesis_fact(&self, key: Bytes) -> RpcResult<Bytes> {
        Ok(self.proven(key, self.0.info().genesis)?)
    }

    async fn subscribe_finalized_heads(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let sink = pending.accept().await?;
        let mut heads = self.heads();
        while let Some(block) = tokio::select! { block = heads.next() => block, () = sink.closed() => None } {
            let head = self.blocking(move |node| node.signed_head(&block.hash)).await;
            let head = Bytes(head.map_err(|failure| failure.0.to_string())?.encode());
            sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&head)?)).await?;
        }
        Ok(())
    }
}
