//! Clusters and their epochs, contract code and contracts.
//!
//! How the epochs of a cluster follow each other: see [`epochs`].
//!
//! # Code and contracts
//! The chain keeps who may do what, not the bytes: [`upload_code`](Call::upload_code) holds a deposit for a code hash,
//! [`create_contract`](Call::create_contract) gives a contract its cluster and its address. Code that a contract was
//! created with stays. The code of a contract that was created as upgradable can be replaced ([`upgrade`]).
//!
//! A contract can go to another cluster: see [`moves`].
//!
//! # Policy
//! Who created a cluster, or root, sets what its contracts may use: [`set_policy`](Call::set_policy).
//!
//! # Money and messages
//! See [`bridge`]; for events of the chain that contracts want, [`watches`].
//!
//! # Misbehaviour
//! Whoever is proven to have voted against itself or to have made up a result loses its seat: [`convict`](Call::convict).

mod anchor;
mod blame;
pub mod bridge;
mod contracts;
mod epochs;
mod limits;
mod members;
mod moves;
mod policy;
mod upgrade;
mod watches;
mod weights;

pub use anchor::AnchorProof;
pub use epochs::Rejoined;
pub use limits::*;
pub use members::Accusation;
pub use pallet::*;
pub use watches::{Filter, Kind, MAX_FILTER, MAX_TOLD, MAX_WATCHERS, MAX_WATCHES, Watch};

// The macros of FRAME generate items without documentation.
#[allow(missing_docs)]
#[frame_support::pallet]
pub mod pallet {
    use crate::{
        bridge::DispatchFee,
        epochs::Rejoined,
        limits::SPAN,
        members::Accusation,
        watches::{Filter, Kind, Watch},
        weights::{PAYMENT, POOL, REJOIN, SMALL, delivery_weight},
    };
    use frame_support::{
        pallet_prelude::*,
        traits::{
            Contains,
            fungible::{Inspect, Mutate, MutateHold},
        },
    };
    use frame_system::pallet_prelude::*;
    use phala_primitives::{
        AccountId, Balance, ClusterId, ClusterPolicy, Hash,
        bridge::{BridgeRecord, Letter, Outbound, Undelivered},
        records::{
            Anchor, Checkpoint, ClusterRecord, CodeRecord, ContractRecord, ConvictionRecord, Member, Offence, Plan,
        },
    };
    use sp_runtime::AccountId32;

    #[pallet::pallet]
    #[pallet::without_storage_info]
    pub struct Pallet<T>(_);

    #[pallet::config]
    pub trait Config: frame_system::Config + pallet_registry::Config {
        /// What holds deposits.
        type Currency: Inspect<AccountId32, Balance = Balance>
            + Mutate<AccountId32>
            + MutateHold<AccountId32, Reason = Self::RuntimeHoldReason>;
        /// Calls that contracts may have dispatched, by themselves or in a batch.
        type DispatchFilter: Contains<<Self as frame_system::Config>::RuntimeCall>;
        /// What they pay for it.
        type DispatchFee: DispatchFee;
        /// Reason of a hold, of any pallet.
        type RuntimeHoldReason: From<HoldReason>;
        /// Held for each code.
        #[pallet::constant]
        type CodeDeposit: Get<Balance>;
        /// Held for each byte of a code.
        #[pallet::constant]
        type CodeDepositPerByte: Get<Balance>;
        /// Held as long as a contract watches a kind of event.
        #[pallet::constant]
        type WatchDeposit: Get<Balance>;
    }

    /// Why this pallet holds money.
    #[pallet::composite_enum]
    pub enum HoldReason {
        /// Code is stored.
        CodeDeposit,
        /// A contract is told of events.
        Watch,
    }

    /// Clusters in their present epoch.
    #[pallet::storage]
    pub type Clusters<T> = StorageMap<_, Blake2_128Concat, ClusterId, ClusterRecord>;

    /// Number of the next cluster.
    #[pallet::storage]
    pub type NextCluster<T> = StorageValue<_, ClusterId, ValueQuery>;

    /// Members of every epoch of every cluster, so that old certificates can be checked.
    #[pallet::storage]
    pub type Epochs<T> =
        StorageDoubleMap<_, Blake2_128Concat, ClusterId, Blake2_128Concat, u64, Vec<Member>, OptionQuery>;

    /// Members that wait for the next epoch of their cluster.
    #[pallet::storage]
    pub type Rejoining<T> = StorageMap<_, Blake2_128Concat, ClusterId, Vec<Rejoined>, ValueQuery>;

    /// How clusters get to their next epoch, while one is wanted.
    #[pallet::storage]
    pub type Plans<T> = StorageMap<_, Blake2_128Concat, ClusterId, Plan>;

    /// The cluster that a worker is in.
    #[pallet::storage]
    pub type Placement<T> = StorageMap<_, Blake2_128Concat, AccountId32, ClusterId>;

    /// Workers without a seat that wait for one, and the block in which they last said so.
    #[pallet::storage]
    pub type Pool<T> = CountedStorageMap<_, Blake2_128Concat, AccountId32, u32>;

    /// The block since which a cluster is to have other members.
    #[pallet::storage]
    pub type WantedSince<T> = StorageMap<_, Blake2_128Concat, ClusterId, u32>;

    /// Who says of whom, in a cluster's present epoch, that it does not answer. Old ones are dropped with the next.
    #[pallet::storage]
    pub type Accusations<T> = StorageMap<_, Blake2_128Concat, ClusterId, Vec<Accusation>, ValueQuery>;

    /// The block in which it was remarked that a cluster stands still.
    #[pallet::storage]
    pub type StuckSince<T> = StorageMap<_, Blake2_128Concat, ClusterId, u32>;

    /// Workers that were proven to be faulty or hostile.
    #[pallet::storage]
    pub type Convictions<T> = StorageMap<_, Blake2_128Concat, AccountId32, ConvictionRecord>;

    /// The block in which an offence became known.
    #[pallet::storage]
    pub type Offences<T> = StorageMap<_, Blake2_128Concat, Offence, u32>;

    /// Code of contracts by the BLAKE2b-256 hash of its bytes.
    #[pallet::storage]
    pub type Code<T> = StorageMap<_, Blake2_128Concat, Hash, CodeRecord>;

    /// How many contracts were created with a code.
    #[pallet::storage]
    pub type CodeUsers<T> = StorageMap<_, Blake2_128Concat, Hash, u32, ValueQuery>;

    /// Contracts by address.
    #[pallet::storage]
    pub type Contracts<T> = StorageMap<_, Blake2_128Concat, AccountId, ContractRecord>;

    /// How many contracts are placed in a cluster.
    #[pallet::storage]
    pub type Population<T> = StorageMap<_, Blake2_128Concat, ClusterId, u32, ValueQuery>;

    /// How far the traffic with each cluster has got.
    #[pallet::storage]
    pub type Bridges<T> = StorageMap<_, Blake2_128Concat, ClusterId, BridgeRecord, ValueQuery>;

    /// Messages into clusters that these are not known to have taken, by number.
    #[pallet::storage]
    pub type Inbox<T> = StorageDoubleMap<_, Blake2_128Concat, ClusterId, Blake2_128Concat, u64, Letter, OptionQuery>;

    /// Contracts that have a new place, and number of the move, of which the cluster that they leave has not let go.
    #[pallet::storage]
    pub type Leaving<T> = StorageMap<_, Blake2_128Concat, AccountId, (ClusterId, u32)>;

    /// How many contracts are on their way out of a cluster or into it.
    #[pallet::storage]
    pub type Moves<T> = StorageMap<_, Blake2_128Concat, ClusterId, u32, ValueQuery>;

    /// X25519 keys to which parcels for clusters are sealed.
    #[pallet::storage]
    pub type Mailboxes<T> = StorageMap<_, Blake2_128Concat, ClusterId, [u8; 32]>;

    /// Who wants which events.
    #[pallet::storage]
    pub type Watches<T> = StorageMap<_, Blake2_128Concat, Kind, Vec<Watch>, ValueQuery>;

    /// How many kinds of events a contract watches.
    #[pallet::storage]
    pub type WatchesOf<T> = StorageMap<_, Blake2_128Concat, AccountId, u32, ValueQuery>;

    /// How many watches there are.
    #[pallet::storage]
    pub type Watched<T> = StorageValue<_, u32, ValueQuery>;

    /// Who created a cluster; nobody, if it was root.
    #[pallet::storage]
    pub type Creators<T> = StorageMap<_, Blake2_128Concat, ClusterId, AccountId32>;

    /// What contracts of a cluster may use, once it was set.
    #[pallet::storage]
    pub type Policies<T> = StorageMap<_, Blake2_128Concat, ClusterId, ClusterPolicy>;

    /// Contracts of a cluster that have another weight than 1, and it.
    #[pallet::storage]
    pub type Weights<T> = StorageMap<_, Blake2_128Concat, ClusterId, Vec<(AccountId, u32)>, ValueQuery>;

    /// Whether any account may create clusters, or only root.
    #[pallet::storage]
    pub type Open<T> = StorageValue<_, bool, ValueQuery>;

    #[pallet::genesis_config]
    #[derive(frame_support::DefaultNoBound)]
    pub struct GenesisConfig<T: Config> {
        /// Whether any account may create clusters, or only root.
        pub open: bool,
        #[serde(skip)]
        pub _config: core::marker::PhantomData<T>,
    }

    #[pallet::genesis_build]
    impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
        fn build(&self) {
            Open::<T>::put(self.open);
        }
    }

    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A cluster was created; its epoch 0 begins.
        ClusterCreated {
            cluster: ClusterId,
            /// Its members.
            members: Vec<Member>,
        },
        /// A member waits for the next epoch.
        MemberRejoined {
            cluster: ClusterId,
            worker: AccountId32,
            /// The highest entry that it holds.
            anchor: Anchor,
        },
        /// A new epoch of a cluster is wanted.
        EpochPlanned {
            cluster: ClusterId,
            /// How it gets there.
            plan: Plan,
        },
        /// A new epoch of a cluster begins.
        EpochStarted {
            cluster: ClusterId,
            /// Its epoch from now on.
            epoch: u64,
            /// Where the epoch's log starts.
            floor: Anchor,
        },
        /// A code may be used for contracts.
        CodeUploaded {
            /// Hash of the code.
            code_hash: Hash,
            /// Who pays the deposit.
            owner: AccountId32,
            /// Length in bytes.
            size: u32,
        },
        /// A code was given up and its deposit returned.
        CodeRemoved {
            /// Hash of the code.
            code_hash: Hash,
            /// Who got the deposit back.
            owner: AccountId32,
        },
        /// What contracts of a cluster may use has changed.
        PolicySet {
            cluster: ClusterId,
            /// Its policy from now on.
            policy: ClusterPolicy,
        },
        /// A contract has a place. Its deployer may instantiate it there.
        ContractCreated {
            address: AccountId,
            /// The cluster that runs it.
            cluster: ClusterId,
            /// Its code.
            code_hash: Hash,
            /// Who created it.
            deployer: AccountId32,
        },
        /// Money is on its way into a cluster.
        Deposited {
            cluster: ClusterId,
            number: u64,
            /// Who paid.
            from: AccountId32,
            /// Who gets it there.
            to: AccountId,
            amount: Balance,
        },
        /// A call of a contract is on its way into a cluster.
        MessageSent {
            cluster: ClusterId,
            number: u64,
            /// Who calls.
            from: AccountId32,
            contract: AccountId,
            /// Money that goes along.
            value: Balance,
        },
        /// Money was paid out of a cluster or, if that failed, sent back into it.
        Withdrawn {
            cluster: ClusterId,
            number: u64,
            /// Whose it was there.
            from: AccountId,
            /// Who gets it.
            to: AccountId32,
            amount: Balance,
            /// Whether it was paid.
            result: DispatchResult,
        },
        /// A call was dispatched for a contract.
        Dispatched {
            cluster: ClusterId,
            number: u64,
            contract: AccountId,
            /// What came of it.
            result: DispatchResult,
        },
        /// A message between contracts is in the inbox of the cluster that it is for, or was sent back.
        ParcelSent {
            /// The cluster that sent it.
            cluster: ClusterId,
            number: u64,
            /// The contract that sent it.
            from: AccountId,
            /// The cluster that it is for.
            to: ClusterId,
            /// Why it was sent back.
            refused: Option<Undelivered>,
        },
        /// A parcel that a cluster did not take is on its way back.
        ParcelSentBack {
            /// The cluster that did not take it.
            cluster: ClusterId,
            /// Number of the message by which it goes back.
            number: u64,
            /// The cluster that had sent it.
            to: ClusterId,
            /// Whether it arrived there.
            result: DispatchResult,
        },
        /// A cluster can get parcels.
        MailboxOpened {
            cluster: ClusterId,
            /// The key to which they are sealed.
            key: [u8; 32],
        },
        /// A contract is told of events of this kind from now on.
        WatchBegan { contract: AccountId, kind: Kind },
        /// A contract is told of them no more: it wanted it so, or could not pay.
        WatchEnded { contract: AccountId, kind: Kind },
        /// Messages of a cluster were delivered.
        Delivered {
            cluster: ClusterId,
            /// Number of the next one.
            next: u64,
            /// How many messages into it the cluster is known to have taken.
            taken: u64,
        },
        /// The chain was shown a newer entry of a cluster's log.
        CheckpointMoved { cluster: ClusterId, checkpoint: Checkpoint },
        /// All members of a cluster have reported, and none holds what the chain was shown: it waits for one that does.
        HistoryMissing {
            cluster: ClusterId,
            /// What was shown.
            checkpoint: Checkpoint,
            /// The highest that a member holds.
            floor: Anchor,
        },
        /// A cluster that stood still goes on without members that are gone. Entries above the floor, if there were any,
        /// are lost.
        Recovered {
            cluster: ClusterId,
            /// The highest entry that a member of those left held.
            floor: Anchor,
            /// Those that are gone.
            gone: Vec<AccountId>,
        },
        /// A worker waits in the pool.
        WorkerOffered { worker: AccountId32 },
        /// A member says that another does not answer.
        MemberAccused {
            cluster: ClusterId,
            /// The one that is silent.
            worker: AccountId,
            /// The one that says so.
            by: AccountId32,
        },
        /// A worker is proven to be faulty or hostile.
        Convicted {
            worker: AccountId,
            /// What it did.
            offence: Offence,
        },
        /// A cluster is to have these members.
        MembersWanted {
            cluster: ClusterId,
            /// Those that stay and those that are new.
            workers: Vec<AccountId>,
        },
        /// A cluster has these readers now.
        ReadersChanged {
            cluster: ClusterId,
            /// All of them.
            workers: Vec<AccountId>,
        },
        /// A contract is to run other code.
        ContractUpgraded {
            address: AccountId,
            /// Its code from now on.
            code_hash: Hash,
            /// How often it was replaced.
            version: u32,
        },
        /// Queries of a contract get so many times the processor time of one of weight 1.
        WeightSet { cluster: ClusterId, contract: AccountId, weight: u32 },
        /// So many replicas have to agree on what a contract answers.
        AuditSet { address: AccountId, replicas: u32 },
        /// A contract's code is fixed for ever.
        ContractFrozen { address: AccountId },
        /// A contract is on its way to another cluster; to none, if it stays after all.
        ContractMoving { address: AccountId, to: Option<ClusterId> },
        /// A contract has another cluster from now on.
        ContractMoved { address: AccountId, cluster: ClusterId },
    }

    #[pallet::error]
    pub enum Error<T> {
        /// A cluster has 1 or 4 to 7 different members.
        MemberCount,
        /// A member is not registered, or its appraisal has ended.
        NotRegistered,
        /// A member is in a cluster already.
        InCluster,
        /// Only root may create clusters on this chain.
        NotOpen,
        /// There is no such cluster.
        NoCluster,
        /// The worker is no member of the cluster.
        NotMember,
        /// The anchor is below the epoch's floor, or another entry at its height.
        BelowFloor,
        /// An anchor above the floor needs a proof of at most 16 KiB.
        NoProof,
        /// The proof does not show that the epoch's members finalised the anchor.
        BadProof,
        /// The code is empty or larger than the limit.
        CodeSize,
        /// The code is there already.
        CodeExists,
        /// There is no such code.
        NoCode,
        /// The code belongs to another account.
        NotOwner,
        /// Contracts use the code.
        CodeInUse,
        /// The salt is longer than 64 bytes.
        SaltTooLong,
        /// A contract with this address exists already.
        ContractExists,
        /// The amount is below the least that moves into or within a cluster.
        TooSmall,
        /// The cluster has too many messages that it has not taken yet.
        InboxFull,
        /// The message is longer than the limit.
        MessageTooLong,
        /// There is no such contract, or the chain has placed it elsewhere.
        NoContract,
        /// More messages or hashes than are delivered at once.
        TooManyMessages,
        /// The messages are not those that the entry vouches for.
        OtherMessages,
        /// All of that is known.
        NothingNew,
        /// The call of a contract does not decode.
        BadCall,
        /// The call of a contract takes too long.
        CallTooHeavy,
        /// Only the account that created the cluster, or root, may set its policy.
        NotCreator,
        /// A limit of the policy is out of its range.
        PolicyRange,
        /// The pool of workers is full.
        PoolFull,
        /// There is no worker in the pool that could take the place.
        NobodyIdle,
        /// A cluster cannot have so many readers.
        TooManyReaders,
        /// So many members cannot leave at once.
        TooManyLeave,
        /// Only the contract's deployer may do this.
        NotDeployer,
        /// The contract's code is fixed.
        NotUpgradable,
        /// The cluster never had this epoch.
        NoEpoch,
        /// An honest member may have signed what the proof shows.
        NoOffence,
        /// The worker was convicted and gets no seat yet.
        Barred,
        /// Too many contracts of the cluster have a weight.
        TooManyWeights,
        /// From 1 to 7 replicas can have to agree.
        AuditRange,
        /// An event is to hold more bytes than can be asked for.
        FilterTooLong,
        /// The contract watches exactly this already.
        WatchExists,
        /// The contract watches too much, or the event is watched by too many.
        TooManyWatches,
        /// The contract does not watch this.
        NoWatch,
        /// The contract is on its way to another cluster already, or is there.
        Moving,
        /// The contract is not on its way anywhere.
        NotMoving,
        /// As many contracts as may are on their way out of the cluster, or into the other.
        TooManyMoves,
        /// The cluster has not published the key to which what goes there is sealed.
        NoMailbox,
    }

    #[pallet::hooks]
    impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
        fn on_initialize(_number: BlockNumberFor<T>) -> Weight {
            Self::telling()
        }

        fn on_finalize(_number: BlockNumberFor<T>) {
            Self::tell_watchers();
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Makes a cluster of 1 or 4 to 7 registered workers that are in no cluster yet.
        #[pallet::call_index(0)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(20, 10)))]
        pub fn create_cluster(origin: OriginFor<T>, workers: Vec<AccountId32>) -> DispatchResult {
            Self::create(ensure_signed_or_root(origin)?, workers)
        }

        /// Reports the highest entry that a member holds, and that it is ready for a new epoch with the identity
        /// that it holds now. The chain plans the epoch, or starts it if every member has reported.
        ///
        /// `proof` is an encoded [`AnchorProof`](crate::AnchorProof); an anchor that equals the epoch's floor needs none.
        #[pallet::call_index(1)]
        #[pallet::weight(REJOIN.saturating_add(T::DbWeight::get().reads_writes(14, 4)))]
        pub fn rejoin(
            origin: OriginFor<T>,
            cluster: ClusterId,
            anchor: Anchor,
            proof: Option<Vec<u8>>,
        ) -> DispatchResult {
            Self::do_rejoin(ensure_signed(origin)?, cluster, anchor, proof)
        }

        /// Starts the epoch that is planned, above the entry with which its members finished the present one. `proof`
        /// is an encoded [`AnchorProof`](crate::AnchorProof). Anyone may bring it; what is new costs no fee.
        #[pallet::call_index(5)]
        #[pallet::weight(REJOIN.saturating_add(T::DbWeight::get().reads_writes(14, 6)))]
        pub fn close(origin: OriginFor<T>, cluster: ClusterId, proof: Vec<u8>) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            Self::do_close(cluster, &proof)?;
            Ok(Pays::No.into())
        }

        /// Shows the chain a newer entry of a cluster's log, behind which the cluster never goes back. `proof` is an
        /// encoded [`AnchorProof`](crate::AnchorProof). Anyone may bring it; it costs no fee if the one before is [`SPAN`] blocks old.
        #[pallet::call_index(6)]
        #[pallet::weight(REJOIN.saturating_add(T::DbWeight::get().reads_writes(3, 1)))]
        pub fn checkpoint(origin: OriginFor<T>, cluster: ClusterId, proof: Vec<u8>) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            let mut record = Clusters::<T>::get(cluster).ok_or(Error::<T>::NoCluster)?;
            let before = record.checkpoint;
            Self::shown(cluster, &mut record, &proof, true)?;
            ensure!(record.checkpoint != before, Error::<T>::NothingNew);
            Self::deposit_event(Event::CheckpointMoved { cluster, checkpoint: record.checkpoint });
            let due = record.checkpoint.block >= before.block.saturating_add(SPAN);
            Ok(if due { Pays::No } else { Pays::Yes }.into())
        }

        /// Holds a deposit from the caller for a code of `size` bytes with this BLAKE2b-256 hash.
        #[pallet::call_index(2)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(3, 3)))]
        pub fn upload_code(origin: OriginFor<T>, code_hash: Hash, size: u32) -> DispatchResult {
            Self::do_upload_code(ensure_signed(origin)?, code_hash, size)
        }

        /// Gives up a code that no contract was created with, and returns its deposit.
        #[pallet::call_index(3)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(4, 3)))]
        pub fn remove_code(origin: OriginFor<T>, code_hash: Hash) -> DispatchResult {
            Self::do_remove_code(ensure_signed(origin)?, code_hash)
        }

        /// Gives a contract its cluster and its address, see `phala_primitives::records::contract_address`. Its code can
        /// be replaced only if it is `upgradable`, and everyone can see that.
        #[pallet::call_index(4)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(5, 3)))]
        pub fn create_contract(
            origin: OriginFor<T>,
            cluster: ClusterId,
            code_hash: Hash,
            salt: Vec<u8>,
            upgradable: bool,
        ) -> DispatchResult {
            Self::do_create_contract(ensure_signed(origin)?, cluster, code_hash, &salt, upgradable)
        }

        /// Moves money of the caller into a cluster, to an account or contract there.
        #[pallet::call_index(10)]
        #[pallet::weight(PAYMENT.saturating_add(T::DbWeight::get().reads_writes(5, 4)))]
        pub fn deposit(origin: OriginFor<T>, cluster: ClusterId, to: AccountId, amount: Balance) -> DispatchResult {
            Self::do_deposit(ensure_signed(origin)?, cluster, to, amount)
        }

        /// Calls a contract with this data, for everyone to see, in the name of the caller, who pays `value` along.
        #[pallet::call_index(11)]
        #[pallet::weight(PAYMENT.saturating_add(T::DbWeight::get().reads_writes(5, 4)))]
        pub fn send_message(
            origin: OriginFor<T>,
            contract: AccountId,
            data: Vec<u8>,
            value: Balance,
        ) -> DispatchResult {
            Self::do_send_message(ensure_signed(origin)?, contract, data, value)
        }

        /// Brings the next messages of a cluster, and with them how many of the chain's it has taken. `proof` is an
        /// encoded [`AnchorProof`](crate::AnchorProof) of the entry that vouches for them and for those behind them, whose hashes are
        /// `rest`. Anyone may bring them; what is new costs no fee.
        #[pallet::call_index(12)]
        #[pallet::weight(delivery_weight(messages).saturating_add(T::DbWeight::get().reads_writes(12, 300)))]
        pub fn deliver(
            origin: OriginFor<T>,
            cluster: ClusterId,
            proof: Vec<u8>,
            messages: Vec<Outbound>,
            rest: Vec<Hash>,
        ) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            Self::do_deliver(cluster, &proof, messages, &rest)?;
            Ok(Pays::No.into())
        }

        /// Sets what contracts of a cluster may use. Its version is given by the chain.
        #[pallet::call_index(20)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(3, 1)))]
        pub fn set_policy(origin: OriginFor<T>, cluster: ClusterId, policy: ClusterPolicy) -> DispatchResult {
            let caller = ensure_signed_or_root(origin)?;
            Self::change_policy(caller, cluster, policy)
        }

        /// Sets how many times the processor time of a contract of weight 1 the queries of this one get, from 1 to 100.
        #[pallet::call_index(21)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(4, 1)))]
        pub fn set_weight(
            origin: OriginFor<T>,
            cluster: ClusterId,
            contract: AccountId,
            weight: u32,
        ) -> DispatchResult {
            Self::do_set_weight(ensure_signed_or_root(origin)?, cluster, contract, weight)
        }

        /// Puts the caller, a worker without a seat, into the pool from which clusters get members, see
        /// [`crate::members`].
        #[pallet::call_index(40)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(4, 2)))]
        pub fn offer(origin: OriginFor<T>) -> DispatchResult {
            Self::do_offer(ensure_signed(origin)?)
        }

        /// Takes the caller out of the pool.
        #[pallet::call_index(41)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(1, 2)))]
        pub fn retire(origin: OriginFor<T>) -> DispatchResult {
            Pool::<T>::remove(ensure_signed(origin)?);
            Ok(())
        }

        /// Says that a member or reader of the caller's cluster does not answer. A quorum of members has it replaced.
        #[pallet::call_index(42)]
        #[pallet::weight(POOL.saturating_add(T::DbWeight::get().reads_writes(20, 10)))]
        pub fn accuse(origin: OriginFor<T>, cluster: ClusterId, worker: AccountId) -> DispatchResult {
            Self::do_accuse(ensure_signed(origin)?, cluster, worker)
        }

        /// Has another worker take the place of a member or reader; that of a reader may stay free. The caller is that
        /// worker, or who created the cluster.
        #[pallet::call_index(43)]
        #[pallet::weight(POOL.saturating_add(T::DbWeight::get().reads_writes(20, 10)))]
        pub fn drain(origin: OriginFor<T>, cluster: ClusterId, worker: AccountId) -> DispatchResult {
            Self::do_drain(ensure_signed_or_root(origin)?, cluster, worker)
        }

        /// Gives a cluster another number of members: 4 to 7. The caller is who created it.
        #[pallet::call_index(44)]
        #[pallet::weight(POOL.saturating_add(T::DbWeight::get().reads_writes(20, 20)))]
        pub fn resize(origin: OriginFor<T>, cluster: ClusterId, size: u32) -> DispatchResult {
            Self::do_resize(ensure_signed_or_root(origin)?, cluster, size)
        }

        /// Shows that a member of a cluster is faulty or hostile, and has it replaced. `proof` is an encoded
        /// [`Misbehaviour`](phala_primitives::misbehaviour::Misbehaviour) of at most 16 KiB. Anyone may bring it; what is new
        /// costs no fee.
        #[pallet::call_index(45)]
        #[pallet::weight(POOL.saturating_add(REJOIN).saturating_add(T::DbWeight::get().reads_writes(20, 10)))]
        pub fn convict(origin: OriginFor<T>, cluster: ClusterId, proof: Vec<u8>) -> DispatchResultWithPostInfo {
            ensure_signed(origin)?;
            Self::do_convict(cluster, &proof)?;
            Ok(Pays::No.into())
        }

        /// Gives a cluster so many readers, workers of the pool. The caller is who created it.
        #[pallet::call_index(46)]
        #[pallet::weight(POOL.saturating_add(T::DbWeight::get().reads_writes(40, 70)))]
        pub fn set_readers(origin: OriginFor<T>, cluster: ClusterId, count: u32) -> DispatchResult {
            Self::do_set_readers(ensure_signed_or_root(origin)?, cluster, count)
        }

        /// Has the caller, a contract, be called with events of a kind, see [`crate::watches`].
        #[pallet::call_index(50)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(5, 5)))]
        pub fn watch(origin: OriginFor<T>, kind: Kind, filter: Option<Filter>, selector: [u8; 4]) -> DispatchResult {
            Self::do_watch(&ensure_signed(origin)?, kind, filter, selector)
        }

        /// Ends that.
        #[pallet::call_index(51)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(4, 5)))]
        pub fn unwatch(origin: OriginFor<T>, kind: Kind, filter: Option<Filter>, selector: [u8; 4]) -> DispatchResult {
            Self::do_unwatch(&ensure_signed(origin)?, kind, &filter, &selector)
        }

        /// Replaces the code of a contract, see [`crate::upgrade`].
        #[pallet::call_index(30)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(4, 3)))]
        pub fn upgrade_contract(origin: OriginFor<T>, address: AccountId, code_hash: Hash) -> DispatchResult {
            Self::upgrade(ensure_signed(origin)?, address, code_hash)
        }

        /// Sets how many replicas have to agree on the answer to a query of a contract before clients believe it.
        #[pallet::call_index(32)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(1, 1)))]
        pub fn set_audit(origin: OriginFor<T>, address: AccountId, replicas: u32) -> DispatchResult {
            Self::do_set_audit(ensure_signed(origin)?, address, replicas)
        }

        /// Has a contract go to another cluster, or, with none, stay where it is after all, see [`crate::moves`]. The caller
        /// is its deployer.
        #[pallet::call_index(33)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(7, 5)))]
        pub fn move_contract(origin: OriginFor<T>, address: AccountId, to: Option<ClusterId>) -> DispatchResult {
            Self::do_move(ensure_signed(origin)?, address, to)
        }

        /// Fixes the code of a contract for ever.
        #[pallet::call_index(31)]
        #[pallet::weight(SMALL.saturating_add(T::DbWeight::get().reads_writes(1, 1)))]
        pub fn freeze_contract(origin: OriginFor<T>, address: AccountId) -> DispatchResult {
            Self::freeze(ensure_signed(origin)?, address)
        }
    }
}
