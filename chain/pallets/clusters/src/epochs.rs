//! How clusters begin, and how their members get from one epoch to the next.
//!
//! A cluster's log is voted on with keys that live as long as a process. So a member that restarts has no vote until
//! the chain starts a new epoch with its new key:
//!
//! 1. The worker registers its new identity (`pallet-registry`), recovers its log from disk, and calls
//!    [`rejoin`](crate::Call::rejoin) with the highest entry that it holds, its *anchor*. An anchor above the epoch's floor
//!    carries the entry's header and a certificate of the epoch's members, see [`AnchorProof`](crate::AnchorProof).
//! 2. As long as the others are a quorum, the chain plans the next epoch ([`Plan::Seal`]): they finish the log with an
//!    entry that names its members, and whoever brings that entry here ([`close`](crate::Call::close)) starts it. The entry
//!    is the new floor. The log stands still from that entry until the new epoch's members have seen its start.
//! 3. Otherwise nobody can finish the log ([`Plan::Report`]): every member, restarted or not, stops voting and rejoins.
//!    When every one has done so with the identity that it holds now, the epoch grows by one, and the log goes on above
//!    the highest anchor, the new floor.
//! 4. Who is behind the floor fetches the entries from its peers.
//!
//! Invariant: an epoch never goes back and its floor is never below that of the epoch before.
//! Invariant: a plan to seal does not change, so an epoch has one end.
//! Invariant: what a quorum finalised in an epoch is at or below the next floor. A sealed log ends at the floor by the
//! quorum's own word; otherwise all members report, of whom one honest one that took part is enough.
//!
//! How a member that never comes back is replaced: see [`members`](crate::members).

use crate::pallet::{
    Clusters, Config, Creators, Epochs, Error, Event, NextCluster, Open, Pallet, Placement, Plans, Pool, Rejoining,
};
use codec::{Decode, DecodeWithMemTracking, Encode};
use frame_support::ensure;
use pallet_registry::Pallet as Registry;
use phala_primitives::{
    AccountId, ClusterId, PublicKey,
    records::{self, Anchor, Checkpoint, ClusterRecord, Member, Plan, Seal},
};
use scale_info::TypeInfo;
use sp_runtime::{AccountId32, DispatchResult};
use std::collections::BTreeSet;

/// A member that waits for the next epoch.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Rejoined {
    /// The worker.
    pub worker: AccountId,
    /// The identity that it will vote with.
    pub identity: PublicKey,
    /// The highest entry that it holds.
    pub anchor: Anchor,
}

impl<T: Config> Pallet<T> {
    pub(crate) fn create(creator: Option<AccountId32>, workers: Vec<AccountId32>) -> DispatchResult {
        ensure!(creator.is_none() || Open::<T>::get(), Error::<T>::NotOpen);
        ensure!(matches!(workers.len(), 1 | 4..=7), Error::<T>::MemberCount);
        ensure!(workers.iter().collect::<BTreeSet<_>>().len() == workers.len(), Error::<T>::MemberCount);
        let cluster = NextCluster::<T>::get();
        let mut members = vec![];
        for worker in workers {
            ensure!(!Placement::<T>::contains_key(&worker), Error::<T>::InCluster);
            ensure!(!Self::is_barred(&worker), Error::<T>::Barred);
            let record = Registry::<T>::active_worker(&worker).ok_or(Error::<T>::NotRegistered)?;
            Placement::<T>::insert(&worker, cluster);
            Pool::<T>::remove(&worker);
            members.push(Member { worker: AccountId(worker.into()), identity: record.identity });
        }
        NextCluster::<T>::put(cluster.saturating_add(1));
        if let Some(creator) = creator {
            // If it cannot pay for that, whoever deposits first does.
            let _ = Self::open_pot(&creator, cluster);
            Creators::<T>::insert(cluster, creator);
        }
        Epochs::<T>::insert(cluster, 0, &members);
        let record = ClusterRecord {
            epoch: 0,
            members: members.clone(),
            floor: Anchor::default(),
            checkpoint: Checkpoint { alive_ms: Self::now_ms(), ..Checkpoint::default() },
            wanted: vec![],
            readers: vec![],
        };
        Clusters::<T>::insert(cluster, record);
        Self::deposit_event(Event::ClusterCreated { cluster, members });
        Ok(())
    }

    pub(crate) fn do_rejoin(
        worker: AccountId32,
        cluster: ClusterId,
        anchor: Anchor,
        proof: Option<Vec<u8>>,
    ) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        let account = AccountId(worker.clone().into());
        let seat = record.members.iter().any(|member| member.worker == account);
        ensure!(seat || record.wanted.contains(&account), Error::<T>::NotMember);
        let identity = Registry::<T>::active_worker(&worker).ok_or(Error::<T>::NotRegistered)?.identity;
        if anchor != record.floor {
            ensure!(anchor.height > record.floor.height, Error::<T>::BelowFloor);
            let proof = Self::shown(cluster, &mut record, &proof.ok_or(Error::<T>::NoProof)?, false)?;
            ensure!(proof.header.anchor() == anchor, Error::<T>::BadProof);
        }

        let mut rejoined = Rejoining::<T>::get(cluster);
        rejoined.retain(|other| other.worker != account);
        rejoined.push(Rejoined { worker: account, identity, anchor });
        Rejoining::<T>::insert(cluster, &rejoined);
        Self::deposit_event(Event::MemberRejoined { cluster, worker, anchor });
        let floor = rejoined.iter().map(|other| other.anchor).chain([record.floor]);
        let floor = floor.max_by_key(|anchor| anchor.height).unwrap_or_default();
        match Self::complete(cluster, &record) {
            Some(members) if floor.height >= record.checkpoint.anchor.height => {
                let stays = |worker: &AccountId| members.iter().any(|member| member.worker == *worker);
                let gone = record.members.iter().map(|member| member.worker).filter(|worker| !stays(worker));
                let gone: Vec<AccountId> = gone.collect();
                if !gone.is_empty() {
                    Self::deposit_event(Event::Recovered { cluster, floor, gone });
                }
                Self::start_epoch(cluster, record, members, floor);
            }
            Some(_) => {
                Self::deposit_event(Event::HistoryMissing { cluster, checkpoint: record.checkpoint, floor });
                Self::plan(cluster, &record);
            }
            None => Self::plan(cluster, &record),
        }
        Ok(())
    }

    pub(crate) fn do_close(cluster: ClusterId, proof: &[u8]) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        let Some(Plan::Seal { members }) = Plans::<T>::get(cluster) else {
            return Err(Error::<T>::NothingNew.into());
        };
        let proof = Self::shown(cluster, &mut record, proof, true)?;
        let seal = records::seal(cluster, record.epoch.saturating_add(1), &members);
        ensure!(proof.header.seal == Seal::Last(seal), Error::<T>::BadProof);
        Self::start_epoch(cluster, record, members, proof.header.anchor());
        Ok(())
    }
}
