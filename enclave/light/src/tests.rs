use crate::{Header, LightClient, MAX_PROOF_NODES};
use codec::Encode;
use ed25519_dalek::{Signer, SigningKey};
use phala_primitives::{
    AccountId, Certificate, Code, Coded, ENGINE, Fact, FinalizedHead, Hash, Proposed, blake2_256, storage,
};
use phala_primitives::{quorum, records::chain_namespace};
use sp_core::{Blake2Hasher, H256};
use sp_runtime::DigestItem;
use sp_trie::{LayoutV1, MemoryDB, Recorder, TrieDBBuilder, TrieMut, trie_types::TrieDBMutBuilderV1};

/// A state of one worker, the validators, and enough else to make the trie deep.
struct State {
    db: MemoryDB<Blake2Hasher>,
    root: H256,
}

fn worker() -> Vec<u8> {
    storage::worker(&AccountId([7; 32]))
}

fn state(validators: &[[u8; 32]]) -> State {
    let (mut db, mut root) = (MemoryDB::default(), H256::zero());
    let mut trie = TrieDBMutBuilderV1::<Blake2Hasher>::new(&mut db, &mut root).build();
    trie.insert(&storage::validators(), &validators.to_vec().encode()).unwrap();
    // Longer than a hash: state version 1 stores such a value in a node of its own.
    trie.insert(&worker(), &[5; 100]).unwrap();
    for i in 0..200u32 {
        trie.insert(&storage::cluster(i), &i.encode()).unwrap();
    }
    drop(trie);
    State { db, root }
}

impl State {
    fn prove(&self, key: &[u8]) -> Vec<Vec<u8>> {
        use sp_trie::Trie;
        let mut recorder = Recorder::<LayoutV1<Blake2Hasher>>::new();
        let trie =
            TrieDBBuilder::<LayoutV1<Blake2Hasher>>::new(&self.db, &self.root).with_recorder(&mut recorder).build();
        trie.get(key).unwrap();
        recorder.drain().into_iter().map(|node| node.data).collect()
    }
}

struct Chain {
    keys: Vec<SigningKey>,
    state: State,
    genesis: Header,
}

impl Chain {
    fn new(seed: u8) -> Self {
        let keys: Vec<_> = (0..4).map(|i| SigningKey::from_bytes(&[seed + i; 32])).collect();
        let state = state(&keys.iter().map(|key| key.verifying_key().to_bytes()).collect::<Vec<_>>());
        let genesis = header(0, H256::zero(), state.root);
        Self { keys, state, genesis }
    }

    fn hash(&self) -> Hash {
        blake2_256(&self.genesis.encode())
    }

    /// A certificate by `count` validators.
    fn certify(&self, digest: Hash, count: usize) -> Certificate {
        let mut certificate = Certificate { epoch: 0, view: 9, parent_view: 8, digest, votes: vec![] };
        let message = certificate.message(&chain_namespace(&self.hash()));
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|key| key.verifying_key().to_bytes());
        certificate.votes =
            keys.iter().take(count).enumerate().map(|(i, key)| (i as u16, key.sign(&message).to_bytes())).collect();
        certificate
    }

    /// A block at this height, signed by `count` validators.
    fn head(&self, number: u32, count: usize) -> FinalizedHead {
        let header = header(number, H256(self.hash().0), self.state.root).encode();
        FinalizedHead { finality: self.certify(blake2_256(&header), count).into(), header }
    }

    fn genesis_fact(&self) -> Fact {
        let certificate = Certificate { epoch: 0, view: 0, parent_view: 0, digest: self.hash(), votes: vec![] };
        let head = FinalizedHead { header: self.genesis.encode(), finality: certificate.into() };
        Fact { head, key: storage::validators(), proof: self.state.prove(&storage::validators()) }
    }

    fn fact(&self, number: u32, key: Vec<u8>) -> Fact {
        Fact { head: self.head(number, quorum(4)), proof: self.state.prove(&key), key }
    }

    fn client(&self) -> LightClient {
        LightClient::bootstrap(self.hash(), &self.genesis_fact()).unwrap()
    }
}

fn header(number: u32, parent_hash: H256, state_root: H256) -> Header {
    Header { parent_hash, number, state_root, extrinsics_root: H256::zero(), digest: Default::default() }
}

#[test]
fn a_head_carries_its_time() {
    let chain = Chain::new(1);
    let mut client = chain.client();
    assert_eq!(client.time_ms(), 0);
    let mut show = |number: u32, time_ms: u64| {
        let mut header = header(number, H256(chain.hash().0), chain.state.root);
        header.digest.push(DigestItem::PreRuntime(ENGINE, Proposed { view: 9, time_ms }.encode()));
        let header = header.encode();
        let finality = chain.certify(blake2_256(&header), quorum(4)).into();
        client.update(&FinalizedHead { header, finality }).unwrap();
        client.time_ms()
    };
    assert_eq!(show(5, 5000), 5000);
    // An older head is final, too; it changes nothing.
    assert_eq!((show(4, 9000), show(6, 6000)), (5000, 6000));
}

fn code<T: std::fmt::Debug>(result: Result<T, Coded>) -> Option<Code> {
    result.unwrap_err().known()
}

#[test]
fn from_the_genesis_hash_to_a_proven_value() {
    let chain = Chain::new(1);
    let mut client = chain.client();
    assert_eq!(client.validators().len(), 4);
    client.update(&chain.head(5, quorum(4))).unwrap();
    assert_eq!((client.number(), client.hash()), (5, chain.head(5, 3).hash()));
    // An older head is final too, but the newest stays.
    client.update(&chain.head(3, 4)).unwrap();
    assert_eq!(client.number(), 5);
    let value = client.check(&chain.fact(6, worker()), &worker(), 6).unwrap();
    assert_eq!((value, client.number()), (Some(vec![5; 100]), 6));
    let third: Option<u32> = client.check_value(&chain.fact(6, storage::cluster(3)), &storage::cluster(3), 0).unwrap();
    assert_eq!(third, Some(3));
}

#[test]
fn a_head_is_final_with_its_descendants() {
    let chain = Chain::new(1);
    let (mut client, child) = (chain.client(), chain.head(6, quorum(4)));
    let parent = header(5, H256::zero(), chain.state.root).encode();
    let head = |descendants| {
        let finality = phala_primitives::Finality { descendants, certificate: child.finality.certificate.clone() };
        FinalizedHead { header: parent.clone(), finality }
    };
    // The child names another parent.
    assert_eq!(code(client.update(&head(vec![child.header.clone()]))), Some(Code::BadFinality));
    let link = header(6, H256(blake2_256(&parent).0), chain.state.root);
    let finality = chain.certify(blake2_256(&link.encode()), quorum(4));
    let finality = phala_primitives::Finality { descendants: vec![link.encode()], certificate: finality };
    client.update(&FinalizedHead { header: parent.clone(), finality }).unwrap();
    assert_eq!((client.number(), client.hash()), (5, blake2_256(&parent)));
}

#[test]
fn absence_is_proven_and_cannot_be_pretended() {
    let chain = Chain::new(1);
    let mut client = chain.client();
    let missing = storage::cluster(999);
    assert_eq!(client.check(&chain.fact(1, missing.clone()), &missing, 0).unwrap(), None);
    let mut fact = chain.fact(1, worker());
    fact.proof = chain.fact(1, missing.clone()).proof;
    assert_eq!(code(client.check(&fact, &worker(), 0)), Some(Code::BadReadProof));
    fact.proof.clear();
    assert_eq!(code(client.check(&fact, &worker(), 0)), Some(Code::BadReadProof));
}

#[test]
fn another_genesis_or_another_key_starts_nothing() {
    let (chain, other) = (Chain::new(1), Chain::new(100));
    let start = LightClient::bootstrap(chain.hash(), &other.genesis_fact());
    assert_eq!(code(start), Some(Code::GenesisChanged));
    let mut fact = chain.genesis_fact();
    fact.key = worker();
    fact.proof = chain.state.prove(&worker());
    assert_eq!(code(LightClient::bootstrap(chain.hash(), &fact)), Some(Code::BadReadProof));
    let mut fact = chain.genesis_fact();
    fact.proof = other.genesis_fact().proof;
    assert_eq!(code(LightClient::bootstrap(chain.hash(), &fact)), Some(Code::BadReadProof));
}

#[test]
fn heads_need_a_quorum_of_the_right_validators_over_this_very_header() {
    let (chain, other) = (Chain::new(1), Chain::new(100));
    let mut client = chain.client();
    assert_eq!(code(client.update(&chain.head(5, 2))), Some(Code::BadFinality));
    assert_eq!(code(client.update(&other.head(5, 4))), Some(Code::BadFinality));
    let mut swapped = chain.head(5, 4);
    swapped.header = chain.head(6, 4).header;
    assert_eq!(code(client.update(&swapped)), Some(Code::BadFinality));
    let mut longer = chain.head(5, 4);
    longer.header.push(0);
    assert_eq!(code(client.update(&longer)), Some(Code::BadFinality));
    let mut forged = chain.head(5, 4);
    forged.finality.certificate.votes[0].1[7] ^= 1;
    assert_eq!(code(client.update(&forged)), Some(Code::BadFinality));
    assert_eq!(client.number(), 0);
}

#[test]
fn altered_stale_foreign_and_oversized_facts_are_refused() {
    let chain = Chain::new(1);
    let mut client = chain.client();
    let good = chain.fact(7, worker());
    for node in 0..good.proof.len() {
        let mut bad = good.clone();
        let last = bad.proof[node].len() - 1;
        bad.proof[node][last] ^= 1;
        assert_eq!(code(client.check(&bad, &worker(), 0)), Some(Code::BadReadProof), "node {node}");
    }
    assert_eq!(code(client.check(&good, &storage::validators(), 0)), Some(Code::BadReadProof));
    assert_eq!(code(client.check(&good, &worker(), 8)), Some(Code::StaleHead));
    let mut bad = good;
    bad.proof = vec![vec![0]; MAX_PROOF_NODES + 1];
    assert_eq!(code(client.check(&bad, &worker(), 0)), Some(Code::TooLarge));
}
