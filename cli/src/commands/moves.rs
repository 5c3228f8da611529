//! `phala move`: a contract goes to another cluster.

use crate::{
    args::{Network, Signer},
    commands::contract::address_of,
    network::connect,
    output::Output,
};
use anyhow::Result;
use clap::Args;
use phala_client::{Account, Call, Chain, Cluster, Scope};
use phala_primitives::{AccountId, ClusterId, Code, Coded};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often the chain is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);
/// Gas for finding out whether it works.
const TRIED_GAS: u64 = 1_000_000;
/// How long somebody may look on.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Options of `move`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// Address of the contract.
    pub(crate) address: String,
    /// Number of the cluster that it goes to.
    #[arg(long, required_unless_present = "call_off")]
    pub(crate) to: Option<u32>,
    /// Let it stay where it is, if the other cluster does not have all of it yet.
    #[arg(long)]
    pub(crate) call_off: bool,
    /// Do not wait until it is there.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Who deployed it.
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// Which network.
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Has a contract set out, or stay, and looks on until it is there.
pub(crate) async fn run(options: &Options, output: Output) -> Result<()> {
    let address = address_of(&options.address)?;
    let account = Account::from_suri(&options.signer.suri)?;
    let chain = connect(&options.network).await?;
    let record = chain.placed(&address).await?;
    if record.deployer != account.id() {
        return Err(Coded::new(Code::NotDeployer, "only the deployer may move the contract").into());
    }
    let Some(to) = options.to.filter(|_| !options.call_off) else {
        chain.submit(&account, &Call::move_contract(&address, None)).await?;
        output.done(format!("it stays in cluster {} and works there again within seconds", record.cluster));
        output.data(&json!({ "address": address.to_string(), "cluster": record.cluster }), address.to_string());
        return Ok(());
    };
    if record.moving != Some(to) && record.cluster != to {
        chain.cluster(to).await?.ok_or_else(|| Coded::new(Code::NoSuchCluster, format!("cluster {to}")))?;
        let bar = output.spinner(&format!("cluster {to} publishes the key for what goes there"));
        while chain.mailbox(to).await?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
        bar.finish_and_clear();
        chain.submit(&account, &Call::move_contract(&address, Some(to))).await?;
    }
    let begun = Instant::now();
    if !options.no_wait {
        let bar = output.spinner(&format!("it is packed in cluster {}, and fetched by cluster {to}", record.cluster));
        look_on(&chain, &address, to, &bar).await?;
        bar.set_message(format!("cluster {to} lets it work"));
        until_it_works(&chain, &account, &address, to).await?;
        bar.finish_and_clear();
        output.done(format!("it works in cluster {to} after {:.1} s", begun.elapsed().as_secs_f64()));
    }
    let json = json!({ "address": address.to_string(), "cluster": to, "seconds": begun.elapsed().as_secs_f64() });
    output.data(&json, address.to_string());
    Ok(())
}

/// Tries a message that there hardly is, which leaves nothing, until the cluster does not refuse the contract as such.
async fn until_it_works(chain: &Arc<Chain>, account: &Account, address: &AccountId, to: ClusterId) -> Result<()> {
    let cluster = Cluster::connect(chain.clone(), to, account.certify(chain, Scope::All, PATIENCE)).await?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let tried = cluster.rehearse(*address, None, vec![0; 4], 0, TRIED_GAS).await?;
        let refused = tried.outcome.result.err().and_then(|error| error.known());
        if !matches!(refused, Some(Code::ContractMoving | Code::ContractMoved)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Coded::new(Code::NoQuorum, format!("cluster {to} has the contract and does not let it work")).into())
}

async fn look_on(chain: &Chain, address: &AccountId, to: ClusterId, bar: &indicatif::ProgressBar) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let record = chain.placed(address).await?;
        let leaving = chain.leaving(address).await?;
        match (record.cluster == to, record.moving, leaving) {
            (true, _, None) => return Ok(()),
            (true, _, Some(from)) => bar.set_message(format!("it is there; cluster {from} lets go of it")),
            (false, Some(_), _) => {}
            (false, None, _) => return Err(Coded::new(Code::BadArgument, "somebody called the move off").into()),
        }
        tokio::time::sleep(LOOK).await;
    }
    let detail =
        format!("cluster {to} does not have it after {} minutes; it is read where it was", PATIENCE.as_secs() / 60);
    Err(Coded::new(Code::NoQuorum, detail).into())
}
