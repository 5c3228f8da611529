//! Workers, their evidence and endpoints, and the validator set.
//!
//! A worker is an account. Each time its enclave starts it makes two keys, an identity (ed25519) and a recipient
//! (X25519), and [registers](Call::register_worker) them together with evidence that a machine ran the program which
//! made them. The chain appraises the evidence itself, under the trust anchors of its genesis and at the time of the
//! block, and stores the result; no oracle takes part. A new registration replaces the old identity, which thereby
//! loses its vote with the next epoch of the worker's cluster.
//!
//! Invariant: what a simulated machine vouches for has tier S, and a chain marked production has no such worker: its
//! genesis refuses simulated anchors, and so does each registration.
//!
//! The validators are those of the genesis. Storage is read by light clients through the keys of
//! [`phala_primitives::storage`].

mod serde_scale;

pub use pallet::*;

// The macros of FRAME generate items without documentation.
#[allow(missing_docs)]
#[frame_support::pallet]
pub mod pallet {
    use frame_support::{pallet_prelude::*, traits::UnixTime};
    use frame_system::pallet_prelude::*;
    use phala_attest::{Anchors, AttestError};
    use phala_primitives::{
        AccountId, Hash, PublicKey,
        limits::MAX_MEMBERS,
        records::{Appraisal, Tier, WorkerRecord},
    };
    use sp_core::H256;
    use sp_runtime::AccountId32;

    /// Largest evidence that a registration may carry, in bytes.
    pub const MAX_EVIDENCE: usize = 16 << 10;
    /// Longest base URL for clients, in bytes.
    pub const MAX_ENDPOINT: usize = 256;
    /// Longest address for members of the cluster, in bytes.
    pub const MAX_PEER: usize = 128;

    /// Time to appraise evidence, generously: a chain of certificates and a quote.
    const REGISTER: Weight = Weight::from_parts(3_000_000_000, 0);
    const UPDATE: Weight = Weight::from_parts(20_000_000, 0);

    #[pallet::pallet]
    #[pallet::without_storage_info]
    pub struct Pallet<T>(_);

    #[pallet::config]
    pub trait Config: frame_system::Config<AccountId = AccountId32, Hash = H256> {
        /// Time of the block that is executed.
        type Time: UnixTime;
    }

    /// Keys of the validators, in the order of the genesis.
    #[pallet::storage]
    pub type Validators<T> = StorageValue<_, Vec<PublicKey>, ValueQuery>;

    /// Whom the network trusts to vouch for machines.
    #[pallet::storage]
    pub type TrustAnchors<T> = StorageValue<_, Anchors, ValueQuery>;

    /// Whether the network holds anything of value: then nothing simulated is let in.
    #[pallet::storage]
    pub type Production<T> = StorageValue<_, bool, ValueQuery>;

    /// Registered workers.
    #[pallet::storage]
    pub type Workers<T> = StorageMap<_, Blake2_128Concat, AccountId32, WorkerRecord>;

    /// Which worker holds an identity at present, so that no two seats of a cluster are one voter.
    #[pallet::storage]
    pub type Identities<T> = StorageMap<_, Blake2_128Concat, PublicKey, AccountId32>;

    #[pallet::genesis_config]
    #[derive(frame_support::DefaultNoBound)]
    pub struct GenesisConfig<T: Config> {
        /// Keys of the validators.
        pub validators: Vec<PublicKey>,
        /// Whom the network trusts to vouch for machines.
        #[serde(with = "crate::serde_scale")]
        pub anchors: Anchors,
        /// Whether nothing simulated is let in.
        pub production: bool,
        #[serde(skip)]
        pub _config: core::marker::PhantomData<T>,
    }

    #[pallet::genesis_build]
    impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
        fn build(&self) {
            assert!(
                !self.production || self.anchors.simulated.is_empty(),
                "a production chain cannot trust simulated machines"
            );
            assert!(self.validators.len() <= MAX_MEMBERS as usize, "at most {MAX_MEMBERS} validators");
            Validators::<T>::put(&self.validators);
            TrustAnchors::<T>::put(&self.anchors);
            Production::<T>::put(self.production);
        }
    }

    #[pallet::event]
    #[pallet::generate_deposit(pub(super) fn deposit_event)]
    pub enum Event<T: Config> {
        /// A worker registered the keys of its present start.
        WorkerRegistered {
            /// The worker.
            worker: AccountId32,
            /// Its identity from now on.
            identity: PublicKey,
            /// What its evidence is worth.
            appraisal: Appraisal,
        },
        /// A worker changed its addresses.
        EndpointUpdated {
            /// The worker.
            worker: AccountId32,
        },
    }

    #[pallet::error]
    pub enum Error<T> {
        /// The evidence is larger than 16 KiB.
        EvidenceTooLarge,
        /// The evidence cannot be decoded.
        EvidenceMalformed,
        /// No trust anchor of this network vouches for the machine.
        UnknownVendor,
        /// The machine's certificate has expired.
        EvidenceExpired,
        /// A signature of the evidence is wrong.
        EvidenceSignature,
        /// The evidence does not bind this network, worker, identity and recipient.
        WrongReportData,
        /// The chain is marked production, and the machine is simulated.
        SimulatedMachine,
        /// Another worker holds this identity.
        IdentityTaken,
        /// The endpoint is no text of at most 256 bytes that starts with http:// or https://.
        BadEndpoint,
        /// The peer address is no text of at most 128 bytes.
        BadPeer,
        /// The worker is not registered.
        NotRegistered,
    }

    impl<T> From<AttestError> for Error<T> {
        fn from(error: AttestError) -> Self {
            match error {
                AttestError::TooLarge => Self::EvidenceTooLarge,
                AttestError::Malformed => Self::EvidenceMalformed,
                AttestError::UnknownVendor => Self::UnknownVendor,
                AttestError::Expired => Self::EvidenceExpired,
                AttestError::Signature => Self::EvidenceSignature,
                AttestError::ReportData => Self::WrongReportData,
            }
        }
    }

    #[pallet::call]
    impl<T: Config> Pallet<T> {
        /// Registers the keys that the worker's enclave made at its present start, in place of older ones.
        ///
        /// - `identity`: ed25519 key that votes and signs receipts.
        /// - `recipient`: X25519 key to which keys of the cluster are sealed.
        /// - `endpoint`: base URL for clients; `peer`: socket address for members of the cluster.
        /// - `evidence`: binds network, worker and both keys, see `phala_attest::identity_report_data`.
        #[pallet::call_index(0)]
        #[pallet::weight(REGISTER.saturating_add(T::DbWeight::get().reads_writes(6, 3)))]
        pub fn register_worker(
            origin: OriginFor<T>,
            identity: PublicKey,
            recipient: [u8; 32],
            endpoint: Vec<u8>,
            peer: Vec<u8>,
            evidence: Vec<u8>,
        ) -> DispatchResult {
            let worker = ensure_signed(origin)?;
            Self::check_addresses(&endpoint, &peer)?;
            let appraisal = Self::appraise(&worker, &identity, &recipient, &evidence)?;
            ensure!(Identities::<T>::get(identity).is_none_or(|holder| holder == worker), Error::<T>::IdentityTaken);
            if let Some(old) = Workers::<T>::get(&worker) {
                Identities::<T>::remove(old.identity);
            }
            Identities::<T>::insert(identity, &worker);
            let operator = AccountId(worker.clone().into());
            let record = WorkerRecord { operator, identity, recipient, endpoint, peer, appraisal: appraisal.clone() };
            Workers::<T>::insert(&worker, record);
            Self::deposit_event(Event::WorkerRegistered { worker, identity, appraisal });
            Ok(())
        }

        /// Changes where clients and members of the cluster find the worker.
        #[pallet::call_index(1)]
        #[pallet::weight(UPDATE.saturating_add(T::DbWeight::get().reads_writes(1, 1)))]
        pub fn update_endpoint(origin: OriginFor<T>, endpoint: Vec<u8>, peer: Vec<u8>) -> DispatchResult {
            let worker = ensure_signed(origin)?;
            Self::check_addresses(&endpoint, &peer)?;
            Workers::<T>::try_mutate(&worker, |record| {
                let record = record.as_mut().ok_or(Error::<T>::NotRegistered)?;
                (record.endpoint, record.peer) = (endpoint, peer);
                Ok::<_, Error<T>>(())
            })?;
            Self::deposit_event(Event::EndpointUpdated { worker });
            Ok(())
        }
    }

    impl<T: Config> Pallet<T> {
        /// Hash of the genesis block, which names the network.
        pub fn genesis_hash() -> Hash {
            Hash(frame_system::Pallet::<T>::block_hash(BlockNumberFor::<T>::default()).0)
        }

        /// Time of the block, in milliseconds since 1970.
        pub fn now_ms() -> u64 {
            u64::try_from(T::Time::now().as_millis()).unwrap_or(u64::MAX)
        }

        /// The worker's record, if its appraisal has not ended.
        pub fn active_worker(worker: &AccountId32) -> Option<WorkerRecord> {
            Workers::<T>::get(worker).filter(|record| record.appraisal.expires > Self::now_ms())
        }

        fn appraise(
            worker: &AccountId32,
            identity: &PublicKey,
            recipient: &[u8; 32],
            evidence: &[u8],
        ) -> Result<Appraisal, Error<T>> {
            ensure!(evidence.len() <= MAX_EVIDENCE, Error::<T>::EvidenceTooLarge);
            let account = AccountId(worker.clone().into());
            let bound = phala_attest::identity_report_data(&Self::genesis_hash(), &account, identity, recipient);
            let appraised = phala_attest::appraise(evidence, &TrustAnchors::<T>::get(), Self::now_ms())?;
            ensure!(!Production::<T>::get() || appraised.tier != Tier::S, Error::<T>::SimulatedMachine);
            Ok(appraised.bound_to(&bound)?)
        }

        fn check_addresses(endpoint: &[u8], peer: &[u8]) -> Result<(), Error<T>> {
            let text = |bytes: &[u8], limit| {
                !bytes.is_empty() && bytes.len() <= limit && bytes.iter().all(u8::is_ascii_graphic)
            };
            let url = endpoint.starts_with(b"http://") || endpoint.starts_with(b"https://");
            ensure!(url && text(endpoint, MAX_ENDPOINT), Error::<T>::BadEndpoint);
            ensure!(text(peer, MAX_PEER), Error::<T>::BadPeer);
            Ok(())
        }
    }
}
