//! What all parts of a network agree on, and the secrets of each.

use crate::{folder, public_key};
use phala_attest::{Anchors, Provider};
use phala_consensus::Peer;
use phala_node::{Node, NodeConfig};
use phala_primitives::{Code, Coded, Hash, PublicKey};
use phala_runtime::GenesisSpec;
use phala_simtee::SimVendor;
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

const FORMAT: &str = "phala network 1";
/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Name of the plan's file.
const FILE: &str = "network.json";

/// A network, as its file tells it. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    format: String,
    /// Name of the chain.
    name: String,
    /// ed25519 key of the SIMULATED vendor of machines, in hex: the one that the genesis trusts.
    simulated_vendor: String,
    /// Who votes on the chain.
    validators: Vec<Voter>,
    /// How many accounts //Worker//0 … own something in the genesis.
    workers: u32,
}

/// One that votes on the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Voter {
    /// Its ed25519 key, in hex.
    key: String,
    /// Where the others reach it.
    address: SocketAddr,
}

/// What one part alone knows.
pub enum Secret {
    /// A validator's ed25519 seed.
    Validator(Zeroizing<[u8; 32]>),
    /// What makes a SIMULATED machine: its vendor's seed, and its own.
    Machine(Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>),
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Coded {
    Coded::new(Code::DataDir, format!("{}: {error}", path.display()))
}

fn drawn() -> Result<Zeroizing<[u8; 32]>, Coded> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| Coded::new(Code::Internal, format!("no randomness: {e}")))?;
    Ok(seed)
}

fn key(text: &str) -> Option<PublicKey> {
    let mut key = [0; 32];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut key).ok()?;
    Some(key)
}

fn hexed(key: &PublicKey) -> String {
    format!("0x{}", hex::encode(key))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Coded> {
    let size = std::fs::metadata(path).map_err(|e| unusable(path, e))?.len();
    if size > MAX_FILE {
        return Err(unusable(path, "it is too large"));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|e| unusable(path, e))
}

impl Plan {
    /// Draws up a network in a folder: `network.json`, and `secrets/` with a file for each part, mode 0600:
    /// `validator-N`, `worker-N`, `key-service`. Returns the plan and its file.
    ///
    /// Errors: `DataDir` if there is a network already.
    pub fn draw(folder: &Path, name: &str, validators: &[SocketAddr], workers: u32) -> Result<(Self, PathBuf), Coded> {
        let file = folder.join(FILE);
        if file.exists() {
            return Err(unusable(&file, "there is a network already"));
        }
        let secrets = folder.join("secrets");
        folder::make(&secrets)?;
        let write = |path: &Path, text: &str| {
            folder::write_new(path, text.as_bytes()).map_err(|e| unusable(path, e)).map(|()| path.to_owned())
        };
        let vendor = drawn()?;
        let mut voters = vec![];
        for (index, address) in validators.iter().enumerate() {
            let seed = drawn()?;
            voters.push(Voter { key: hexed(&public_key(&seed)), address: *address });
            write(&secrets.join(format!("validator-{index}")), &Secret::Validator(seed).text())?;
        }
        for part in (0..workers).map(|index| format!("worker-{index}")).chain(["key-service".into()]) {
            write(&secrets.join(part), &Secret::Machine(vendor.clone(), drawn()?).text())?;
        }
        let plan = Self {
            format: FORMAT.into(),
            name: name.into(),
            simulated_vendor: hexed(&SimVendor::from_seed(&vendor).anchor()),
            validators: voters,
            workers,
        };
        plan.genesis()?;
        let text = serde_json::to_string_pretty(&plan).map_err(|e| unusable(&file, e))?;
        write(&file, &text)?;
        Ok((plan, file))
    }

    /// Reads a plan.
    pub fn load(file: &Path) -> Result<Self, Coded> {
        let plan: Self = serde_json::from_str(&read(file)?).map_err(|e| unusable(file, e))?;
        if plan.format != FORMAT {
            return Err(Coded::new(Code::UnknownFormat, file.display().to_string()));
        }
        plan.spec().ok_or_else(|| unusable(file, "a key is not 0x and 64 hex digits"))?;
        Ok(plan)
    }

    /// The validators and where they listen.
    pub(super) fn peers(&self) -> Vec<Peer> {
        let peer = |voter: &Voter| Some(Peer { key: key(&voter.key)?, address: voter.address });
        self.validators.iter().filter_map(peer).collect()
    }

    fn spec(&self) -> Option<GenesisSpec> {
        let keys = self.validators.iter().map(|voter| key(&voter.key)).collect::<Option<Vec<_>>>()?;
        let anchors = Anchors { simulated: vec![key(&self.simulated_vendor)?] };
        Some(GenesisSpec::dev(self.name.clone(), keys, self.workers, anchors))
    }

    /// How to open a node of this network.
    pub(super) fn node(&self) -> Result<NodeConfig, Coded> {
        self.spec().map(NodeConfig::new).ok_or_else(|| Code::BadArgument.into())
    }

    /// Genesis hash of the network.
    pub fn genesis(&self) -> Result<Hash, Coded> {
        Ok(Node::open(self.node()?)?.genesis_hash())
    }
}

impl Secret {
    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Validator(seed) => format!("validator {}\n", *Zeroizing::new(hex::encode(seed.as_slice()))),
            Self::Machine(vendor, seed) => format!(
                "SIMULATED-machine {} {}\n",
                *Zeroizing::new(hex::encode(vendor.as_slice())),
                *Zeroizing::new(hex::encode(seed.as_slice()))
            ),
        })
    }

    /// Reads a part's secret.
    pub fn load(file: &Path) -> Result<Self, Coded> {
        let text = read(file)?;
        let seed = |word: Option<&str>| {
            let mut seed = Zeroizing::new([0; 32]);
            hex::decode_to_slice(word?, seed.as_mut_slice()).ok().map(|()| seed)
        };
        let mut words = text.split_whitespace();
        let secret = match words.next() {
            Some("validator") => seed(words.next()).map(Self::Validator),
            Some("SIMULATED-machine") => {
                seed(words.next()).zip(seed(words.next())).map(|(vendor, own)| Self::Machine(vendor, own))
            }
            _ => None,
        };
        secret.ok_or_else(|| Coded::new(Code::BadKey, format!("{}: not a part's secret", file.display())))
    }

    /// The validator's seed.
    pub(super) fn validator(&self) -> Result<&[u8; 32], Coded> {
        match self {
            Self::Validator(seed) => Ok(seed),
            Self::Machine(..) => Err(Coded::new(Code::BadKey, "it is the secret of a machine, not of a validator")),
        }
    }

    /// The SIMULATED machine, with this program on it.
    pub(super) fn machine(&self) -> Result<Arc<dyn Provider>, Coded> {
        match self {
            Self::Machine(vendor, seed) => {
                Ok(Arc::new(SimVendor::from_seed(vendor).machine(seed, crate::measurement())))
            }
            Self::Validator(_) => Err(Coded::new(Code::BadKey, "it is the secret of a validator, not of a machine")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_drawn_up_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let validators: Vec<SocketAddr> = ["10.0.0.1:7000", "10.0.0.2:7000"].map(|text| text.parse().unwrap()).into();
        let (plan, file) = Plan::draw(folder.path(), "Net", &validators, 3).unwrap();
        assert_eq!(Plan::load(&file).unwrap(), plan);
        assert_eq!(Plan::load(&file).unwrap().genesis().unwrap(), plan.genesis().unwrap());
        assert!(Plan::draw(folder.path(), "Net", &validators, 3).is_err());
        let secret = |name: &str| Secret::load(&folder.path().join("secrets").join(name));
        let seed = *secret("validator-1").unwrap().validator().unwrap();
        assert_eq!(public_key(&seed), plan.peers()[1].key);
        let machine = secret("worker-2").unwrap();
        assert!(machine.validator().is_err() && machine.machine().unwrap().name().contains("SIMULATED"));
        assert!(secret("key-service").unwrap().machine().is_ok() && secret("worker-3").is_err());
        std::fs::write(&file, "{}").unwrap();
        assert!(Plan::load(&file).is_err());
    }
}
