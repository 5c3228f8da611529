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
use phala_state::Snapshot;

/// The policy that a state holds.
pub(crate) fn of(snapshot: &Snapshot) -> Result<ClusterPolicy, Coded> {
    Ok(read(snapshot, &POLICY, &[])?.unwrap_or_default())
}

impl Replica {
    /// What contracts may use now.
    pub fn policy(&self) -> Result<ClusterPolicy, Coded> {
        of(&self.state.snapshot())
    }

    /// Brings the cluster what the chain says that contracts may use. The ticket resolves when it was executed, whether
    /// or not it was news.
    pub fn follow_policy(&self, proof: Fact, now_ms: u64) -> Result<Ticket, Coded> {
        let name = ("phala/follow-policy/v1", blake2_256(&proof.encode()), now_ms);
        self.command(&name, Action::Policy { proof }, now_ms)
    }
}
