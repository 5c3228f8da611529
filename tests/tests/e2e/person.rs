//! Somebody with an account, and the two contracts that come with the repository, called by hand.

use crate::harness::{Net, fixture};
use codec::{Decode, DecodeAll, Encode};
use phala_client::{Account, Chain, Cluster, Contract, Executed, Freshness, Scope};
use phala_primitives::{AccountId, ClusterId, Code, Coded, Hash};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Gas for any honest call.
pub(crate) const GAS: u64 = 1_000_000_000;

/// An account and its view of the network.
pub(crate) struct Person {
    pub(crate) account: Account,
    pub(crate) cluster: Arc<Cluster>,
}

impl Person {
    /// Connects to the first cluster, with the genesis pinned.
    pub(crate) async fn new(name: &str, url: &str, genesis: Hash) -> Self {
        Self::with_cluster(name, url, genesis, 0).await
    }

    /// The same with any cluster.
    pub(crate) async fn with_cluster(name: &str, url: &str, genesis: Hash, cluster: ClusterId) -> Self {
        let account = Account::from_suri(&format!("//{name}")).unwrap();
        let chain = Arc::new(Chain::connect(url, Some(genesis)).await.unwrap());
        let credentials = account.certify(&chain, Scope::All, Duration::from_secs(3600));
        Self { account, cluster: Cluster::connect(chain, cluster, credentials).await.unwrap() }
    }

    /// Connects to a running network.
    pub(crate) async fn at(name: &str, net: &Net) -> Self {
        Self::new(name, net.rpc(), net.genesis().parse().unwrap()).await
    }

    /// Deploys code as it is.
    pub(crate) async fn deploy(&self, code: Vec<u8>, data: Vec<u8>) -> Result<Contract, Coded> {
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).unwrap();
        let (contract, executed) = Contract::deploy(&self.cluster, &self.account, code, salt, data, GAS).await?;
        if executed.outcome.result?.reverted() {
            return Err(Code::Reverted.into());
        }
        Ok(contract)
    }

    /// Deploys the flipper, which says `true`.
    pub(crate) async fn deploy_flipper(&self) -> Contract {
        self.deploy(code("flipper.contract"), flipper::NEW_TRUE.to_vec()).await.unwrap()
    }

    /// Deploys a token whose supply this account owns.
    pub(crate) async fn deploy_token(&self, supply: u128) -> Contract {
        self.deploy(code("psp22.contract"), token::new(supply)).await.unwrap()
    }
}

fn parsed(bundle: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(bundle)).unwrap()).unwrap()
}

fn unhex(text: &Value) -> Vec<u8> {
    hex::decode(text.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

/// The code in a bundle.
pub(crate) fn code(bundle: &str) -> Vec<u8> {
    unhex(&parsed(bundle)["source"]["wasm"])
}

/// Selector and arguments of a constructor or message in a bundle.
pub(crate) fn input(bundle: &str, label: &str, arguments: impl Encode) -> Vec<u8> {
    let spec = &parsed(bundle)["spec"];
    let mut all = ["constructors", "messages"].iter().flat_map(|list| spec[list].as_array().unwrap());
    let entry = all.find(|entry| entry["label"] == label).unwrap();
    [unhex(&entry["selector"]), arguments.encode()].concat()
}

/// What a message returned, out of ink!'s own `Result`.
pub(crate) fn answer<T: Decode>(data: &[u8]) -> T {
    assert_eq!(data.first(), Some(&0), "no answer of a message: {data:?}");
    T::decode_all(&mut &data[1..]).unwrap()
}

/// The code of a failed call, for comparison.
pub(crate) fn code_of<T: std::fmt::Debug>(result: Result<T, Coded>) -> Code {
    let error = result.expect_err("it must be refused");
    error.known().unwrap_or_else(|| panic!("{error}"))
}

/// What a command came to.
pub(crate) fn outcome(executed: Executed) -> Result<Vec<u8>, Coded> {
    let output = executed.outcome.result?;
    if output.reverted() {
        return Err(Code::Reverted.into());
    }
    Ok(output.data)
}

/// Calls of the flipper.
pub(crate) mod flipper {
    pub(crate) const NEW_TRUE: [u8; 5] = [0x9b, 0xae, 0x9d, 0x5e, 1];
    pub(crate) const FLIP: [u8; 4] = [0x63, 0x3a, 0xa5, 0x51];
    pub(crate) const GET: [u8; 4] = [0x2f, 0x86, 0x5b, 0xd9];

    /// The bit in an answer to [`GET`].
    pub(crate) fn bit(answer: &[u8]) -> bool {
        match answer {
            [0, bit @ (0 | 1)] => *bit == 1,
            _ => panic!("no answer of a flipper: {answer:?}"),
        }
    }
}

/// Calls of the token.
pub(crate) mod token {
    use super::{AccountId, Contract, Decode, Encode, Freshness};

    /// Its constructor.
    pub(crate) fn new(supply: u128) -> Vec<u8> {
        ([0x9bu8, 0xae, 0x9d, 0x5e], supply, Some("Gold"), Some("GLD"), 12u8).encode()
    }

    /// A transfer.
    pub(crate) fn transfer(to: &AccountId, value: u128) -> Vec<u8> {
        ([0xdbu8, 0x20, 0xf9, 0xf5], to, value, Vec::<u8>::new()).encode()
    }

    /// The question after a balance.
    pub(crate) fn balance_of(owner: &AccountId) -> Vec<u8> {
        ([0x65u8, 0x68, 0x38, 0x2f], owner).encode()
    }

    /// The balance in an answer.
    pub(crate) fn amount(answer: &[u8]) -> u128 {
        assert_eq!((answer.len(), answer[0]), (17, 0), "no answer of a token: {answer:?}");
        u128::decode(&mut &answer[1..]).unwrap()
    }

    /// Whether a transfer was done.
    pub(crate) fn transferred(answer: &[u8]) -> bool {
        answer == [0, 0]
    }

    /// What an account owns, with all that was acknowledged to anyone.
    pub(crate) async fn balance(token: &Contract, owner: &AccountId) -> u128 {
        let asked = token.cluster().query_fresh(token.address(), balance_of(owner), 0, Freshness::Linearizable).await;
        amount(&asked.unwrap().output.data)
    }
}
