//! A chain of one block, whose state holds what a test wants.

use super::cluster::START_MS;
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use phala_light::Header;
use phala_primitives::{
    AccountId, Certificate, ENGINE, Fact, FinalizedHead, Hash, Proposed, PublicKey, blake2_256,
    records::{CodeRecord, ContractRecord, chain_namespace},
    storage,
};
use sp_core::{Blake2Hasher, H256};
use sp_runtime::DigestItem;
use sp_trie::{LayoutV1, MemoryDB, Recorder, Trie, TrieDBBuilder, TrieMut, trie_types::TrieDBMutBuilderV1};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

pub(super) struct Chain {
    validators: Vec<SigningKey>,
    records: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// When its block was proposed.
    pub(super) time_ms: AtomicU64,
}

impl Chain {
    pub(super) fn new() -> Self {
        let validators = (0..4).map(|i| SigningKey::from_bytes(&[40 + i; 32])).collect();
        Self { validators, records: Mutex::default(), time_ms: START_MS.into() }
    }

    pub(super) fn genesis() -> Hash {
        Hash([77; 32])
    }

    pub(super) fn validators(&self) -> Vec<PublicKey> {
        self.validators.iter().map(|key| key.verifying_key().to_bytes()).collect()
    }

    pub(super) fn set(&self, key: Vec<u8>, value: &impl Encode) {
        self.records.lock().insert(key, value.encode());
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.records.lock().remove(key);
    }

    /// A fact that the code was paid for.
    pub(super) fn code(&self, code: &[u8]) -> Fact {
        let key = storage::code(&blake2_256(code));
        self.set(key.clone(), &CodeRecord { owner: AccountId([1; 32]), size: code.len() as u32, deposit: 1 });
        self.fact(&key, 3)
    }

    /// A fact about a contract's place.
    pub(super) fn contract(&self, address: &AccountId, record: &ContractRecord) -> Fact {
        let key = storage::contract(address);
        self.set(key.clone(), record);
        self.fact(&key, 3)
    }

    /// What the state holds under a key, signed by so many validators.
    pub(super) fn fact(&self, key: &[u8], signers: usize) -> Fact {
        let (mut db, mut root) = (MemoryDB::<Blake2Hasher>::default(), H256::zero());
        let mut trie = TrieDBMutBuilderV1::<Blake2Hasher>::new(&mut db, &mut root).build();
        trie.insert(b"something", b"else").unwrap();
        for (key, value) in &*self.records.lock() {
            trie.insert(key, value).unwrap();
        }
        drop(trie);
        let mut recorder = Recorder::<LayoutV1<Blake2Hasher>>::new();
        let trie = TrieDBBuilder::<LayoutV1<Blake2Hasher>>::new(&db, &root).with_recorder(&mut recorder).build();
        trie.get(key).unwrap();
        let proof = recorder.drain().into_iter().map(|node| node.data).collect();
        Fact { head: self.head(root, signers), key: key.to_vec(), proof }
    }

    fn head(&self, state_root: H256, signers: usize) -> FinalizedHead {
        let parent_hash = H256(Self::genesis().0);
        let extrinsics_root = H256::zero();
        let mut header = Header { parent_hash, number: 5, state_root, extrinsics_root, digest: Default::default() };
        let proposed = Proposed { view: 9, time_ms: self.time_ms.load(Ordering::Relaxed) };
        header.digest.push(DigestItem::PreRuntime(ENGINE, proposed.encode()));
        let header = header.encode();
        let certificate =
            certify(&self.validators, &chain_namespace(&Self::genesis()), 0, blake2_256(&header), signers);
        FinalizedHead { header, finality: certificate.into() }
    }
}

/// A certificate by the first so many of the members.
pub(super) fn certify(
    members: &[SigningKey],
    namespace: &[u8],
    epoch: u64,
    digest: Hash,
    signers: usize,
) -> Certificate {
    let mut certificate = Certificate { epoch, view: 9, parent_view: 8, digest, votes: vec![] };
    let message = certificate.message(namespace);
    let mut keys: Vec<_> = members.iter().collect();
    keys.sort_by_key(|key| key.verifying_key().to_bytes());
    let votes = (0u16..).zip(keys).take(signers).map(|(at, key)| (at, key.sign(&message).to_bytes()));
    certificate.votes = votes.collect();
    certificate
}
