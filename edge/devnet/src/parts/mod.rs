//! The parts of a network, each a process of its own, on whatever machines: what `phala node`, `phala worker` and
//! `phala key-service` run. They are the same parts that [`Devnet`](crate::Devnet) runs in one process.
//!
//! What they have in common is the [`Plan`], which `phala network` draws up: who the validators are and where they
//! listen, whom the genesis trusts, and who owns something in it. From it everyone gets the same genesis. Each part has a
//! secret file of its own besides: a validator its key, all others the seed of the SIMULATED machine that they run on.
//!
//! A part that ends, in order or not, is started again with the same arguments and goes on: a validator from its last
//! block, a worker with a new identity.

mod key_service;
mod plan;
mod validator;
mod worker;

pub use key_service::KeyServicePart;
pub use plan::{Plan, Secret};
pub use validator::ValidatorPart;
pub use worker::{WorkerPart, WorkerPlace};

use phala_client::Chain;
use phala_primitives::{Code, Coded, Hash};
use std::{sync::Arc, time::Duration};

/// How often something that does not answer yet is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Connects to a node, once there is one.
async fn connect(url: &str, genesis: Hash) -> Result<Arc<Chain>, Coded> {
    loop {
        match Chain::connect(url, Some(genesis)).await {
            Ok(chain) => return Ok(Arc::new(chain)),
            Err(error) if error.known() == Some(Code::NoNode) => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error),
        }
    }
}
