//! The chain's state machine: FRAME pallets compiled natively.
//!
//! Accounts, extrinsics, metadata and storage are those of any Substrate chain, so that wallets and libraries of that
//! world connect as they are. There is no wasm runtime: all validators run this crate, and a change of its rules is a
//! new release with a higher [`VERSION`] `spec_version`.
//!
//! What runs a block (see `phala-node`): [`Executive`] for blocks and extrinsics, [`call`] for runtime APIs by name,
//! [`genesis`] for the state before the first block.

#![cfg_attr(test, allow(clippy::unwrap_used))]
// `frame_support::runtime` generates public items without documentation and drops attributes that would allow it.
#![allow(missing_docs)]

mod apis;
mod config;
mod genesis;
#[cfg(test)]
mod tests;

pub use apis::call;
pub use config::{
    CODE_DEPOSIT, CODE_DEPOSIT_PER_BYTE, EXISTENTIAL_DEPOSIT, MAX_BLOCK_LENGTH, MAX_BLOCK_WEIGHT, WATCH_DEPOSIT,
};
pub use genesis::{GenesisError, GenesisSpec, dev_account, genesis};

use sp_runtime::{
    MultiAddress, MultiSignature, generic,
    traits::{BlakeTwo256, IdentifyAccount, Verify},
};
use sp_version::RuntimeVersion;
use std::borrow::Cow;

/// Balance of an account, in the smallest unit.
pub type Balance = phala_primitives::Balance;
/// Height of a block.
pub type BlockNumber = u32;
/// Signature of an extrinsic: sr25519, ed25519 or ecdsa.
pub type Signature = MultiSignature;
/// Account of the chain.
pub type AccountId = <<Signature as Verify>::Signer as IdentifyAccount>::AccountId;
/// How extrinsics name accounts.
pub type Address = MultiAddress<AccountId, ()>;
/// Header of a block; its BLAKE2b-256 hash is the block's hash.
pub type Header = generic::Header<BlockNumber, BlakeTwo256>;
/// What each signed extrinsic carries and is checked for.
pub type TxExtension = (
    frame_system::CheckNonZeroSender<Runtime>,
    frame_system::CheckSpecVersion<Runtime>,
    frame_system::CheckTxVersion<Runtime>,
    frame_system::CheckGenesis<Runtime>,
    frame_system::CheckEra<Runtime>,
    frame_system::CheckNonce<Runtime>,
    frame_system::CheckWeight<Runtime>,
    pallet_transaction_payment::ChargeTransactionPayment<Runtime>,
    frame_metadata_hash_extension::CheckMetadataHash<Runtime>,
);
/// An extrinsic whose signature is not checked yet.
pub type UncheckedExtrinsic = generic::UncheckedExtrinsic<Address, RuntimeCall, Signature, TxExtension>;
/// What the signer of an extrinsic signs.
pub type SignedPayload = generic::SignedPayload<RuntimeCall, TxExtension>;
/// A block.
pub type Block = generic::Block<Header, UncheckedExtrinsic>;
/// Runs blocks.
pub type Executive =
    frame_executive::Executive<Runtime, Block, frame_system::ChainContext<Runtime>, Runtime, AllPalletsWithSystem>;

/// Version of the rules that this crate holds.
pub const VERSION: RuntimeVersion = RuntimeVersion {
    spec_name: Cow::Borrowed("phala"),
    impl_name: Cow::Borrowed("phala"),
    authoring_version: 1,
    spec_version: 1,
    impl_version: 0,
    apis: apis::RUNTIME_API_VERSIONS,
    transaction_version: 2,
    system_version: 1,
};

#[frame_support::runtime]
mod runtime {
    #[runtime::runtime]
    #[runtime::derive(
        RuntimeCall,
        RuntimeEvent,
        RuntimeError,
        RuntimeOrigin,
        RuntimeFreezeReason,
        RuntimeHoldReason,
        RuntimeSlashReason,
        RuntimeLockId,
        RuntimeTask
    )]
    pub struct Runtime;

    #[runtime::pallet_index(0)]
    pub type System = frame_system;
    #[runtime::pallet_index(1)]
    pub type Timestamp = pallet_timestamp;
    #[runtime::pallet_index(2)]
    pub type Balances = pallet_balances;
    #[runtime::pallet_index(3)]
    pub type TransactionPayment = pallet_transaction_payment;
    #[runtime::pallet_index(4)]
    pub type Utility = pallet_utility;
    #[runtime::pallet_index(10)]
    pub type Registry = pallet_registry;
    #[runtime::pallet_index(11)]
    pub type Clusters = pallet_clusters;
}
