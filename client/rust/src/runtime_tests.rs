//! Extrinsics, storage keys and events of this client against the real runtime.

use crate::{
    Account, Call, Event,
    events::Metadata,
    extrinsic::{self, Terms},
    keys,
};
use codec::{Decode, Encode};
use phala_primitives::{
    AccountId, ClusterPolicy, Code, Coded, Hash, PHA,
    bridge::{Order, Outbound},
    records,
};
use phala_runtime::{Executive, GenesisSpec, Header, Runtime, RuntimeCall, UncheckedExtrinsic, VERSION};

const GENESIS: Hash = Hash([7; 32]);

/// What each extrinsic did in block 1 of a development chain, and the storage after it.
fn block(extrinsics: &[Vec<u8>], after: impl FnOnce()) -> Vec<Result<Vec<Event>, Coded>> {
    let spec = GenesisSpec::dev("test", vec![[9; 32]], 0, Default::default());
    let mut state: sp_io::TestExternalities = phala_runtime::genesis(&spec).unwrap().into();
    state.execute_with(|| {
        Executive::initialize_block(&Header {
            parent_hash: sp_core::H256(GENESIS.0),
            number: 1,
            state_root: Default::default(),
            extrinsics_root: Default::default(),
            digest: Default::default(),
        });
        let now = RuntimeCall::Timestamp(pallet_timestamp::Call::set { now: 1_800_000_000_000 });
        let now = UncheckedExtrinsic::new_bare(now);
        Executive::apply_extrinsic(now.clone()).unwrap().unwrap();
        for extrinsic in extrinsics {
            // An error of the call is in the events; one of the extrinsic itself fails here.
            let _ = Executive::apply_extrinsic(Decode::decode(&mut extrinsic.as_slice()).unwrap()).unwrap();
        }
        let metadata = Metadata::decode(&Runtime::metadata().encode()).unwrap();
        let all = sp_io::storage::get(&keys::events()).unwrap();
        after();
        let outcome = |index: usize| {
            let events = metadata.events_of(&all, index as u32).unwrap();
            metadata.check_success(&events).map(|()| events)
        };
        let outcomes = (1..=extrinsics.len()).map(outcome).collect();
        let body = [&[now.encode()], extrinsics].concat();
        let root = Executive::finalize_block().extrinsics_root;
        assert_eq!(phala_light::extrinsics_root(&body), Hash(root.0));
        outcomes
    })
}

fn alice() -> Account {
    Account::from_suri("//Alice").unwrap()
}

fn sign(nonce: u32, call: &Call) -> Vec<u8> {
    let terms = Terms {
        spec_version: VERSION.spec_version,
        transaction_version: VERSION.transaction_version,
        genesis: GENESIS,
        born: (0, GENESIS),
        nonce,
        tip: 0,
    };
    extrinsic::sign(&alice(), call, &terms)
}

#[test]
fn calls_are_those_of_the_runtime() {
    let (bob, hash) = (AccountId([3; 32]), Hash([4; 32]));
    let account = sp_runtime::AccountId32::new(bob.0);
    let anchor = records::Anchor { height: 5, digest: hash };
    let transfer = Call::transfer_keep_alive(&bob, PHA);
    let inner =
        RuntimeCall::Balances(pallet_balances::Call::transfer_keep_alive { dest: account.clone().into(), value: PHA });
    let register = pallet_registry::Call::register_worker {
        identity: [1; 32],
        recipient: [2; 32],
        endpoint: b"http://a".to_vec(),
        peer: b"b:1".to_vec(),
        evidence: vec![8; 300],
    };
    let update = pallet_registry::Call::update_endpoint { endpoint: b"http://a".to_vec(), peer: b"b:1".to_vec() };
    let rejoin = pallet_clusters::Call::rejoin { cluster: 6, anchor, proof: Some(vec![1, 2]) };
    let create =
        pallet_clusters::Call::create_contract { cluster: 6, code_hash: hash, salt: vec![9], upgradable: true };
    let message = pallet_clusters::Call::send_message { contract: bob, data: vec![7; 70], value: PHA };
    let outbound = Outbound { from: bob, order: Order::Withdraw { to: AccountId([5; 32]), amount: PHA } };
    let messages = vec![outbound.clone()];
    let deliver = pallet_clusters::Call::deliver { cluster: 6, proof: vec![1; 80], messages, rest: vec![hash] };
    let pairs: Vec<(Call, RuntimeCall)> = vec![
        (transfer.clone(), inner.clone()),
        (
            Call::batch_all(&[transfer.clone(), transfer]),
            RuntimeCall::Utility(pallet_utility::Call::batch_all { calls: vec![inner.clone(), inner] }),
        ),
        (Call::register_worker(&[1; 32], &[2; 32], "http://a", "b:1", &[8; 300]), RuntimeCall::Registry(register)),
        (Call::update_endpoint("http://a", "b:1"), RuntimeCall::Registry(update)),
        (
            Call::create_cluster(&[bob]),
            RuntimeCall::Clusters(pallet_clusters::Call::create_cluster { workers: vec![account] }),
        ),
        (Call::rejoin(6, &anchor, Some(&[1, 2])), RuntimeCall::Clusters(rejoin)),
        (
            Call::close(6, &[1, 2]),
            RuntimeCall::Clusters(pallet_clusters::Call::close { cluster: 6, proof: vec![1, 2] }),
        ),
        (
            Call::checkpoint(6, &[1, 2]),
            RuntimeCall::Clusters(pallet_clusters::Call::checkpoint { cluster: 6, proof: vec![1, 2] }),
        ),
        (Call::offer(), RuntimeCall::Clusters(pallet_clusters::Call::offer {})),
        (Call::retire(), RuntimeCall::Clusters(pallet_clusters::Call::retire {})),
        (Call::accuse(6, &bob), RuntimeCall::Clusters(pallet_clusters::Call::accuse { cluster: 6, worker: bob })),
        (
            Call::convict(6, &[1, 2]),
            RuntimeCall::Clusters(pallet_clusters::Call::convict { cluster: 6, proof: vec![1, 2] }),
        ),
        (Call::drain(6, &bob), RuntimeCall::Clusters(pallet_clusters::Call::drain { cluster: 6, worker: bob })),
        (Call::resize(6, 7), RuntimeCall::Clusters(pallet_clusters::Call::resize { cluster: 6, size: 7 })),
        (Call::set_readers(6, 7), RuntimeCall::Clusters(pallet_clusters::Call::set_readers { cluster: 6, count: 7 })),
        (
            Call::upload_code(&hash, 7),
            RuntimeCall::Clusters(pallet_clusters::Call::upload_code { code_hash: hash, size: 7 }),
        ),
        (Call::remove_code(&hash), RuntimeCall::Clusters(pallet_clusters::Call::remove_code { code_hash: hash })),
        (Call::create_contract(6, &hash, &[9], true), RuntimeCall::Clusters(create)),
        (
            Call::upgrade_contract(&bob, &hash),
            RuntimeCall::Clusters(pallet_clusters::Call::upgrade_contract { address: bob, code_hash: hash }),
        ),
        (
            Call::move_contract(&bob, Some(6)),
            RuntimeCall::Clusters(pallet_clusters::Call::move_contract { address: bob, to: Some(6) }),
        ),
        (Call::freeze_contract(&bob), RuntimeCall::Clusters(pallet_clusters::Call::freeze_contract { address: bob })),
        (
            Call::deposit(6, &bob, PHA),
            RuntimeCall::Clusters(pallet_clusters::Call::deposit { cluster: 6, to: bob, amount: PHA }),
        ),
        (Call::send_message(&bob, &[7; 70], PHA), RuntimeCall::Clusters(message)),
        (Call::deliver(6, &[1; 80], std::slice::from_ref(&outbound), &[hash]), RuntimeCall::Clusters(deliver)),
        (
            Call::set_policy(6, &ClusterPolicy::DEFAULT),
            RuntimeCall::Clusters(pallet_clusters::Call::set_policy { cluster: 6, policy: ClusterPolicy::DEFAULT }),
        ),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.encoded(), theirs.encode(), "{theirs:?}");
    }
}

#[test]
fn storage_keys_are_those_of_the_runtime() {
    let account = alice().id();
    let frame = sp_runtime::AccountId32::new(account.0);
    assert_eq!(keys::account(&account), frame_system::Account::<Runtime>::hashed_key_for(frame));
    assert_eq!(keys::epoch(3, 4), pallet_clusters::Epochs::<Runtime>::hashed_key_for(3, 4));
    assert_eq!(keys::next_cluster(), pallet_clusters::NextCluster::<Runtime>::hashed_key());
}

#[test]
fn the_runtime_accepts_what_is_signed_here_and_its_events_are_understood() {
    let code = Hash([4; 32]);
    let deploy = Call::batch_all(&[Call::upload_code(&code, 7), Call::upload_code(&Hash([5; 32]), 8)]);
    let extrinsics = [
        sign(0, &Call::transfer_keep_alive(&AccountId([3; 32]), 5 * PHA)),
        sign(1, &deploy),
        sign(2, &Call::create_contract(9, &code, &[], false)),
        sign(3, &Call::transfer_keep_alive(&AccountId([3; 32]), 5_000_000 * PHA)),
    ];
    let outcomes = block(&extrinsics, || {
        let account = sp_io::storage::get(&keys::account(&AccountId([3; 32]))).unwrap();
        let (info, _) = <(crate::AccountInfo, u128)>::decode(&mut &*account).unwrap();
        assert_eq!((info.free, info.nonce), (5 * PHA, 0));
    });
    let [transfer, uploads, contract, broke] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let event = transfer.as_ref().unwrap().iter().find(|event| event.name == "Transfer").unwrap();
    assert_eq!((event.number("amount"), event.bytes32("to")), (Some(5 * PHA), Some([3; 32])));
    let uploaded: Vec<_> = uploads.as_ref().unwrap().iter().filter(|event| event.name == "CodeUploaded").collect();
    assert_eq!((uploaded.len(), uploaded[1].bytes32("code_hash")), (2, Some([5; 32])));
    let failed = contract.as_ref().unwrap_err();
    assert_eq!(failed.known(), Some(Code::ExtrinsicFailed));
    assert_eq!(failed.detail, "Clusters::NoCluster: There is no such cluster.");
    assert!(broke.as_ref().unwrap_err().detail.starts_with("Token::FundsUnavailable"), "{broke:?}");
}
