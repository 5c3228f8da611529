//! Who the members of a cluster are, and how others take their place.
//!
//! A worker without a seat [offers](crate::Call::offer) itself to the pool. A cluster gets other members
//! - when a quorum of its members [accuses](crate::Call::accuse) one of silence, each within [`ACCUSATION_LIFE`] blocks,
//! - when one is [convicted](crate::Call::convict) of worse,
//! - when a worker is to be [drained](crate::Call::drain), as its operator or the cluster's creator says,
//! - when its creator [resizes](crate::Call::resize) it.
//!
//! The chain then *wants* members: those that stay, and workers of the pool, which of them nobody chooses. The new ones
//! get the cluster's keys and fetch its log from the members, while the cluster serves. Once each has reported
//! ([`rejoin`](crate::Call::rejoin)), the next epoch is planned with them. Who has not after [`PATIENCE`] blocks loses
//! its place when the cluster gets other members the next time; an offer counts for [`OFFER_LIFE`] blocks.
//!
//! A cluster of which more than can be faulty are gone makes no entries, and shows none to the chain. When the chain has
//! seen none for as long as the policy says, and for [`GRACE`] blocks after somebody remarked it, it *recovers* the cluster
//! without those that are accused and give no sign of life on the chain, neither a report nor an accusation: the
//! others report what they hold, workers of the pool
//! take the free places, and the next epoch begins at the highest entry that was reported, never below the checkpoint.
//! What was above it is lost, and clients that know of it are told (`client/rust`). Members that merely lost sight of
//! the chain have stopped to answer long before, so nobody is told anything that is lost this way.
//!
//! A cluster may have *readers* besides: workers of the pool that get its keys, follow its log by what each entry changed,
//! and answer queries. They have no vote, and nobody waits for them. Its creator says how many there are
//! ([`set_readers`](crate::Call::set_readers)). One that is drained is replaced if somebody is idle, one that a quorum of
//! members accuses as soon as somebody is.
//!
//! Invariant: a worker has at most one place: in the pool, or in one cluster as a member, wanted as one, or a reader.
//! Invariant: of the members of an epoch, more than can be faulty stay in the next, unless it is recovered.

use crate::{
    epochs::Rejoined,
    limits::{ACCUSATION_LIFE, GRACE, MAX_POOL, OFFER_LIFE, PATIENCE},
    pallet::{
        Accusations, Clusters, Config, Creators, Epochs, Error, Event, Pallet, Placement, Plans, Policies, Pool,
        Rejoining, StuckSince, WantedSince,
    },
};
use codec::{Decode, Encode};
use frame_support::{ensure, traits::UnixTime};
use pallet_registry::Pallet as Registry;
use phala_primitives::{
    AccountId, ClusterId, blake2_256,
    limits::MAX_READERS,
    quorum,
    records::{Anchor, ClusterRecord, Member, Plan},
};
use scale_info::TypeInfo;
use sp_runtime::{AccountId32, DispatchResult, SaturatedConversion};
use std::collections::BTreeSet;

/// What a member says of a worker that does not answer it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, TypeInfo)]
pub struct Accusation {
    /// Who is silent.
    pub accused: AccountId,
    /// Who says so.
    pub by: AccountId,
    /// The block in which it was said last.
    pub at: u32,
}

fn plain(worker: &AccountId32) -> AccountId {
    AccountId(worker.clone().into())
}

fn account(worker: &AccountId) -> AccountId32 {
    AccountId32::new(worker.0)
}

impl<T: Config> Pallet<T> {
    /// Puts a worker into the pool.
    pub(crate) fn do_offer(worker: AccountId32) -> DispatchResult {
        ensure!(Registry::<T>::active_worker(&worker).is_some(), Error::<T>::NotRegistered);
        ensure!(!Placement::<T>::contains_key(&worker), Error::<T>::InCluster);
        ensure!(!Self::is_barred(&worker), Error::<T>::Barred);
        ensure!(Pool::<T>::count() < MAX_POOL || Pool::<T>::contains_key(&worker), Error::<T>::PoolFull);
        Pool::<T>::insert(&worker, Self::now());
        Self::deposit_event(Event::WorkerOffered { worker });
        Ok(())
    }

    pub(crate) fn do_accuse(by: AccountId32, cluster: ClusterId, worker: AccountId) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        let is_member = |who: &AccountId| record.members.iter().any(|member| member.worker == *who);
        let accuser = plain(&by);
        let reader = record.readers.iter().position(|reader| *reader == worker);
        let is_accusable = is_member(&worker) || reader.is_some();
        ensure!(is_member(&accuser) && is_accusable && accuser != worker, Error::<T>::NotMember);
        let mut accusations = Self::accusations(cluster);
        match accusations.iter_mut().find(|other| other.accused == worker && other.by == accuser) {
            Some(known) => known.at = Self::now(),
            None => {
                accusations.push(Accusation { accused: worker, by: accuser, at: Self::now() });
                Self::deposit_event(Event::MemberAccused { cluster, worker, by });
            }
        }
        Accusations::<T>::insert(cluster, &accusations);
        let accusers = accusations.iter().filter(|other| other.accused == worker).count();
        let condemned = accusers >= quorum(record.members.len());
        let barred = Self::is_barred_member(&worker);
        if let Some(at) = reader {
            let all = record.readers.len();
            if condemned || barred {
                Self::fill_readers(cluster, &mut record, all.saturating_add(1));
            }
            // There may be nobody to take its place. The next accusation tries again.
            if record.readers.len() > all {
                Self::remove_reader(cluster, &mut record, at);
            }
            return Ok(());
        }
        let leaves = !record.wanted.is_empty() && !record.wanted.contains(&worker);
        // Who has reported waits for the others, as the accuser may.
        let waits = Self::has_reported(cluster, &worker);
        let goes = barred || (condemned && !waits);
        if goes && (!leaves || Self::is_late(cluster)) {
            // Here, too, the next accusation tries again.
            let _ = Self::expel(cluster, &mut record, &worker);
        } else {
            Self::recover(cluster, &mut record);
        }
        Ok(())
    }

    /// Gives the place of a worker, present or promised, to one of the pool.
    pub(crate) fn expel(cluster: ClusterId, record: &mut ClusterRecord, worker: &AccountId) -> Result<(), Error<T>> {
        let least = Self::faulty(record).saturating_add(1);
        Self::want(cluster, record, &[*worker], least)
    }

    /// Has a cluster that stands still go on without the members that are silent, if it cannot with them.
    fn recover(cluster: ClusterId, record: &mut ClusterRecord) {
        let reporting = Plans::<T>::get(cluster) == Some(Plan::Report);
        let silent = Self::silent(cluster, record);
        let alive = record.members.len().saturating_sub(silent.len());
        let stuck = reporting || alive < quorum(record.members.len());
        let known = reporting && !record.wanted.is_empty() && !Self::is_late(cluster);
        if silent.is_empty() || !stuck || known || !Self::stands_still(cluster, record) {
            return;
        }
        // It may be the chain that stood still: everyone gets the time to say that they live.
        let Some(since) = StuckSince::<T>::get(cluster) else {
            StuckSince::<T>::insert(cluster, Self::now());
            return;
        };
        if Self::now() < since.saturating_add(GRACE) {
            return;
        }
        // There may be nobody to take their places. The next accusation tries again.
        if Self::want(cluster, record, &silent, 1).is_ok() && !reporting {
            Plans::<T>::insert(cluster, Plan::Report);
            Self::deposit_event(Event::EpochPlanned { cluster, plan: Plan::Report });
        }
    }

    /// What was said in this epoch and still counts.
    fn accusations(cluster: ClusterId) -> Vec<Accusation> {
        let mut accusations = Accusations::<T>::get(cluster);
        accusations.retain(|said| Self::now() <= said.at.saturating_add(ACCUSATION_LIFE));
        accusations
    }

    /// Members that are accused and give no sign of life on the chain.
    fn silent(cluster: ClusterId, record: &ClusterRecord) -> Vec<AccountId> {
        let accusations = Self::accusations(cluster);
        let silent = |worker: &AccountId| {
            accusations.iter().any(|said| said.accused == *worker)
                && !accusations.iter().any(|said| said.by == *worker)
                && !Self::has_reported(cluster, worker)
        };
        record.members.iter().map(|member| member.worker).filter(silent).collect()
    }

    /// Whether the chain was shown no entry of a cluster for as long as its policy says.
    pub(crate) fn stands_still(cluster: ClusterId, record: &ClusterRecord) -> bool {
        let patience = Policies::<T>::get(cluster).unwrap_or_default().recover_ms;
        Self::now_ms() > record.checkpoint.alive_ms.saturating_add(patience)
    }

    fn faulty(record: &ClusterRecord) -> usize {
        record.members.len().saturating_sub(quorum(record.members.len()))
    }

    pub(crate) fn do_drain(caller: Option<AccountId32>, cluster: ClusterId, worker: AccountId) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        let own = caller.as_ref().is_some_and(|caller| plain(caller) == worker);
        ensure!(own || Self::rules(&caller, cluster), Error::<T>::NotCreator);
        if let Some(at) = record.readers.iter().position(|reader| *reader == worker) {
            Self::replace_reader(cluster, &mut record, at);
            return Ok(());
        }
        ensure!(record.members.iter().any(|member| member.worker == worker), Error::<T>::NotMember);
        let least = Self::faulty(&record).saturating_add(1);
        Self::want(cluster, &mut record, &[worker], least)?;
        Ok(())
    }

    /// Takes the place of the reader at this position away, and gives it to a worker of the pool, if there is one.
    pub(crate) fn replace_reader(cluster: ClusterId, record: &mut ClusterRecord, at: usize) {
        let more = record.readers.len().saturating_add(1);
        Self::fill_readers(cluster, record, more);
        Self::remove_reader(cluster, record, at);
    }

    /// Takes the place of the reader at this position away. What was said of it is forgotten.
    fn remove_reader(cluster: ClusterId, record: &mut ClusterRecord, at: usize) {
        let reader = record.readers.remove(at);
        Accusations::<T>::mutate(cluster, |said| said.retain(|other| other.accused != reader));
        Placement::<T>::remove(account(&reader));
        Self::keep_readers(cluster, record);
    }

    pub(crate) fn do_resize(caller: Option<AccountId32>, cluster: ClusterId, size: u32) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        ensure!(Self::rules(&caller, cluster), Error::<T>::NotCreator);
        ensure!(matches!(size, 4..=7) && record.members.len() >= 4, Error::<T>::MemberCount);
        let least = Self::faulty(&record).saturating_add(1);
        Self::want_size(cluster, &mut record, &[], size as usize, least)?;
        Ok(())
    }

    pub(crate) fn do_set_readers(caller: Option<AccountId32>, cluster: ClusterId, count: u32) -> DispatchResult {
        let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
        ensure!(Self::rules(&caller, cluster), Error::<T>::NotCreator);
        let count = count as usize;
        ensure!(count <= MAX_READERS, Error::<T>::TooManyReaders);
        while record.readers.len() > count {
            if let Some(reader) = record.readers.pop() {
                Placement::<T>::remove(account(&reader));
            }
        }
        Self::fill_readers(cluster, &mut record, count);
        ensure!(record.readers.len() == count, Error::<T>::NobodyIdle);
        Self::keep_readers(cluster, &record);
        Ok(())
    }

    /// Takes workers of the pool as readers, up to so many.
    fn fill_readers(cluster: ClusterId, record: &mut ClusterRecord, count: usize) {
        let mut idle = Self::idle(cluster, record.epoch);
        while record.readers.len() < count
            && let Some(worker) = idle.pop()
        {
            Pool::<T>::remove(account(&worker));
            Placement::<T>::insert(account(&worker), cluster);
            record.readers.push(worker);
        }
    }

    fn keep_readers(cluster: ClusterId, record: &ClusterRecord) {
        Clusters::<T>::insert(cluster, record);
        Self::deposit_event(Event::ReadersChanged { cluster, workers: record.readers.clone() });
    }

    fn rules(caller: &Option<AccountId32>, cluster: ClusterId) -> bool {
        caller.is_none() || *caller == Creators::<T>::get(cluster)
    }

    /// Wants as many members as there are, without those that go; at least so many have to stay. If the pool is empty, a
    /// larger cluster becomes smaller.
    fn want(cluster: ClusterId, record: &mut ClusterRecord, go: &[AccountId], least: usize) -> Result<(), Error<T>> {
        Self::want_size(cluster, record, go, record.members.len(), least)
    }

    /// Wants `size` members: those that stay first, then workers of the pool.
    fn want_size(
        cluster: ClusterId,
        record: &mut ClusterRecord,
        go: &[AccountId],
        size: usize,
        least: usize,
    ) -> Result<(), Error<T>> {
        let now: Vec<AccountId> = record.members.iter().map(|member| member.worker).collect();
        // Who was about to leave leaves, and who was about to come still comes, unless it takes too long.
        let base: Vec<AccountId> = if record.wanted.is_empty() { now.clone() } else { record.wanted.clone() };
        let late = Self::is_late(cluster);
        let comes = |worker: &AccountId| !late || Self::is_ready(cluster, record, worker);
        let mut next: Vec<AccountId> =
            base.into_iter().filter(|worker| !go.contains(worker) && comes(worker)).collect();
        next.sort_by_key(|worker| !now.contains(worker));
        next.truncate(size);
        let mut idle = Self::idle(cluster, record.epoch);
        while next.len() < size {
            match idle.pop() {
                Some(worker) => next.push(worker),
                None if !go.is_empty() && next.len() >= 4 => break,
                None => return Err(Error::<T>::NobodyIdle),
            }
        }
        let stay = now.iter().filter(|member| next.contains(member)).count();
        ensure!(stay >= least, Error::<T>::TooManyLeave);
        for worker in next.iter().filter(|worker| !now.contains(worker)) {
            Pool::<T>::remove(account(worker));
            Placement::<T>::insert(account(worker), cluster);
        }
        for worker in record.wanted.iter().filter(|worker| !now.contains(worker) && !next.contains(worker)) {
            Placement::<T>::remove(account(worker));
        }
        record.wanted = next;
        Clusters::<T>::insert(cluster, &*record);
        WantedSince::<T>::insert(cluster, Self::now());
        Self::deposit_event(Event::MembersWanted { cluster, workers: record.wanted.clone() });
        Self::plan(cluster, record);
        Ok(())
    }

    /// Workers of the pool that are registered, in an order that nobody chooses.
    fn idle(cluster: ClusterId, epoch: u64) -> Vec<AccountId> {
        let parent = frame_system::Pallet::<T>::parent_hash();
        let fresh = |(worker, since): (AccountId32, u32)| {
            let counts = Self::now() <= since.saturating_add(OFFER_LIFE);
            (counts && Registry::<T>::active_worker(&worker).is_some()).then_some(worker)
        };
        let mut idle: Vec<AccountId32> = Pool::<T>::iter().filter_map(fresh).collect();
        idle.sort_by_key(|worker| blake2_256(&codec::Encode::encode(&(&parent, cluster, epoch, worker))));
        idle.iter().map(plain).collect()
    }

    /// The worker as a member with the identity that it has now.
    fn present(worker: &AccountId) -> Option<Member> {
        let current = Registry::<T>::active_worker(&account(worker))?;
        Some(Member { worker: *worker, identity: current.identity })
    }

    /// Whether a wanted worker holds the log: it is a member, or has reported with the identity that it has now.
    fn is_ready(cluster: ClusterId, record: &ClusterRecord, worker: &AccountId) -> bool {
        record.members.iter().any(|member| member.worker == *worker) || Self::has_reported(cluster, worker)
    }

    /// Whether a worker has reported with the identity that it has now.
    fn has_reported(cluster: ClusterId, worker: &AccountId) -> bool {
        let present = Self::present(worker).map(|member| member.identity);
        let reported = |other: &Rejoined| other.worker == *worker && Some(other.identity) == present;
        Rejoining::<T>::get(cluster).iter().any(reported)
    }

    /// The members of the next epoch once all have reported: those of the present one; or, of a cluster that stands
    /// still, those that are wanted.
    pub(crate) fn complete(cluster: ClusterId, record: &ClusterRecord) -> Option<Vec<Member>> {
        let all = |workers: &[AccountId]| {
            let reported = |worker| Self::present(worker).filter(|_| Self::has_reported(cluster, worker));
            workers.iter().map(reported).collect::<Option<Vec<Member>>>()
        };
        let members: Vec<AccountId> = record.members.iter().map(|member| member.worker).collect();
        all(&members).or_else(|| {
            let reporting = Plans::<T>::get(cluster) == Some(Plan::Report);
            let recovers = reporting && !record.wanted.is_empty() && Self::stands_still(cluster, record);
            recovers.then(|| all(&record.wanted)).flatten()
        })
    }

    /// Whether the workers that a cluster is to get have had time enough to fetch its log.
    fn is_late(cluster: ClusterId) -> bool {
        WantedSince::<T>::get(cluster).is_some_and(|since| Self::now() > since.saturating_add(PATIENCE))
    }

    pub(crate) fn now_ms() -> u64 {
        u64::try_from(<T as pallet_registry::Config>::Time::now().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now() -> u32 {
        frame_system::Pallet::<T>::block_number().saturated_into()
    }

    /// The members of the next epoch as things stand: those that are wanted, once all that are new hold the log.
    fn next_members(cluster: ClusterId, record: &ClusterRecord) -> Vec<Member> {
        let change =
            !record.wanted.is_empty() && record.wanted.iter().all(|worker| Self::is_ready(cluster, record, worker));
        let now =
            || record.members.iter().map(|member| Self::present(&member.worker).unwrap_or_else(|| member.clone()));
        if !change {
            return now().collect();
        }
        let mut wanted: Vec<Member> = now().filter(|member| record.wanted.contains(&member.worker)).collect();
        let new = record.wanted.iter().filter(|worker| !record.members.iter().any(|member| member.worker == **worker));
        wanted.extend(new.filter_map(Self::present));
        wanted
    }

    /// Plans the next epoch, if there is to be one. A plan to seal stays as it is: members may have followed it.
    pub(crate) fn plan(cluster: ClusterId, record: &ClusterRecord) {
        let members = Self::next_members(cluster, record);
        let anew = record
            .members
            .iter()
            .filter(|member| Self::present(&member.worker).is_some_and(|now| now.identity != member.identity));
        let left = record.members.len().saturating_sub(anew.count());
        let plan = match Plans::<T>::get(cluster) {
            _ if members == record.members => return,
            _ if left < quorum(record.members.len()) => Plan::Report,
            Some(_) => return,
            None => Plan::Seal { members },
        };
        if Plans::<T>::get(cluster).as_ref() != Some(&plan) {
            Plans::<T>::insert(cluster, &plan);
            Self::deposit_event(Event::EpochPlanned { cluster, plan });
        }
    }

    /// Begins the next epoch: with these members, above this entry.
    pub(crate) fn start_epoch(cluster: ClusterId, mut record: ClusterRecord, members: Vec<Member>, floor: Anchor) {
        let epoch = record.epoch.saturating_add(1);
        (record.epoch, record.floor) = (epoch, floor);
        record.checkpoint.alive_ms = Self::now_ms();
        Self::seat(cluster, &mut record, members);
        Epochs::<T>::insert(cluster, epoch, &record.members);
        Clusters::<T>::insert(cluster, &record);
        Plans::<T>::remove(cluster);
        Self::deposit_event(Event::EpochStarted { cluster, epoch, floor });
        // Who started once more since the epoch was planned waits for the one after it.
        let mut rejoined = Rejoining::<T>::take(cluster);
        rejoined.retain(|other| {
            Self::present(&other.worker).is_some_and(|now| now.identity == other.identity)
                && !record.members.iter().any(|member| member.identity == other.identity)
        });
        if !rejoined.is_empty() {
            Rejoining::<T>::insert(cluster, rejoined);
        }
        Self::plan(cluster, &record);
    }

    /// Gives the members of a new epoch their seats, and those of the one before that are not among them up. What was
    /// wanted is, or still to come.
    fn seat(cluster: ClusterId, record: &mut ClusterRecord, members: Vec<Member>) {
        let workers: BTreeSet<AccountId> = members.iter().map(|member| member.worker).collect();
        for member in record.members.iter().filter(|member| !workers.contains(&member.worker)) {
            Placement::<T>::remove(account(&member.worker));
        }
        if record.wanted.iter().copied().collect::<BTreeSet<_>>() == workers {
            record.wanted.clear();
            WantedSince::<T>::remove(cluster);
        }
        Accusations::<T>::remove(cluster);
        StuckSince::<T>::remove(cluster);
        record.members = members;
    }
}
