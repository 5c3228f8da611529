//! `phala query --blame`: has the chain convict the workers whose answers were found to be made up.

use crate::output::Output;
use phala_client::{Account, Cluster};
use phala_primitives::Code;

/// After an answer turned out wrong: looks who has signed a wrong state, and brings that to the chain. What cannot be
/// proven, or brought there, is said, and is no error: the one that was found is reported anyway.
pub(crate) async fn blame(cluster: &Cluster, account: &Account, output: Output) {
    let (proofs, failed) = cluster.proofs().await;
    if let Some(error) = &failed {
        output.warn(format!("not all answers could be looked at: {error}"));
    }
    if proofs.is_empty() && failed.is_none() {
        output.warn("nobody can be blamed: no worker has signed a state that a quorum contradicts");
    }
    for (worker, proof) in proofs {
        match cluster.chain().convict(account, cluster.id(), &proof).await {
            Ok(included) => {
                output.warn(format!("worker {worker} made up a state, and was convicted in block {}", included.number));
            }
            Err(error) if error.known() == Some(Code::AlreadyConvicted) => {
                output.warn(format!("worker {worker} made up a state, and was convicted of it before"));
            }
            Err(error) => output.warn(format!("worker {worker} made up a state, but is not convicted: {error}")),
        }
    }
}
