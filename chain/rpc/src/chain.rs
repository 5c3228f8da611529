//! `chain_*`: headers, blocks, and streams of heads.

use crate::{
    error::{Failure, within},
    shared::Node,
    types::{Block, Header, Number, OneOrMany, SignedBlock, h256},
};
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{RpcResult, SubscriptionResult, server::SubscriptionMessage},
    proc_macros::rpc,
};
use sp_core::{Bytes, H256};

/// Most block numbers in one `chain_getBlockHash`.
const MAX_NUMBERS: usize = 1000;

#[rpc(server)]
pub(crate) trait Chain {
    #[method(name = "chain_getHeader", blocking)]
    fn get_header(&self, hash: Option<H256>) -> RpcResult<Option<Header>>;

    #[method(name = "chain_getBlock", blocking)]
    fn get_block(&self, hash: Option<H256>) -> RpcResult<Option<SignedBlock>>;

    #[method(name = "chain_getBlockHash", aliases = ["chain_getHead"], blocking)]
    fn get_block_hash(&self, number: Option<OneOrMany<Number>>) -> RpcResult<OneOrMany<Option<H256>>>;

    #[method(name = "chain_getFinalizedHead", aliases = ["chain_getFinalisedHead"], blocking)]
    fn get_finalized_head(&self) -> RpcResult<H256>;

    #[subscription(name = "chain_subscribeAllHeads" => "chain_allHead", unsubscribe = "chain_unsubscribeAllHeads", item = Header)]
    async fn subscribe_all_heads(&self) -> SubscriptionResult;

    #[subscription(
        name = "chain_subscribeNewHeads" => "chain_newHead",
        aliases = ["subscribe_newHead", "chain_subscribeNewHead"],
        unsubscribe = "chain_unsubscribeNewHeads",
        unsubscribe_aliases = ["unsubscribe_newHead", "chain_unsubscribeNewHead"],
        item = Header
    )]
    async fn subscribe_new_heads(&self) -> SubscriptionResult;

    #[subscription(
        name = "chain_subscribeFinalizedHeads" => "chain_finalizedHead",
        aliases = ["chain_subscribeFinalisedHeads"],
        unsubscribe = "chain_unsubscribeFinalizedHeads",
        unsubscribe_aliases = ["chain_unsubscribeFinalisedHeads"],
        item = Header
    )]
    async fn subscribe_finalized_heads(&self) -> SubscriptionResult;
}

#[jsonrpsee::core::async_trait]
impl ChainServer for Node {
    fn get_header(&self, hash: Option<H256>) -> RpcResult<Option<Header>> {
        Ok(self.header(&self.at(hash))?)
    }

    fn get_block(&self, hash: Option<H256>) -> RpcResult<Option<SignedBlock>> {
        let hash = self.at(hash);
        let (Some(header), Some(body)) = (self.header(&hash)?, self.0.body(&hash).map_err(Failure)?) else {
            return Ok(None);
        };
        let extrinsics = body.into_iter().map(Bytes).collect();
        Ok(Some(SignedBlock { block: Block { header, extrinsics }, justifications: None }))
    }

    fn get_block_hash(&self, number: Option<OneOrMany<Number>>) -> RpcResult<OneOrMany<Option<H256>>> {
        let hash = |number: &Number| -> Result<Option<H256>, Failure> {
            let Some(number) = number.get() else { return Ok(None) };
            Ok(self.0.block_hash(number)?.map(h256))
        };
        Ok(match number {
            None => OneOrMany::One(Some(h256(self.0.finalized().hash))),
            Some(OneOrMany::One(number)) => OneOrMany::One(hash(&number)?),
            Some(OneOrMany::Many(numbers)) => {
                within(numbers.len(), MAX_NUMBERS, "block numbers")?;
                OneOrMany::Many(numbers.iter().map(hash).collect::<Result<_, _>>()?)
            }
        })
    }

    fn get_finalized_head(&self) -> RpcResult<H256> {
        Ok(h256(self.0.finalized().hash))
    }

    async fn subscribe_all_heads(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        stream_heads(self, pending).await
    }

    async fn subscribe_new_heads(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        stream_heads(self, pending).await
    }

    async fn subscribe_finalized_heads(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        stream_heads(self, pending).await
    }
}

async fn stream_heads(node: &Node, pending: PendingSubscriptionSink) -> SubscriptionResult {
    let sink = pending.accept().await?;
    let mut heads = node.heads();
    while let Some(block) = tokio::select! { block = heads.next() => block, () = sink.closed() => None } {
        let Some(header) = node.blocking(move |node| node.header(&block.hash)).await.map_err(|e| e.0.to_string())?
        else {
            continue;
        };
        sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&header)?)).await?;
    }
    Ok(())
}
