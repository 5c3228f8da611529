//! `state_*`: storage, proofs, runtime calls and metadata.

use crate::{
    error::{Failure, within},
    shared::Node,
    types::{ChangeSet, ReadProof, h256},
};
use codec::Decode;
use jsonrpsee::{
    PendingSubscriptionSink,
    core::{RpcResult, SubscriptionResult, server::SubscriptionMessage},
    proc_macros::rpc,
};
use phala_primitives::{Code, Coded, Hash};
use sp_core::{Bytes, H256};
use sp_version::RuntimeVersion;
use std::collections::BTreeMap;

/// Most keys that one request names, or one page returns.
const MAX_KEYS: usize = 1000;
/// Most keys that one proof covers.
const MAX_PROOF_KEYS: usize = 64;

#[rpc(server)]
pub(crate) trait State {
    #[method(name = "state_getMetadata", blocking)]
    fn get_metadata(&self, at: Option<H256>) -> RpcResult<Bytes>;

    #[method(name = "state_getRuntimeVersion", aliases = ["chain_getRuntimeVersion"], blocking)]
    fn get_runtime_version(&self, at: Option<H256>) -> RpcResult<RuntimeVersion>;

    #[method(name = "state_getStorage", aliases = ["state_getStorageAt"], blocking)]
    fn get_storage(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<Bytes>>;

    #[method(name = "state_getStorageHash", aliases = ["state_getStorageHashAt"], blocking)]
    fn get_storage_hash(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<H256>>;

    #[method(name = "state_getStorageSize", aliases = ["state_getStorageSizeAt"], blocking)]
    fn get_storage_size(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<u64>>;

    #[method(name = "state_getKeysPaged", aliases = ["state_getKeysPagedAt"], blocking)]
    fn get_keys_paged(
        &self,
        prefix: Option<Bytes>,
        count: u32,
        start: Option<Bytes>,
        at: Option<H256>,
    ) -> RpcResult<Vec<Bytes>>;

    #[method(name = "state_queryStorageAt", blocking)]
    fn query_storage_at(&self, keys: Vec<Bytes>, at: Option<H256>) -> RpcResult<Vec<ChangeSet>>;

    #[method(name = "state_getReadProof", blocking)]
    fn get_read_proof(&self, keys: Vec<Bytes>, at: Option<H256>) -> RpcResult<ReadProof>;

    #[method(name = "state_call", aliases = ["state_callAt"], blocking)]
    fn call(&self, method: String, data: Bytes, at: Option<H256>) -> RpcResult<Bytes>;

    #[subscription(
        name = "state_subscribeRuntimeVersion" => "state_runtimeVersion",
        aliases = ["chain_subscribeRuntimeVersion"],
        unsubscribe = "state_unsubscribeRuntimeVersion",
        unsubscribe_aliases = ["chain_unsubscribeRuntimeVersion"],
        item = RuntimeVersion
    )]
    async fn subscribe_runtime_version(&self) -> SubscriptionResult;

    #[subscription(
        name = "state_subscribeStorage" => "state_storage",
        unsubscribe = "state_unsubscribeStorage",
        item = ChangeSet
    )]
    async fn subscribe_storage(&self, keys: Option<Vec<Bytes>>) -> SubscriptionResult;
}

type Values = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Node {
    fn value(&self, key: &Bytes, at: Option<H256>) -> RpcResult<Option<Vec<u8>>> {
        Ok(self.0.storage(&self.at(at), key).map_err(Failure)?)
    }

    fn values<'a>(&self, keys: impl Iterator<Item = &'a Vec<u8>>, at: &Hash) -> Result<Values, Failure> {
        keys.map(|key| Ok((key.clone(), self.0.storage(at, key)?))).collect()
    }
}

fn change_set(block: Hash, values: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> ChangeSet {
    ChangeSet { block: h256(block), changes: values.map(|(key, value)| (Bytes(key), value.map(Bytes))).collect() }
}

#[jsonrpsee::core::async_trait]
impl StateServer for Node {
    fn get_metadata(&self, at: Option<H256>) -> RpcResult<Bytes> {
        let encoded = self.0.call(&self.at(at), "Metadata_metadata", &[]).map_err(Failure)?;
        let metadata = Vec::<u8>::decode(&mut &*encoded);
        Ok(Bytes(metadata.map_err(|_| Failure(Coded::new(Code::Internal, "the metadata does not decode")))?))
    }

    fn get_runtime_version(&self, _at: Option<H256>) -> RpcResult<RuntimeVersion> {
        Ok(self.0.runtime_version())
    }

    fn get_storage(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<Bytes>> {
        Ok(self.value(&key, at)?.map(Bytes))
    }

    fn get_storage_hash(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<H256>> {
        Ok(self.value(&key, at)?.map(|value| h256(phala_primitives::blake2_256(&value))))
    }

    fn get_storage_size(&self, key: Bytes, at: Option<H256>) -> RpcResult<Option<u64>> {
        Ok(self.value(&key, at)?.map(|value| value.len() as u64))
    }

    fn get_keys_paged(
        &self,
        prefix: Option<Bytes>,
        count: u32,
        start: Option<Bytes>,
        at: Option<H256>,
    ) -> RpcResult<Vec<Bytes>> {
        let (count, prefix) = (count as usize, prefix.map_or_else(Vec::new, |prefix| prefix.0));
        within(count, MAX_KEYS, "keys")?;
        let keys = self.0.storage_keys(&self.at(at), &prefix, count, start.as_deref()).map_err(Failure)?;
        Ok(keys.into_iter().map(Bytes).collect())
    }

    fn query_storage_at(&self, keys: Vec<Bytes>, at: Option<H256>) -> RpcResult<Vec<ChangeSet>> {
        within(keys.len(), MAX_KEYS, "keys")?;
        let at = self.at(at);
        let values = self.values(keys.iter().map(|key| &key.0), &at)?;
        Ok(vec![change_set(at, values.into_iter())])
    }

    fn get_read_proof(&self, keys: Vec<Bytes>, at: Option<H256>) -> RpcResult<ReadProof> {
        within(keys.len(), MAX_PROOF_KEYS, "keys")?;
        let at = self.at(at);
        let keys: Vec<_> = keys.into_iter().map(|key| key.0).collect();
        let proof = self.0.read_proof(&at, &keys).map_err(Failure)?;
        Ok(ReadProof { at: h256(at), proof: proof.into_iter().map(Bytes).collect() })
    }

    fn call(&self, method: String, data: Bytes, at: Option<H256>) -> RpcResult<Bytes> {
        Ok(Bytes(self.0.call(&self.at(at), &method, &data).map_err(Failure)?))
    }

    /// The runtime changes only with the program: one item, then silence.
    async fn subscribe_runtime_version(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let sink = pending.accept().await?;
        sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&self.0.runtime_version())?)).await?;
        sink.closed().await;
        Ok(())
    }

    /// The values now, then those that a block changed.
    async fn subscribe_storage(
        &self,
        pending: PendingSubscriptionSink,
        keys: Option<Vec<Bytes>>,
    ) -> SubscriptionResult {
        let keys = keys.unwrap_or_default();
        if let Err(failure) = within(keys.len(), MAX_KEYS, "keys") {
            pending.reject(failure).await;
            return Ok(());
        }
        let sink = pending.accept().await?;
        let mut heads = self.heads();
        let mut known: Option<Values> = None;
        while let Some(block) = tokio::select! { block = heads.next() => block, () = sink.closed() => None } {
            let keys = keys.clone();
            let read = move |node: &Node| node.values(keys.iter().map(|key| &key.0), &block.hash);
            let now = self.blocking(read).await.map_err(|failure| failure.0.to_string())?;
            let changed: Vec<_> = now
                .iter()
                .filter(|(key, value)| known.as_ref().is_none_or(|known| known.get(*key) != Some(value)))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if known.is_none() || !changed.is_empty() {
                let changes = change_set(block.hash, changed.into_iter());
                sink.send(SubscriptionMessage::from(serde_json::value::to_raw_value(&changes)?)).await?;
            }
            known = Some(now);
        }
        Ok(())
    }
}
