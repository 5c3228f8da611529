//! `payment_*`: what an extrinsic would cost.

use crate::{error::Failure, shared::Node};
use codec::{Compact, Decode, Encode};
use jsonrpsee::{core::RpcResult, proc_macros::rpc};
use phala_primitives::{Balance, Code, Coded};
use serde_json::{Value, json};
use sp_core::{Bytes, H256};

#[rpc(server)]
pub(crate) trait Payment {
    #[method(name = "payment_queryInfo", blocking)]
    fn query_info(&self, extrinsic: Bytes, at: Option<H256>) -> RpcResult<Value>;

    #[method(name = "payment_queryFeeDetails", blocking)]
    fn query_fee_details(&self, extrinsic: Bytes, at: Option<H256>) -> RpcResult<Value>;
}

/// `RuntimeDispatchInfo` of `pallet-transaction-payment`: weight, class, fee without tip.
type DispatchInfo = ((Compact<u64>, Compact<u64>), u8, Balance);
/// `FeeDetails` without its tip, which is not encoded: base, length and weight fee.
type FeeDetails = Option<(Balance, Balance, Balance)>;

impl Node {
    fn payment<T: Decode>(&self, method: &str, extrinsic: &Bytes, at: Option<H256>) -> Result<T, Failure> {
        let length = u32::try_from(extrinsic.len()).map_err(|_| Coded::from(Code::TooLarge))?;
        let input = [extrinsic.0.as_slice(), &length.encode()].concat();
        let output = self.0.call(&self.at(at), method, &input)?;
        T::decode(&mut &*output)
            .map_err(|_| Coded::new(Code::Internal, format!("{method} answers in another form")).into())
    }
}

impl PaymentServer for Node {
    fn query_info(&self, extrinsic: Bytes, at: Option<H256>) -> RpcResult<Value> {
        let ((time, size), class, fee): DispatchInfo =
            self.payment("TransactionPaymentApi_query_info", &extrinsic, at)?;
        let class = ["normal", "operational", "mandatory"].get(usize::from(class)).copied().unwrap_or("normal");
        Ok(json!({
            "weight": { "ref_time": time.0, "proof_size": size.0 },
            "class": class,
            "partialFee": fee.to_string(),
        }))
    }

    fn query_fee_details(&self, extrinsic: Bytes, at: Option<H256>) -> RpcResult<Value> {
        let details: FeeDetails = self.payment("TransactionPaymentApi_query_fee_details", &extrinsic, at)?;
        let hex = |fee: Balance| format!("{fee:#x}");
        Ok(match details {
            None => json!({ "inclusionFee": null }),
            Some((base, length, weight)) => json!({
                "inclusionFee": { "baseFee": hex(base), "lenFee": hex(length), "adjustedWeightFee": hex(weight) }
            }),
        })
    }
}
