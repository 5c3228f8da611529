//! Errors on the wire: Substrate's numbers where clients look for them, and our code in `data`.

use jsonrpsee::types::ErrorObjectOwned;
use phala_primitives::{Code, Coded};
use serde::Serialize;

/// What Substrate answers to an extrinsic that is not valid; polkadot.js and wallets look for it.
const INVALID_TRANSACTION: i32 = 1010;
/// What Substrate answers when the pool let the extrinsic go at once.
const IMMEDIATELY_DROPPED: i32 = 1016;
/// JSON-RPC's "invalid params".
const INVALID_PARAMS: i32 = -32602;

#[derive(Serialize)]
struct Data<'a> {
    code: u16,
    detail: &'a str,
}

/// An error of a method.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Coded);

impl From<Coded> for Failure {
    fn from(error: Coded) -> Self {
        Self(error)
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(Failure(error): Failure) -> Self {
        let (number, message) = match error.known() {
            Some(Code::BadExtrinsic) => (INVALID_TRANSACTION, format!("Invalid Transaction: {error}")),
            Some(Code::PoolFull) => (IMMEDIATELY_DROPPED, format!("Immediately Dropped: {error}")),
            Some(Code::Malformed | Code::TooLarge | Code::BadArgument) => (INVALID_PARAMS, error.to_string()),
            _ => (i32::from(error.code), error.to_string()),
        };
        Self::owned(number, message, Some(Data { code: error.code, detail: &error.detail }))
    }
}

/// Refuses a request that asks for too much at once.
pub(crate) fn within(count: usize, limit: usize, what: &str) -> Result<(), Failure> {
    if count > limit {
        return Err(Failure(Coded::new(Code::TooLarge, format!("at most {limit} {what} at once"))));
    }
    Ok(())
}
