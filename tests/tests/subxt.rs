//! The chain through `subxt`, a library of the Substrate ecosystem that knows nothing of this network: metadata,
//! storage, a signed transfer, finality.

#![allow(clippy::unwrap_used)]

use phala_tests::Devnet;
use subxt::{
    OnlineClient, SubstrateConfig,
    dynamic::{self, At, Value},
};
use subxt_signer::sr25519::dev;

const PHA: u128 = 1_000_000_000_000;

type Api = OnlineClient<SubstrateConfig>;

/// What an account may spend.
async fn free(api: &Api, account: [u8; 32]) -> u128 {
    let address = dynamic::storage::<([u8; 32],), Value>("System", "Account");
    let at = api.at_current_block().await.unwrap();
    let info = at.storage().fetch(address, (account,)).await.unwrap().decode().unwrap();
    info.at("data").and_then(|data| data.at("free")).and_then(Value::as_u128).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn subxt_reads_and_transfers() {
    let devnet = tokio::task::spawn_blocking(|| Devnet::start(&[])).await.unwrap().unwrap();
    let api = Api::from_insecure_url(devnet.rpc().unwrap()).await.unwrap();
    assert_eq!(format!("{:?}", api.genesis_hash()), devnet.facts()["genesis"].as_str().unwrap());

    let at = api.at_current_block().await.unwrap();
    let deposit = at.constants().entry(dynamic::constant::<u128>("Balances", "ExistentialDeposit")).unwrap();
    assert_eq!(deposit, PHA / 100);
    let nonce =
        dynamic::runtime_api_call::<_, u32>("AccountNonceApi", "account_nonce", (dev::ferdie().public_key().0,));
    assert_eq!(at.runtime_apis().call(nonce).await.unwrap(), 0);

    let (alice, bob) = (dev::alice(), dev::bob().public_key().to_account_id());
    let address = dev::bob().public_key().to_address::<()>();
    let before = free(&api, bob.0).await;
    let transfer = dynamic::transaction("Balances", "transfer_keep_alive", (address.clone(), 5 * PHA));
    let events = at
        .transactions()
        .sign_and_submit_then_watch_default(&transfer, &alice)
        .await
        .unwrap()
        .wait_for_finalized_success()
        .await
        .unwrap();
    assert!(
        events.iter().any(|event| event.is_ok_and(|e| e.pallet_name() == "Balances" && e.event_name() == "Transfer"))
    );
    assert_eq!(free(&api, bob.0).await, before + 5 * PHA);

    let hopeless = dynamic::transaction("Balances", "transfer_keep_alive", (address, 5_000_000 * PHA));
    let at = api.at_current_block().await.unwrap();
    let refused = at.transactions().sign_and_submit_then_watch_default(&hopeless, &alice).await.unwrap();
    let error = refused.wait_for_finalized_success().await.unwrap_err();
    assert!(error.to_string().contains("FundsUnavailable"), "{error}");

    let mut blocks = api.stream_blocks().await.unwrap();
    let first = blocks.next().await.unwrap().unwrap().number();
    assert_eq!(blocks.next().await.unwrap().unwrap().number(), first + 1);
}
