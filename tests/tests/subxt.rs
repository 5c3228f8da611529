//! The chain through `subxt`, a library of the Substrate ecosystem that knows nothing of this network: metadata,
//! storage, a signed transfer, finality; over the new JSON-RPC interface and over the old one.

#![allow(clippy::unwrap_used)]

use phala_tests::Devnet;
use std::sync::Arc;
use subxt::{
    OnlineClient, SubstrateConfig,
    backend::{ChainHeadBackend, LegacyBackend},
    dynamic::{self, At, Value},
    rpcs::RpcClient,
};
use subxt_signer::sr25519::{Keypair, dev};

const PHA: u128 = 1_000_000_000_000;

type Api = OnlineClient<SubstrateConfig>;

/// What an account may spend.
async fn free(api: &Api, account: [u8; 32]) -> u128 {
    let address = dynamic::storage::<([u8; 32],), Value>("System", "Account");
    let at = api.at_current_block().await.unwrap();
    let info = at.storage().fetch(address, (account,)).await.unwrap().decode().unwrap();
    info.at("data").and_then(|data| data.at("free")).and_then(Value::as_u128).unwrap()
}

/// Everything that a wallet does, on behalf of this account.
async fn use_chain(api: &Api, from: &Keypair) {
    let at = api.at_current_block().await.unwrap();
    let deposit = at.constants().entry(dynamic::constant::<u128>("Balances", "ExistentialDeposit")).unwrap();
    assert_eq!(deposit, PHA / 100);
    let nonce = dynamic::runtime_api_call::<_, u32>("AccountNonceApi", "account_nonce", (from.public_key().0,));
    assert_eq!(at.runtime_apis().call(nonce).await.unwrap(), 0);
    let mut accounts =
        at.storage().iter(dynamic::storage::<([u8; 32],), Value>("System", "Account"), ()).await.unwrap();
    let mut count = 0;
    while let Some(entry) = accounts.next().await {
        entry.unwrap().value().decode().unwrap();
        count += 1;
    }
    assert!(count >= 10, "{count} accounts");

    let eve = dev::eve().public_key();
    let (before, address) = (free(api, eve.0).await, dev::eve().public_key().to_address::<()>());
    let transfer = dynamic::transaction("Balances", "transfer_keep_alive", (address.clone(), 5 * PHA));
    let sent = at.transactions().sign_and_submit_then_watch_default(&transfer, from).await.unwrap();
    let events = sent.wait_for_finalized_success().await.unwrap();
    let is_transfer =
        |event: subxt::events::Event<'_, _>| (event.pallet_name(), event.event_name()) == ("Balances", "Transfer");
    assert!(events.iter().any(|event| event.is_ok_and(is_transfer)));
    assert_eq!(free(api, eve.0).await, before + 5 * PHA);

    let hopeless = dynamic::transaction("Balances", "transfer_keep_alive", (address, 5_000_000 * PHA));
    let at = api.at_current_block().await.unwrap();
    let sent = at.transactions().sign_and_submit_then_watch_default(&hopeless, from).await.unwrap();
    let error = sent.wait_for_finalized_success().await.unwrap_err();
    assert!(error.to_string().contains("Funds are unavailable"), "{error}");

    let mut blocks = api.stream_blocks().await.unwrap();
    let first = blocks.next().await.unwrap().unwrap().number();
    assert_eq!(blocks.next().await.unwrap().unwrap().number(), first + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn subxt_reads_and_transfers() {
    let devnet = tokio::task::spawn_blocking(|| Devnet::start(&[])).await.unwrap().unwrap();
    let url = devnet.rpc().unwrap();
    // What anyone gets who only gives an address.
    let api = Api::from_insecure_url(url).await.unwrap();
    assert_eq!(format!("{:?}", api.genesis_hash()), devnet.facts()["genesis"].as_str().unwrap());
    use_chain(&api, &dev::alice()).await;

    let rpc = RpcClient::from_insecure_url(url).await.unwrap();
    let old = LegacyBackend::builder().build(rpc.clone());
    use_chain(&Api::from_backend(Arc::new(old)).await.unwrap(), &dev::bob()).await;
    let new = ChainHeadBackend::builder().build_with_background_driver(rpc);
    use_chain(&Api::from_backend(Arc::new(new)).await.unwrap(), &dev::charlie()).await;
}
