//! `author_*`: the pool of extrinsics.

use crate::{
    backend::ExtrinsicStatus,
    error::Failure,
    shared::Node,
    types::{Status, h256},
};
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{RpcResult, SubscriptionResult, server::SubscriptionMessage},
    proc_macros::rpc,
};
use sp_core::{Bytes, H256};

#[rpc(server)]
pub(crate) trait Author {
    #[method(name = "author_submitExtrinsic", blocking)]
    fn submit_extrinsic(&self, extrinsic: Bytes) -> RpcResult<H256>;

    #[method(name = "author_pendingExtrinsics", blocking)]
    fn pending_extrinsics(&self) -> RpcResult<Vec<Bytes>>;

    #[subscription(
        name = "author_submitAndWatchExtrinsic" => "author_extrinsicUpdate",
        unsubscribe = "author_unwatchExtrinsic",
        item = Status
    )]
    async fn submit_and_watch_extrinsic(&self, extrinsic: Bytes) -> SubscriptionResult;
}

#[jsonrpsee::core::async_trait]
impl AuthorServer for Node {
    fn submit_extrinsic(&self, extrinsic: Bytes) -> RpcResult<H256> {
        Ok(h256(self.0.submit(&extrinsic).map_err(Failure)?))
    }

    fn pending_extrinsics(&self) -> RpcResult<Vec<Bytes>> {
        Ok(self.0.pending().into_iter().map(Bytes).collect())
    }

    async fn submit_and_watch_extrinsic(
        &self,
        pending: PendingSubscriptionSink,
        extrinsic: Bytes,
    ) -> SubscriptionResult {
        let submitted = self.blocking(move |node| Ok(node.0.submit_and_watch(&extrinsic)?)).await;
        let (_, mut news) = match submitted {
            Ok(submitted) => submitted,
            Err(failure) => {
                pending.reject(failure).await;
                return Ok(());
            }
        };
        let sink = pending.accept().await?;
        while let Some(status) = tokio::select! { status = news.recv() => status, () = sink.closed() => None } {
            for status in steps(status) {
                sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&status)?)).await?;
            }
        }
        Ok(())
    }
}

/// A change in Substrate's words. Clients wait for either `inBlock` or `finalized`: they get both at once.
fn steps(status: ExtrinsicStatus) -> Vec<Status> {
    match status {
        ExtrinsicStatus::Ready => vec![Status::Ready],
        ExtrinsicStatus::Future => vec![Status::Future],
        ExtrinsicStatus::Finalized { block, .. } => vec![Status::InBlock(h256(block)), Status::Finalized(h256(block))],
        ExtrinsicStatus::Invalid(_) => vec![Status::Invalid],
        ExtrinsicStatus::Dropped(_) => vec![Status::Dropped],
    }
}
