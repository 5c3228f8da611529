//! What contracts of the cluster may use: kept in the state, changed by [`Action::Policy`] in the log.
//!
//! [`Action::Policy`]: phala_session::Action::Policy

use crate::{
    Replica, Ticket,
    layout::{POLICY, read},
};
use codec::Encode;
use phala_primitives::{ClusterPolicy, Coded, Fact, blake2_256};
use phala_session::Action;

impl Replica {
    /// What contracts may use now.
    pub fn policy(&self) -> Result<ClusterPolicy, Coded> {
        Ok(read(&self.state.snapshot(), &POLICY, &[])?.unwrap_or_default())
    }

    /// Brings the cluster what the chain says that contracts may use. The ticket resolves when it was executed, whether
    /// or not it was news.
    pub fn follow_policy(&self, proof: Fact, now_ms: u64) -> Result<Ticket, Coded> {
        let name = ("phala/follow-policy/v1", blake2_256(&proof.encode()), now_ms);
        self.command(&name, Action::Policy { proof }, now_ms)
    }
}
