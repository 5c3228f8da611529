//! Runtime APIs, as clients call them by name through `state_call`.

use crate::*;
use frame_support::weights::Weight;
use sp_api::impl_runtime_apis;
use sp_core::OpaqueMetadata;
use sp_inherents::{CheckInherentsResult, InherentData};
use sp_runtime::{
    ApplyExtrinsicResult, ExtrinsicInclusionMode,
    transaction_validity::{TransactionSource, TransactionValidity},
};

/// Calls a runtime API such as `Metadata_metadata_at_version` with SCALE input, inside of externalities. `None` if
/// there is none of this name. Panics if the input does not decode: run it where panics are caught.
pub fn call(method: &str, input: &[u8]) -> Option<Vec<u8>> {
    api::dispatch(method, input)
}

type NativeBlock = Block;

mod generated {
    use super::*;
    use pallet_transaction_payment::{FeeDetails, RuntimeDispatchInfo};
    type Block = NativeBlock;

    impl_runtime_apis! {
        impl sp_api::Core<Block> for Runtime {
            fn version() -> RuntimeVersion {
                VERSION
            }

            fn execute_block(block: <Block as sp_runtime::traits::Block>::LazyBlock) {
                Executive::execute_block(block)
            }

            fn initialize_block(header: &Header) -> ExtrinsicInclusionMode {
                Executive::initialize_block(header)
            }
        }

        impl sp_api::Metadata<Block> for Runtime {
            fn metadata() -> OpaqueMetadata {
                OpaqueMetadata::new(Runtime::metadata().into())
            }

            fn metadata_at_version(version: u32) -> Option<OpaqueMetadata> {
                Runtime::metadata_at_version(version)
            }

            fn metadata_versions() -> Vec<u32> {
                Runtime::metadata_versions()
            }
        }

        impl sp_block_builder::BlockBuilder<Block> for Runtime {
            fn apply_extrinsic(extrinsic: UncheckedExtrinsic) -> ApplyExtrinsicResult {
                Executive::apply_extrinsic(extrinsic)
            }

            fn finalize_block() -> Header {
                Executive::finalize_block()
            }

            fn inherent_extrinsics(data: InherentData) -> Vec<UncheckedExtrinsic> {
                data.create_extrinsics()
            }

            fn check_inherents(
                block: <Block as sp_runtime::traits::Block>::LazyBlock,
                data: InherentData,
            ) -> CheckInherentsResult {
                data.check_extrinsics(&block)
            }
        }

        impl sp_transaction_pool::runtime_api::TaggedTransactionQueue<Block> for Runtime {
            fn validate_transaction(
                source: TransactionSource,
                extrinsic: UncheckedExtrinsic,
                block_hash: sp_core::H256,
            ) -> TransactionValidity {
                Executive::validate_transaction(source, extrinsic, block_hash)
            }
        }

        impl frame_system_rpc_runtime_api::AccountNonceApi<Block, AccountId, u32> for Runtime {
            fn account_nonce(account: AccountId) -> u32 {
                System::account_nonce(account)
            }
        }

        impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentApi<Block, Balance> for Runtime {
            fn query_info(extrinsic: UncheckedExtrinsic, length: u32) -> RuntimeDispatchInfo<Balance> {
                TransactionPayment::query_info(extrinsic, length)
            }

            fn query_fee_details(extrinsic: UncheckedExtrinsic, length: u32) -> FeeDetails<Balance> {
                TransactionPayment::query_fee_details(extrinsic, length)
            }

            fn query_weight_to_fee(weight: Weight) -> Balance {
                TransactionPayment::weight_to_fee(weight)
            }

            fn query_length_to_fee(length: u32) -> Balance {
                TransactionPayment::length_to_fee(length)
            }
        }

        impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentCallApi<Block, Balance, RuntimeCall>
            for Runtime
        {
            fn query_call_info(call: RuntimeCall, length: u32) -> RuntimeDispatchInfo<Balance> {
                TransactionPayment::query_call_info(call, length)
            }

            fn query_call_fee_details(call: RuntimeCall, length: u32) -> FeeDetails<Balance> {
                TransactionPayment::query_call_fee_details(call, length)
            }

            fn query_weight_to_fee(weight: Weight) -> Balance {
                TransactionPayment::weight_to_fee(weight)
            }

            fn query_length_to_fee(length: u32) -> Balance {
                TransactionPayment::length_to_fee(length)
            }
        }
    }
}

pub(crate) use generated::RUNTIME_API_VERSIONS;
use generated::api;
