//! The functions with their numbers and encodings.

use crate::{
    later::Callback,
    types::{
        HttpError, HttpRequest, HttpResponse, HttpResult, Kept, MapResult, MessageError, SigType, StorageQuotaExceeded,
        WithdrawError,
    },
};
use ink::{
    env::{chain_extension::FromStatusCode, DefaultEnvironment, Environment},
    prelude::{string::String, vec::Vec},
    primitives::{AccountId, Hash},
};

/// Functions do not fail by a status: what can go wrong is in their answers, and what a contract must not do traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub struct NoStatus;

impl FromStatusCode for NoStatus {
    fn from_status_code(_: u32) -> Result<(), Self> {
        Ok(())
    }
}

/// The functions, as the network numbers them. Contracts use what the crate makes of them.
#[ink::chain_extension(extension = 0)]
pub trait PinkExt {
    type ErrorCode = NoStatus;

    #[ink(function = 1, handle_status = false)]
    fn http_request(request: HttpRequest) -> HttpResponse;
    #[ink(function = 2, handle_status = false)]
    fn sign(kind: SigType, key: &[u8], message: &[u8]) -> Vec<u8>;
    #[ink(function = 3, handle_status = false)]
    fn verify(kind: SigType, public: &[u8], message: &[u8], signature: &[u8]) -> bool;
    #[ink(function = 4, handle_status = false)]
    fn derive_sr25519_key(salt: &[u8]) -> Vec<u8>;
    #[ink(function = 5, handle_status = false)]
    fn get_public_key(kind: SigType, key: &[u8]) -> Vec<u8>;
    #[ink(function = 6, handle_status = false)]
    fn cache_set(key: &[u8], value: &[u8]) -> Kept<(), StorageQuotaExceeded>;
    #[ink(function = 7, handle_status = false)]
    fn cache_set_expiration(key: &[u8], seconds: u64);
    #[ink(function = 8, handle_status = false)]
    fn cache_get(key: &[u8]) -> Option<Vec<u8>>;
    #[ink(function = 9, handle_status = false)]
    fn cache_remove(key: &[u8]) -> Option<Vec<u8>>;
    #[ink(function = 10, handle_status = false)]
    fn log(level: u8, text: &str);
    #[ink(function = 11, handle_status = false)]
    fn getrandom(length: u8) -> Vec<u8>;
    #[ink(function = 12, handle_status = false)]
    fn is_in_transaction() -> bool;
    #[ink(function = 13, handle_status = false)]
    fn ecdsa_sign_prehashed(key: &[u8], hash: [u8; 32]) -> [u8; 65];
    #[ink(function = 14, handle_status = false)]
    fn ecdsa_verify_prehashed(signature: [u8; 65], hash: [u8; 32], public: [u8; 33]) -> bool;
    #[ink(function = 15, handle_status = false)]
    fn system_contract_id() -> AccountId;
    #[ink(function = 16, handle_status = false)]
    fn balance_of(account: AccountId) -> (u128, u128);
    #[ink(function = 17, handle_status = false)]
    fn worker_pubkey() -> [u8; 32];
    #[ink(function = 18, handle_status = false)]
    fn untrusted_millis_since_unix_epoch() -> u64;
    #[ink(function = 19, handle_status = false)]
    fn code_exists(hash: Hash, sidevm: bool) -> bool;
    #[ink(function = 20, handle_status = false)]
    fn import_latest_system_code(payer: AccountId) -> Option<Hash>;
    #[ink(function = 21, handle_status = false)]
    fn runtime_version() -> (u32, u32);
    #[ink(function = 22, handle_status = false)]
    fn batch_http_request(requests: Vec<HttpRequest>, timeout_ms: u64) -> Kept<Vec<HttpResult>, HttpError>;
    #[ink(function = 23, handle_status = false)]
    fn current_event_chain_head() -> (u64, Hash);
    // What a script would come to is never sent: the answer is always an error.
    #[ink(function = 24, handle_status = false)]
    fn js_eval(codes: Vec<(u8, String)>, arguments: Vec<String>) -> Kept<(), String>;
    #[ink(function = 25, handle_status = false)]
    fn worker_sgx_quote() -> Option<Vec<u8>>;
    #[ink(function = 100, handle_status = false)]
    fn log_reader(who: Option<AccountId>, allowed: bool);
    #[ink(function = 101, handle_status = false)]
    fn request(request: HttpRequest, timeout_ms: u64, callback: Callback) -> u64;
    #[ink(function = 102, handle_status = false)]
    fn set_timer(delay_ms: u64, period_ms: u64, callback: Callback) -> u64;
    #[ink(function = 103, handle_status = false)]
    fn cancel_timer(timer: u64);
    #[ink(function = 104, handle_status = false)]
    fn withdraw(to: AccountId, amount: u128) -> Kept<(), WithdrawError>;
    #[ink(function = 105, handle_status = false)]
    fn chain_call(call: &[u8]);
    #[ink(function = 106, handle_status = false)]
    fn message(to: AccountId, input: Vec<u8>, value: u128) -> Kept<(), MessageError>;
    #[ink(function = 108, handle_status = false)]
    fn open_hook(path: &str, selector: [u8; 4], gas: u64, flags: u32);
    #[ink(function = 109, handle_status = false)]
    fn close_hook(path: &str);
    #[ink(function = 112, handle_status = false)]
    fn map(selector: [u8; 4], inputs: Vec<Vec<u8>>) -> Vec<MapResult>;
}

/// The environment of contracts on Phala: ink!'s own, with [`PinkExt`]. To be named as
/// `#[ink::contract(env = pink::PinkEnvironment)]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[ink::scale_derive(TypeInfo)]
pub enum PinkEnvironment {}

impl Environment for PinkEnvironment {
    const MAX_EVENT_TOPICS: usize = <DefaultEnvironment as Environment>::MAX_EVENT_TOPICS;

    type AccountId = <DefaultEnvironment as Environment>::AccountId;
    type Balance = <DefaultEnvironment as Environment>::Balance;
    type Hash = <DefaultEnvironment as Environment>::Hash;
    type Timestamp = <DefaultEnvironment as Environment>::Timestamp;
    type BlockNumber = <DefaultEnvironment as Environment>::BlockNumber;
    type ChainExtension = PinkExt;
}
