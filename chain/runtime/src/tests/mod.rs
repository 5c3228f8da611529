//! Tests of the runtime and, through it, of the pallets.

mod blame;
mod bridge;
mod clusters;
mod members;
mod moves;
mod parcels;
mod registry;
mod terms;
mod watches;

use crate::*;
use codec::{Decode, Encode};
use ed25519_dalek::{Signer, SigningKey};
use frame_support::{dispatch::GetDispatchInfo, traits::BuildGenesisConfig};
use phala_attest::{Anchors, Evidence, PlatformCertificate, SimulatedQuote};
use phala_primitives::{
    AccountId as Plain, Hash, PHA,
    records::{Offence, OffenceKind},
    storage,
};
use sp_runtime::traits::Header as _;

const NOW: u64 = 1_800_000_000_000;

/// A vendor of simulated machines, and one machine of it.
fn vendor() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// Evidence of a simulated machine for this report data.
fn evidence(report_data: [u8; 64]) -> Vec<u8> {
    let machine = SigningKey::from_bytes(&[2; 32]);
    let (key, not_after_ms, measurement) = (machine.verifying_key().to_bytes(), NOW + 1_000_000, Hash([3; 32]));
    let signature = vendor().sign(&PlatformCertificate::message(&key, not_after_ms)).to_bytes();
    let platform = PlatformCertificate { key, not_after_ms, signature };
    let signature = machine.sign(&SimulatedQuote::message(&measurement, &report_data, &key)).to_bytes();
    Evidence::Simulated(SimulatedQuote { measurement, report_data, platform, signature }).encode()
}

fn spec() -> GenesisSpec {
    GenesisSpec::dev("test", vec![[9; 32]], 8, Anchors { simulated: vec![vendor().verifying_key().to_bytes()] })
}

/// Runs in block 1 of a development chain.
fn run(test: impl FnOnce()) {
    let mut state: sp_io::TestExternalities = genesis(&spec()).unwrap().into();
    state.execute_with(|| {
        Executive::initialize_block(&Header::new(
            1,
            Default::default(),
            Default::default(),
            sp_core::H256([7; 32]),
            Default::default(),
        ));
        Timestamp::set(RuntimeOrigin::none(), NOW).unwrap();
        test();
    });
}

fn account(uri: &str) -> AccountId {
    AccountId::new(dev_account(uri).unwrap().0)
}

fn worker(index: u32) -> AccountId {
    account(&format!("//Worker//{index}"))
}

/// Registers a worker with the identity of this key.
fn register(worker: &AccountId, identity: &SigningKey) -> sp_runtime::DispatchResult {
    let (identity, recipient) = (identity.verifying_key().to_bytes(), [5; 32]);
    let plain = Plain(worker.clone().into());
    let bound = phala_attest::identity_report_data(&Hash([7; 32]), &plain, &identity, &recipient);
    Registry::register_worker(
        RuntimeOrigin::signed(worker.clone()),
        identity,
        recipient,
        b"http://127.0.0.1:1".to_vec(),
        b"127.0.0.1:2".to_vec(),
        evidence(bound),
    )
}

#[test]
fn light_clients_name_storage_as_frame_does() {
    let (account, hash) = (account("//Alice"), Hash([4; 32]));
    let plain = Plain(account.clone().into());
    assert_eq!(storage::validators(), pallet_registry::Validators::<Runtime>::hashed_key());
    assert_eq!(storage::worker(&plain), pallet_registry::Workers::<Runtime>::hashed_key_for(&account));
    assert_eq!(storage::cluster(7), pallet_clusters::Clusters::<Runtime>::hashed_key_for(7));
    assert_eq!(storage::code(&hash), pallet_clusters::Code::<Runtime>::hashed_key_for(hash));
    assert_eq!(storage::bridge(7), pallet_clusters::Bridges::<Runtime>::hashed_key_for(7));
    assert_eq!(storage::letter(7, 8), pallet_clusters::Inbox::<Runtime>::hashed_key_for(7, 8));
    assert_eq!(storage::mailbox(7), pallet_clusters::Mailboxes::<Runtime>::hashed_key_for(7));
    assert_eq!(storage::weights(7), pallet_clusters::Weights::<Runtime>::hashed_key_for(7));
    assert_eq!(storage::policy(7), pallet_clusters::Policies::<Runtime>::hashed_key_for(7));
    assert_eq!(storage::conviction(&plain), pallet_clusters::Convictions::<Runtime>::hashed_key_for(&account));
    let offence = Offence { cluster: 7, epoch: 8, identity: [9; 32], kind: OffenceKind::WrongResult };
    assert_eq!(storage::offence(&offence), pallet_clusters::Offences::<Runtime>::hashed_key_for(&offence));
    assert_eq!(storage::contract(&plain), pallet_clusters::Contracts::<Runtime>::hashed_key_for(plain));
}

#[test]
fn metadata_is_there_in_every_version() {
    run(|| {
        let versions = Vec::<u32>::decode(&mut &*call("Metadata_metadata_versions", &[]).unwrap()).unwrap();
        for version in [14, 15, 16] {
            assert!(versions.contains(&version));
            let answer = call("Metadata_metadata_at_version", &version.encode()).unwrap();
            let bytes = Option::<sp_core::OpaqueMetadata>::decode(&mut &*answer).unwrap().unwrap();
            let names = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
            assert!(names("CheckMetadataHash") && names("create_cluster"), "version {version}");
            assert!(version == 14 || names("TaggedTransactionQueue"), "version {version} lacks the runtime APIs");
        }
        assert_eq!(call("Core_version", &[]).unwrap(), VERSION.encode());
        assert!(call("No_such", &[]).is_none());
    });
}

#[test]
fn a_transfer_costs_about_a_thousandth_and_thousands_fit_a_block() {
    run(|| {
        let transfer = RuntimeCall::Balances(pallet_balances::Call::transfer_keep_alive {
            dest: account("//Bob").into(),
            value: PHA,
        });
        let info = transfer.get_dispatch_info();
        let fee = TransactionPayment::compute_fee(145, &info, 0);
        assert!((PHA / 2000..PHA / 500).contains(&fee), "{fee}");
        let base = config::Weights::get().get(frame_support::dispatch::DispatchClass::Normal).base_extrinsic;
        let each = info.total_weight() + base;
        assert!(MAX_BLOCK_WEIGHT.ref_time() / each.ref_time() > 1500, "{each:?}");
    });
}

#[test]
fn a_genesis_that_makes_no_sense_is_refused() {
    let with = |change: fn(&mut GenesisSpec)| {
        let mut spec = spec();
        change(&mut spec);
        genesis(&spec).unwrap_err()
    };
    assert_eq!(with(|spec| spec.production = true), GenesisError::SimulatedAnchors);
    assert_eq!(with(|spec| spec.validators.clear()), GenesisError::Validators);
    assert_eq!(with(|spec| spec.validators.push([9; 32])), GenesisError::Validators);
    assert_eq!(with(|spec| spec.endowed[0].1 = 1), GenesisError::Endowed);
    let mut real = spec();
    (real.production, real.anchors.simulated) = (true, vec![]);
    assert!(genesis(&real).is_ok());
}

#[test]
#[should_panic(expected = "a production chain cannot trust simulated machines")]
fn the_registry_itself_refuses_simulated_anchors_in_production() {
    sp_io::TestExternalities::default().execute_with(|| {
        pallet_registry::GenesisConfig::<Runtime> { anchors: spec().anchors, production: true, ..Default::default() }
            .build()
    });
}
