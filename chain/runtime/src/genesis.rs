//! The state before the first block.

use crate::*;
use phala_attest::Anchors;
use phala_primitives::{AccountId as PlainAccount, PHA, PublicKey, limits::MAX_MEMBERS};
use sp_core::{Pair, sr25519, storage::Storage};
use sp_runtime::BuildStorage;
use std::collections::BTreeSet;

/// What makes one network different from another: the genesis hash follows from all of it but the name.
#[derive(Clone, PartialEq, Eq, Debug, codec::Encode, codec::Decode)]
pub struct GenesisSpec {
    /// Name of the chain, for people.
    pub name: String,
    /// Whether the network holds anything of value: then nothing simulated is let in.
    pub production: bool,
    /// Whether any account may create clusters, or only root.
    pub open_clusters: bool,
    /// ed25519 keys of the validators.
    pub validators: Vec<PublicKey>,
    /// Whom the network trusts to vouch for machines.
    pub anchors: Anchors,
    /// Accounts and what they own, in the smallest unit.
    pub endowed: Vec<(PlainAccount, Balance)>,
}

/// Why there is no genesis of a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A production chain names simulated vendors.
    #[error("a production chain cannot trust simulated machines")]
    SimulatedAnchors,
    /// None, too many or repeated validators.
    #[error("a chain has between 1 and {MAX_MEMBERS} different validators")]
    Validators,
    /// An account is named twice or owns less than the existential deposit.
    #[error("an account is endowed twice or with less than the existential deposit")]
    Endowed,
    /// A pallet refused.
    #[error("genesis: {0}")]
    Build(String),
}

impl GenesisSpec {
    /// A network for development: //Alice … //Ferdie own 1,000,000 PHA each, and `workers` accounts //Worker//0 …
    /// enough for their fees; anyone may create clusters.
    pub fn dev(name: impl Into<String>, validators: Vec<PublicKey>, workers: u32, anchors: Anchors) -> Self {
        let people = ["Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie"]
            .into_iter()
            .map(|name| (dev_account(&format!("//{name}")), 1_000_000 * PHA));
        let machines = (0..workers).map(|index| (dev_account(&format!("//Worker//{index}")), 1_000 * PHA));
        let endowed = people.chain(machines).filter_map(|(account, balance)| Some((account?, balance))).collect();
        Self { name: name.into(), production: false, open_clusters: true, validators, anchors, endowed }
    }

    fn check(&self) -> Result<(), GenesisError> {
        if self.production && !self.anchors.simulated.is_empty() {
            return Err(GenesisError::SimulatedAnchors);
        }
        let different = self.validators.iter().collect::<BTreeSet<_>>().len();
        if different != self.validators.len() || different == 0 || different > MAX_MEMBERS as usize {
            return Err(GenesisError::Validators);
        }
        let accounts = self.endowed.iter().map(|(account, _)| account).collect::<BTreeSet<_>>().len();
        if accounts != self.endowed.len() || self.endowed.iter().any(|(_, balance)| *balance < EXISTENTIAL_DEPOSIT) {
            return Err(GenesisError::Endowed);
        }
        Ok(())
    }
}

/// The sr25519 account of a secret such as `//Alice`, derived from the well-known development phrase.
pub fn dev_account(uri: &str) -> Option<PlainAccount> {
    Some(PlainAccount(sr25519::Pair::from_string(uri, None).ok()?.public().0))
}

/// Storage of the genesis block.
pub fn genesis(spec: &GenesisSpec) -> Result<Storage, GenesisError> {
    spec.check()?;
    let balances = spec.endowed.iter().map(|(account, balance)| (AccountId::new(account.0), *balance)).collect();
    let config = RuntimeGenesisConfig {
        balances: pallet_balances::GenesisConfig { balances, ..Default::default() },
        registry: pallet_registry::GenesisConfig {
            validators: spec.validators.clone(),
            anchors: spec.anchors.clone(),
            production: spec.production,
            ..Default::default()
        },
        clusters: pallet_clusters::GenesisConfig { open: spec.open_clusters, ..Default::default() },
        ..Default::default()
    };
    config.build_storage().map_err(GenesisError::Build)
}
