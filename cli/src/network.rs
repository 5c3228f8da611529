//! What several commands need of the network.

use crate::args::Network;
use phala_client::{Account, Chain};
use phala_primitives::{AccountId, Code, Coded, Hash};
use std::sync::Arc;

/// Connects to the chain, with the genesis pinned if the caller wants it.
pub(crate) async fn connect(network: &Network) -> Result<Arc<Chain>, Coded> {
    let genesis =
        match &network.genesis {
            None => None,
            Some(text) => Some(text.parse::<Hash>().map_err(|_| {
                Coded::new(Code::BadArgument, format!("--genesis `{text}` is no hash of 64 hex digits"))
            })?),
        };
    Ok(Arc::new(Chain::connect(&network.url, genesis).await?))
}

/// An account by name (`//Alice`) or address.
pub(crate) fn named_account(text: &str) -> Result<AccountId, Coded> {
    if text.starts_with("//") {
        return Ok(Account::from_suri(text)?.id());
    }
    text.parse().map_err(|error| Coded::new(Code::BadArgument, format!("{text}: {error}")))
}
