//! In which cluster a new contract is to live, unless somebody says so.

use crate::Chain;
use phala_primitives::{AccountId, ClusterId, Code, Coded, Hash, records::contract_address};

/// Most clusters that are compared. Where there are more, it is those behind a place that depends on the salt.
const COMPARED: ClusterId = 16;

impl Chain {
    /// The cluster for a contract of this deployer, code and salt: where it is already, if it was placed before
    /// and there were no more than 16 clusters; else the one with the fewest contracts among at most 16.
    ///
    /// Errors: `NoSuchCluster` if there is none.
    pub async fn place(&self, deployer: &AccountId, code_hash: &Hash, salt: &[u8]) -> Result<ClusterId, Coded> {
        let clusters = self.clusters().await?;
        let [a, b, c, d, ..] = contract_address(deployer, 0, code_hash, salt).0;
        let first = u32::from_be_bytes([a, b, c, d]).checked_rem(clusters).ok_or(Code::NoSuchCluster)?;
        let mut best: Option<(u32, ClusterId)> = None;
        for step in 0..clusters.min(COMPARED) {
            let cluster = first.wrapping_add(step) % clusters;
            if self.contract(&contract_address(deployer, cluster, code_hash, salt)).await?.is_some() {
                return Ok(cluster);
            }
            let found = (self.population(cluster).await?, cluster);
            best = Some(best.map_or(found, |best| best.min(found)));
        }
        best.map(|(_, cluster)| cluster).ok_or_else(|| Code::NoSuchCluster.into())
    }
}
