//! `phala deposit` and `phala withdraw`: money between the chain and a cluster.

use super::{
    account::{format_pha, parse_pha},
    contract::CERTIFICATE_LIFE,
};
use crate::{
    args::{Move, Network, Signer},
    network::{connect, named_account},
    output::{Output, Tone},
};
use anyhow::Result;
use phala_client::{Account, Call, Chain, Cluster, Scope};
use phala_primitives::{AccountId, Balance, ClusterId, Coded};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an amount may be under way until the command line no longer waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(300);

/// A cluster as the account sees it: the one that was named, or the one of the contract that `to` is.
async fn cluster_of(
    account: &Account,
    network: &Network,
    cluster: Option<ClusterId>,
    to: &AccountId,
) -> Result<(Arc<Chain>, Arc<Cluster>)> {
    let chain = connect(network).await?;
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => chain.contract(to).await?.map_or(0, |contract| contract.cluster),
    };
    let credentials = account.certify(&chain, Scope::All, CERTIFICATE_LIFE);
    Ok((chain.clone(), Cluster::connect(chain, cluster, credentials).await?))
}

/// What an account owns in a cluster; `None` if the signer may not read it or nobody answers.
pub(crate) async fn balance_in_cluster(
    chain: &Arc<Chain>,
    signer: &Account,
    of: AccountId,
    cluster: ClusterId,
) -> Result<Balance, Coded> {
    let credentials = signer.certify(chain, Scope::All, CERTIFICATE_LIFE);
    Cluster::connect(chain.clone(), cluster, credentials).await?.balance(of).await
}

/// Waits until a balance has grown; `false` if it takes long.
async fn arrived(enough: Balance, look: impl AsyncFn() -> Result<Balance, Coded>) -> Result<bool, Coded> {
    let until = Instant::now() + PATIENCE;
    while look().await? < enough {
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Moves money from the chain into a cluster.
pub(crate) async fn deposit(options: &Move, output: Output) -> Result<()> {
    let Move { amount, to, cluster, signer, network } = options;
    let (amount, account) = (parse_pha(amount)?, Account::from_suri(&signer.suri)?);
    let to = to.as_deref().map_or(Ok(account.id()), named_account)?;
    let (chain, cluster) = cluster_of(&account, network, *cluster, &to).await?;
    let own = to == account.id();
    let before = if own { cluster.balance(to).await? } else { 0 };
    let bar = output.spinner("waiting until the deposit is final and in the cluster");
    let included = chain.submit(&account, &Call::deposit(cluster.id(), &to, amount)).await;
    let there = match (&included, own) {
        (Ok(_), true) => arrived(before.saturating_add(amount), async || cluster.balance(to).await).await,
        _ => Ok(false),
    };
    bar.finish_and_clear();
    let (included, there) = (included?, there?);
    let json = json!({
        "from": account.id().to_string(), "to": to.to_string(), "amount": amount.to_string(),
        "cluster": cluster.id(), "block": included.number, "extrinsic": included.hash.to_string(), "arrived": there,
    });
    let state = if there { "arrived" } else { "on its way" };
    let text = format!("{} for {to} {state} in cluster {}", format_pha(amount), cluster.id());
    output.data(&json, text);
    output.say(output.paint(Tone::Dim, &format!("final in block {}", included.number)));
    Ok(())
}

/// Pays money out of a cluster to an account of the chain.
pub(crate) async fn withdraw(options: &Move, output: Output) -> Result<()> {
    let Move { amount, to, cluster, signer, network } = options;
    let (amount, account) = (parse_pha(amount)?, Account::from_suri(&signer.suri)?);
    let to = to.as_deref().map_or(Ok(account.id()), named_account)?;
    let (chain, cluster) = cluster_of(&account, network, Some(cluster.unwrap_or_default()), &to).await?;
    let before = chain.account(&to).await?.free;
    let bar = output.spinner("waiting for the cluster, then for the chain");
    let executed = cluster.withdraw(to, amount).await;
    let there = match &executed {
        Ok(executed) if executed.outcome.result.is_ok() => {
            arrived(before.saturating_add(amount), async || Ok(chain.account(&to).await?.free)).await
        }
        _ => Ok(false),
    };
    bar.finish_and_clear();
    let executed = executed?;
    executed.outcome.result?;
    let there = there?;
    let height = executed.receipt.header.height;
    let json = json!({
        "from": account.id().to_string(), "to": to.to_string(), "amount": amount.to_string(),
        "cluster": cluster.id(), "height": height, "arrived": there,
    });
    let state = if there { "arrived" } else { "on its way" };
    output.data(&json, format!("{} to {to} {state} on the chain", format_pha(amount)));
    output.say(output.paint(Tone::Dim, &format!("entry {height}, receipt verified")));
    Ok(())
}

/// The account that may read what `account` owns in a cluster: itself if it was named by its secret, else who signs.
pub(crate) fn reader(account: &str, signer: &Signer) -> Result<Account, Coded> {
    Account::from_suri(if account.starts_with("//") { account } else { &signer.suri })
}
