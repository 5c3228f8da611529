//! What the pallets are told: limits, fees, deposits.

use crate::*;
use frame_support::{
    derive_impl,
    dispatch::DispatchClass,
    parameter_types,
    traits::{ConstU8, ConstU16, ConstU32, ConstU64, ConstU128, Contains, VariantCountOf},
    weights::{ConstantMultiplier, RuntimeDbWeight, Weight, constants::WEIGHT_REF_TIME_PER_MICROS},
};
use frame_system::limits::{BlockLength, BlockWeights};
use phala_primitives::PHA;
use sp_runtime::Perbill;

/// Time that the extrinsics of a block may take by their weights.
pub const MAX_BLOCK_WEIGHT: Weight = micros(400_000);
/// Most bytes of extrinsics in a block.
pub const MAX_BLOCK_LENGTH: u32 = 1 << 20;
/// Least balance of an account: below it the account is gone.
pub const EXISTENTIAL_DEPOSIT: Balance = PHA / 100;
/// Held for each stored code.
pub const CODE_DEPOSIT: Balance = PHA / 10;
/// Held for each byte of stored code.
pub const CODE_DEPOSIT_PER_BYTE: Balance = PHA / 100_000;
/// Held as long as a contract watches a kind of event.
pub const WATCH_DEPOSIT: Balance = PHA / 10;

/// Share of a block that ordinary extrinsics may fill; the rest is for operational ones and the timestamp.
const NORMAL: Perbill = Perbill::from_percent(90);

/// Weight of so many microseconds on one core. Proof sizes do not count: nobody has to transport proofs of execution.
const fn micros(micros: u64) -> Weight {
    Weight::from_parts(micros * WEIGHT_REF_TIME_PER_MICROS, u64::MAX)
}

parameter_types! {
    /// Version of the runtime.
    pub const Version: RuntimeVersion = VERSION;
    /// Read from memory or the page cache, write into the overlay and the trie.
    pub const DbWeight: RuntimeDbWeight = RuntimeDbWeight {
        read: 3 * WEIGHT_REF_TIME_PER_MICROS,
        write: 10 * WEIGHT_REF_TIME_PER_MICROS,
    };
    /// Limits by time. The base of an extrinsic is mostly the check of its signature.
    pub Weights: BlockWeights = BlockWeights::builder()
        .base_block(Weight::from_parts(500 * WEIGHT_REF_TIME_PER_MICROS, 0))
        .for_class(DispatchClass::all(), |limits| {
            limits.base_extrinsic = Weight::from_parts(50 * WEIGHT_REF_TIME_PER_MICROS, 0);
        })
        .for_class(DispatchClass::Normal, |limits| limits.max_total = Some(NORMAL * MAX_BLOCK_WEIGHT))
        .for_class(DispatchClass::Operational, |limits| {
            limits.max_total = Some(MAX_BLOCK_WEIGHT);
            limits.reserved = Some(MAX_BLOCK_WEIGHT - NORMAL * MAX_BLOCK_WEIGHT);
        })
        .avg_block_initialization(Perbill::from_percent(1))
        .build_or_panic();
    /// Limits by size.
    pub Lengths: BlockLength = BlockLength::builder()
        .max_length(MAX_BLOCK_LENGTH)
        .modify_max_length_for_class(DispatchClass::Normal, |max| *max = NORMAL * MAX_BLOCK_LENGTH)
        .build();
}

#[derive_impl(frame_system::config_preludes::SolochainDefaultConfig)]
impl frame_system::Config for Runtime {
    type Block = Block;
    type AccountData = pallet_balances::AccountData<Balance>;
    type BlockHashCount = ConstU32<4096>;
    type BlockLength = Lengths;
    type BlockWeights = Weights;
    type DbWeight = DbWeight;
    type MaxConsumers = ConstU32<16>;
    type SS58Prefix = ConstU16<{ phala_primitives::SS58_PREFIX }>;
    type SystemWeightInfo = frame_system::weights::SubstrateWeight<Runtime>;
    type Version = Version;
}

impl pallet_timestamp::Config for Runtime {
    type Moment = u64;
    type OnTimestampSet = ();
    type MinimumPeriod = ConstU64<1>;
    type WeightInfo = pallet_timestamp::weights::SubstrateWeight<Runtime>;
}

impl pallet_balances::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type RuntimeHoldReason = RuntimeHoldReason;
    type RuntimeFreezeReason = RuntimeFreezeReason;
    type WeightInfo = pallet_balances::weights::SubstrateWeight<Runtime>;
    type Balance = Balance;
    type DustRemoval = ();
    type ExistentialDeposit = ConstU128<EXISTENTIAL_DEPOSIT>;
    type AccountStore = System;
    type ReserveIdentifier = [u8; 8];
    type FreezeIdentifier = RuntimeFreezeReason;
    type MaxLocks = ConstU32<50>;
    type MaxReserves = ConstU32<50>;
    type MaxFreezes = VariantCountOf<RuntimeFreezeReason>;
    type DoneSlashHandler = ();
}

impl pallet_transaction_payment::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    // Fees are burnt.
    type OnChargeTransaction = pallet_transaction_payment::FungibleAdapter<Balances, ()>;
    // A transfer weighs about 180 µs and has 145 bytes: about 0.001 PHA.
    type WeightToFee = ConstantMultiplier<Balance, ConstU128<4>>;
    type LengthToFee = ConstantMultiplier<Balance, ConstU128<2_000_000>>;
    type FeeMultiplierUpdate = ();
    type OperationalFeeMultiplier = ConstU8<5>;
    type WeightInfo = pallet_transaction_payment::weights::SubstrateWeight<Runtime>;
}

impl pallet_utility::Config for Runtime {
    type RuntimeEvent = RuntimeEvent;
    type RuntimeCall = RuntimeCall;
    type PalletsOrigin = OriginCaller;
    type WeightInfo = pallet_utility::weights::SubstrateWeight<Runtime>;
}

impl pallet_registry::Config for Runtime {
    type Time = Timestamp;
}

impl pallet_clusters::Config for Runtime {
    type Currency = Balances;
    type RuntimeHoldReason = RuntimeHoldReason;
    type CodeDeposit = ConstU128<CODE_DEPOSIT>;
    type CodeDepositPerByte = ConstU128<CODE_DEPOSIT_PER_BYTE>;
    type WatchDeposit = ConstU128<WATCH_DEPOSIT>;
    type DispatchFilter = ForContracts;
    type DispatchFee = TransactionFee;
}

/// What contracts may have dispatched in their name.
pub struct ForContracts;

impl Contains<RuntimeCall> for ForContracts {
    fn contains(call: &RuntimeCall) -> bool {
        use pallet_balances::Call as Balance;
        use pallet_clusters::Call as Cluster;
        use pallet_utility::Call as Batch;
        matches!(
            call,
            RuntimeCall::Balances(
                Balance::transfer_allow_death { .. }
                    | Balance::transfer_keep_alive { .. }
                    | Balance::transfer_all { .. }
            ) | RuntimeCall::Utility(Batch::batch { .. } | Batch::batch_all { .. } | Batch::force_batch { .. })
                | RuntimeCall::Clusters(
                    Cluster::deposit { .. }
                        | Cluster::send_message { .. }
                        | Cluster::watch { .. }
                        | Cluster::unwatch { .. }
                )
        )
    }
}

/// Contracts pay for calls what accounts do.
pub struct TransactionFee;

impl pallet_clusters::bridge::DispatchFee for TransactionFee {
    fn fee(length: u32, weight: Weight) -> Balance {
        let base = Weights::get().get(DispatchClass::Normal).base_extrinsic;
        let by_weight = TransactionPayment::weight_to_fee(weight.saturating_add(base));
        by_weight.saturating_add(TransactionPayment::length_to_fee(length))
    }
}
