//! Two nodes in one process: one proposes, both judge and finalise.

use crate::{Backend, ExtrinsicStatus, Node, NodeConfig, NodeError, PoolLimits, block};
use codec::{Decode, Encode};
use parking_lot::Mutex;
use phala_consensus::Application;
use phala_primitives::{AccountId as Plain, Block, Certificate, Code, Finality, Hash, PHA, Position, Verdict, storage};
use phala_runtime::{
    AccountId, GenesisSpec, Header, Runtime, RuntimeCall, SignedPayload, TxExtension, UncheckedExtrinsic, VERSION,
};
use sp_core::{H256, Pair, sr25519};
use sp_runtime::{MultiAddress, generic::Era};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const NOW: u64 = 1_800_000_000_000;

fn spec() -> GenesisSpec {
    GenesisSpec::dev("test", vec![[1; 32], [2; 32]], 2, Default::default())
}

fn node() -> Arc<Node> {
    Node::open(NodeConfig::new(spec())).unwrap()
}

/// Deriving a key takes milliseconds, by design of the phrase behind it.
fn pair(uri: &str) -> sr25519::Pair {
    static PAIRS: Mutex<BTreeMap<String, sr25519::Pair>> = Mutex::new(BTreeMap::new());
    let mut pairs = PAIRS.lock();
    pairs.entry(uri.into()).or_insert_with(|| sr25519::Pair::from_string(uri, None).unwrap()).clone()
}

fn account(uri: &str) -> AccountId {
    AccountId::new(pair(uri).public().0)
}

fn signed(node: &Node, uri: &str, nonce: u32, tip: u128, call: RuntimeCall) -> Vec<u8> {
    let extension: TxExtension = (
        frame_system::CheckNonZeroSender::new(),
        frame_system::CheckSpecVersion::new(),
        frame_system::CheckTxVersion::new(),
        frame_system::CheckGenesis::new(),
        frame_system::CheckEra::from(Era::Immortal),
        frame_system::CheckNonce::from(nonce),
        frame_system::CheckWeight::new(),
        pallet_transaction_payment::ChargeTransactionPayment::from(tip),
        frame_metadata_hash_extension::CheckMetadataHash::<Runtime>::new(false),
    );
    let genesis = H256(node.genesis_hash().0);
    let implicit = ((), VERSION.spec_version, VERSION.transaction_version, genesis, genesis, (), (), (), None);
    let payload = SignedPayload::from_raw(call, extension, implicit);
    let signature = payload.using_encoded(|bytes| pair(uri).sign(bytes));
    let (call, extension, _) = payload.deconstruct();
    UncheckedExtrinsic::new_signed(call, MultiAddress::Id(account(uri)), signature.into(), extension).encode()
}

fn transfer(node: &Node, from: &str, nonce: u32, to: &str, value: u128) -> Vec<u8> {
    let call = pallet_balances::Call::transfer_keep_alive { dest: account(to).into(), value };
    signed(node, from, nonce, 0, RuntimeCall::Balances(call))
}

fn free(node: &Node, uri: &str) -> u128 {
    let state = node.state_at(&node.head().hash).unwrap();
    crate::execute::read(&state, || phala_runtime::Balances::free_balance(account(uri))).unwrap()
}

fn at(view: u64) -> Position {
    Position { epoch: 0, view, leader: [1; 32], now_ms: NOW + 500 * view }
}

fn certificate(block: &Block) -> Finality {
    Certificate { epoch: 0, view: 1, parent_view: 0, digest: block.digest(), votes: vec![] }.into()
}

fn head_block(node: &Node) -> Block {
    let hash = node.head().hash;
    Block {
        header: node.header(&hash).unwrap().unwrap().into(),
        body: block::join(&node.body(&hash).unwrap().unwrap()),
    }
}

/// One proposes on its head; all accept and finalise.
fn round(view: u64, leader: &Node, others: &[&Node]) -> Block {
    let ancestry = [head_block(leader)];
    let block = leader.propose(at(view), &ancestry).unwrap();
    for node in others {
        assert_eq!(node.verify(at(view), &ancestry, &block), Verdict::Accept);
        Application::finalized(*node, block.clone(), certificate(&block));
    }
    Application::finalized(leader, block.clone(), certificate(&block));
    block
}

#[test]
fn a_transfer_travels_from_one_node_to_the_state_of_both() {
    let (one, two) = (node(), node());
    assert_eq!(one.genesis_hash(), two.genesis_hash());
    let before = free(&two, "//Bob");
    let mut heads = two.subscribe();
    let extrinsic = transfer(&one, "//Alice", 0, "//Bob", 5 * PHA);
    let (hash, mut watcher) = one.submit_and_watch(&extrinsic).unwrap();
    assert_eq!(one.next_index(&Plain(account("//Alice").into())).unwrap(), 1);
    let block = round(1, &one, &[&two]);
    assert_eq!(free(&two, "//Bob"), before + 5 * PHA);
    assert!(free(&two, "//Alice") < before - 5 * PHA);
    assert_eq!(free(&one, "//Alice"), free(&two, "//Alice"));
    assert_eq!(heads.try_recv().unwrap(), two.head());
    assert_eq!(watcher.try_recv(), Ok(ExtrinsicStatus::Ready));
    assert_eq!(watcher.try_recv(), Ok(ExtrinsicStatus::Finalized { block: block.digest(), index: 1 }));
    assert_eq!(two.body(&block.digest()).unwrap().unwrap()[1], extrinsic);
    assert_eq!(hash, phala_primitives::blake2_256(&extrinsic));
    assert_eq!(one.submit(&extrinsic).unwrap_err().known(), Some(Code::BadExtrinsic));
    assert_eq!(two.next_index(&Plain(account("//Alice").into())).unwrap(), 1);
}

#[test]
fn blocks_follow_each_other_before_they_are_final() {
    let (one, two) = (node(), node());
    let genesis = one.genesis();
    one.submit(&transfer(&one, "//Alice", 0, "//Bob", PHA)).unwrap();
    let first = one.propose(at(1), std::slice::from_ref(&genesis)).unwrap();
    one.submit(&transfer(&one, "//Alice", 1, "//Bob", PHA)).unwrap();
    let second = one.propose(at(2), std::slice::from_ref(&first)).unwrap();
    // Both hold one transfer each besides the timestamp: what is in the first is not in the second again.
    assert_eq!(block::split(&first.body).unwrap().len(), 2);
    assert_eq!(block::split(&second.body).unwrap().len(), 2);
    // The other node never saw the first block on its own.
    assert_eq!(two.verify(at(2), &[genesis.clone(), first.clone()], &second), Verdict::Accept);
    Application::finalized(&*two, first.clone(), certificate(&first));
    Application::finalized(&*two, second.clone(), certificate(&second));
    Application::finalized(&*two, first.clone(), certificate(&first));
    assert_eq!(two.head().hash, second.digest());
    // A node that voted on nothing executes what is final all the same.
    let three = node();
    Application::finalized(&*three, first, certificate(&second));
    Application::finalized(&*three, second.clone(), certificate(&second));
    assert_eq!(three.head(), two.head());
    assert_eq!(free(&three, "//Bob"), free(&two, "//Bob"));
}

#[test]
fn what_does_not_follow_from_its_parent_is_refused() {
    let (one, two) = (node(), node());
    one.submit(&transfer(&one, "//Alice", 0, "//Bob", PHA)).unwrap();
    let genesis = [one.genesis()];
    let good = one.propose(at(1), &genesis).unwrap();
    let header = Header::decode(&mut &*good.header).unwrap();
    let with = |change: fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        Block { header: header.encode().into(), body: good.body.clone() }
    };
    let verdict = |block: &Block| two.verify(at(1), &genesis, block);
    assert_eq!(verdict(&with(|header| header.state_root.0[0] ^= 1)), Verdict::Reject);
    assert_eq!(verdict(&with(|header| header.number = 2)), Verdict::Reject);
    assert_eq!(verdict(&with(|header| header.parent_hash.0[0] ^= 1)), Verdict::Reject);
    // The same root, but the extrinsics are gone, or in disorder, or unsigned.
    assert!(two.inspect(&Block { header: good.header.clone(), body: block::join(&[]) }).is_none());
    let extrinsics = block::split(&good.body).unwrap();
    for body in [vec![], vec![extrinsics[1].clone()], vec![extrinsics[0].clone(), extrinsics[0].clone()]] {
        let mut header = header.clone();
        header.extrinsics_root = block::root(&body);
        let block = Block { header: header.encode().into(), body: block::join(&body) };
        assert!(two.inspect(&block).is_some());
        assert_eq!(verdict(&block), Verdict::Reject);
    }
    let later = |now_ms| two.verify(Position { now_ms, ..at(1) }, &genesis, &good);
    assert_eq!(later(NOW - 2_000), Verdict::Later);
    assert_eq!(later(NOW - 5_000), Verdict::Reject);
    assert_eq!(later(NOW + 60_000), Verdict::Reject);
    assert_eq!(verdict(&good), Verdict::Accept);
}

#[test]
fn garbage_is_no_block() {
    let node = node();
    let genesis = node.genesis();
    for (header, body) in [
        (vec![], vec![]),
        (vec![0; 2000], vec![0]),
        (genesis.header.to_vec(), vec![0xff; 8]),
        (genesis.header.to_vec(), vec![0; 2 << 20]),
        (Header::decode(&mut &*genesis.header).map(|h| Header { number: 1, ..h }).unwrap().encode(), vec![0]),
    ] {
        assert!(node.inspect(&Block { header: header.into(), body: body.into() }).is_none());
    }
    assert_eq!(node.inspect(&genesis).map(|shape| shape.height), Some(0));
}

#[test]
fn a_restart_keeps_the_head_and_another_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig { folder: Some(folder.path().into()), ..NodeConfig::new(spec()) };
    let open = || Node::open(config.clone()).unwrap();
    let other = node();
    let (head, bob) = {
        let node = open();
        node.submit(&transfer(&node, "//Alice", 0, "//Bob", PHA)).unwrap();
        (1..4).for_each(|view| drop(round(view, &node, &[&other])));
        (node.head(), free(&node, "//Bob"))
    };
    let node = open();
    assert_eq!((node.head(), free(&node, "//Bob")), (head, bob));
    assert_eq!(node.fact(&storage::validators()).unwrap().head.hash(), head.hash);
    round(4, &other, &[&node]);
    assert_eq!(node.head().number, 4);
    drop(node);
    let mut foreign = config.clone();
    foreign.spec.endowed.pop();
    assert!(matches!(Node::open(foreign), Err(NodeError::OtherChain { .. })));
}

#[test]
fn old_states_go_and_the_genesis_stays() {
    let node = Node::open(NodeConfig { keep_states: Some(3), ..NodeConfig::new(spec()) }).unwrap();
    let archive = Node::open(NodeConfig { keep_states: None, ..NodeConfig::new(spec()) }).unwrap();
    let blocks: Vec<_> = (1..12).map(|view| round(view, &node, &[&archive]).digest()).collect();
    let key = storage::validators();
    let read = |node: &Node, at: &Hash| node.storage(at, &key).map_err(|error| error.known().unwrap());
    assert_eq!(read(&node, &blocks[2]), Err(Code::UnknownBlock));
    for hash in [&blocks[8], &blocks[10], &node.genesis_hash()] {
        assert_eq!(read(&node, hash), read(&archive, hash));
        let proof = node.read_proof(hash, std::slice::from_ref(&key)).unwrap();
        assert_eq!(proof, archive.read_proof(hash, std::slice::from_ref(&key)).unwrap());
    }
    assert!(read(&archive, &blocks[2]).unwrap().is_some());
    // Each state that is left can be read as a whole.
    for hash in [&blocks[8], &blocks[10], &node.genesis_hash()] {
        for key in node.storage_keys(hash, &[], 10_000, None).unwrap() {
            assert_eq!(Node::storage(&node, hash, &key), Node::storage(&archive, hash, &key));
        }
    }
}

#[test]
fn facts_are_proven_also_under_a_head_that_is_final_through_a_descendant() {
    let (one, two) = (node(), node());
    let first = round(1, &one, &[&two]);
    let second = one.propose(at(2), std::slice::from_ref(&first)).unwrap();
    let third = one.propose(at(3), std::slice::from_ref(&second)).unwrap();
    let finality = Finality { descendants: vec![third.header.to_vec()], ..certificate(&third) };
    Application::finalized(&*one, second.clone(), finality.clone());
    let key = storage::validators();
    let fact = one.fact(&key).unwrap();
    assert_eq!((fact.head.hash(), &fact.head.finality), (second.digest(), &finality));
    let header = Header::decode(&mut &*fact.head.header).unwrap();
    let proof = sp_state_machine::StorageProof::new(fact.proof);
    let values =
        sp_state_machine::read_proof_check::<sp_core::Blake2Hasher, _>(header.state_root, proof, [&key]).unwrap();
    assert_eq!(values[&key], Some(vec![[1u8; 32], [2; 32]].encode()));
    assert_eq!(one.fact_at(&third.digest(), &key).unwrap_err().known(), Some(Code::UnknownBlock));
}

#[test]
fn the_pool_has_limits_and_knows_what_is_worth_a_place() {
    let pool = PoolLimits { count: 2, bytes: 1 << 20, per_account: 2 };
    let node = Node::open(NodeConfig { pool, ..NodeConfig::new(spec()) }).unwrap();
    let remark = |uri: &str, nonce, tip| {
        let call = RuntimeCall::System(frame_system::Call::remark { remark: vec![] });
        node.submit(&signed(&node, uri, nonce, tip, call)).map_err(|error| error.known().unwrap())
    };
    assert_eq!(remark("//Nobody", 0, 0), Err(Code::BadExtrinsic));
    remark("//Alice", 0, 0).unwrap();
    remark("//Alice", 1, 0).unwrap();
    assert_eq!(remark("//Alice", 2, PHA), Err(Code::PoolFull));
    assert_eq!(remark("//Bob", 0, 0), Err(Code::PoolFull));
    remark("//Bob", 0, PHA).unwrap();
    assert_eq!(node.pending().len(), 2);
    assert_eq!(node.submit(&[1, 2, 3]).unwrap_err().known(), Some(Code::BadExtrinsic));
    assert_eq!(node.submit(&block::timestamp(NOW).encode()).unwrap_err().known(), Some(Code::BadExtrinsic));
    let mut forged = transfer(&node, "//Bob", 0, "//Alice", PHA);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(node.submit(&forged).unwrap_err().known(), Some(Code::BadExtrinsic));
}

#[test]
fn a_leader_waits_for_work_and_hears_of_it_from_others() {
    let (one, two) = (node(), node());
    let is_ready = |node: &Node| futures::FutureExt::now_or_never(node.ready()).is_some();
    assert!(!is_ready(&one));
    let extrinsic = transfer(&one, "//Alice", 0, "//Bob", PHA);
    one.submit(&extrinsic).unwrap();
    assert!(is_ready(&one) && !is_ready(&two));
    two.received([1; 32], vec![extrinsic.clone(), vec![7; 5]].encode().into());
    two.received([1; 32], vec![0xff; 9].into());
    assert!(is_ready(&two));
    let ancestry = [two.genesis()];
    let block = two.propose(at(1), &ancestry).unwrap();
    assert_eq!(block::split(&block.body).unwrap()[1], extrinsic);
    // It waits in the pool until the block is final, but is no reason for another block.
    assert!(!is_ready(&two));
    assert_eq!(two.pending(), [extrinsic]);
    assert_eq!(one.verify(at(1), &ancestry, &block), Verdict::Accept);
    assert!(!is_ready(&one));
    Application::finalized(&*one, block.clone(), certificate(&block));
    assert!(one.pending().is_empty());
}

#[test]
fn runtime_calls_are_answered_and_bad_input_is_survived() {
    let node = node();
    let at = node.head().hash;
    let nonce = node.call(&at, "AccountNonceApi_account_nonce", &account("//Alice").encode()).unwrap();
    assert_eq!(nonce, 0u32.encode());
    for (method, input) in [("AccountNonceApi_account_nonce", vec![1]), ("No_such", vec![])] {
        assert_eq!(node.call(&at, method, &input).unwrap_err().known(), Some(Code::Malformed));
    }
    assert_eq!(node.call(&Hash([3; 32]), "Core_version", &[]).unwrap_err().known(), Some(Code::UnknownBlock));
}

#[test]
fn a_thousand_transfers_fit_one_block_in_the_order_of_nonces() {
    let one = Node::open(NodeConfig { build_time: Duration::MAX, ..NodeConfig::new(spec()) }).unwrap();
    let two = node();
    for nonce in (0..500).rev() {
        one.submit(&transfer(&one, "//Alice", nonce, "//Bob", PHA)).unwrap();
        one.submit(&transfer(&one, "//Bob", nonce, "//Alice", PHA)).unwrap();
    }
    let block = round(1, &one, &[&two]);
    assert_eq!(block::split(&block.body).unwrap().len(), 1001);
    assert!(one.pending().is_empty());
    assert_eq!(free(&two, "//Alice"), free(&two, "//Bob"));
}
