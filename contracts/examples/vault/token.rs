//! What the vault needs of a PSP22 token. Selectors decide which message is called, so a caller may define just the
//! part of a trait that it uses; it need not depend on the other contract's crate.

use ink::prelude::{string::String, vec::Vec};
use ink::primitives::AccountId;

/// Why a token refused, as the standard defines it.
#[derive(Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum PSP22Error {
    /// A reason of the implementation's own.
    Custom(String),
    /// The account has less than it should move.
    InsufficientBalance,
    /// The spender may move less than it should.
    InsufficientAllowance,
    /// The recipient is the zero address.
    ZeroRecipientAddress,
    /// The sender is the zero address.
    ZeroSenderAddress,
    /// The recipient refused.
    SafeTransferCheckFailed(String),
}

/// The two messages of the standard that move tokens.
#[ink::trait_definition]
pub trait PSP22 {
    /// Moves tokens of the caller.
    #[ink(message, selector = 0xdb20f9f5)]
    fn transfer(&mut self, to: AccountId, value: u128, data: Vec<u8>) -> Result<(), PSP22Error>;

    /// Moves tokens of another account, which allowed it to the caller.
    #[ink(message, selector = 0x54b3c76e)]
    fn transfer_from(&mut self, from: AccountId, to: AccountId, value: u128, data: Vec<u8>) -> Result<(), PSP22Error>;
}

type Token = ink::contract_ref!(PSP22, ink::env::DefaultEnvironment);

/// Sends tokens of this contract. `None` if the token cannot be called.
pub fn transfer(token: AccountId, to: AccountId, value: u128) -> Option<Result<(), PSP22Error>> {
    use ink::codegen::TraitCallBuilder;
    let mut token: Token = token.into();
    token.call_mut().transfer(to, value, Vec::new()).try_invoke().ok()?.ok()
}

/// Fetches tokens that `from` approved this contract for. `None` if the token cannot be called.
pub fn transfer_from(token: AccountId, from: AccountId, to: AccountId, value: u128) -> Option<Result<(), PSP22Error>> {
    use ink::codegen::TraitCallBuilder;
    let mut token: Token = token.into();
    token.call_mut().transfer_from(from, to, value, Vec::new()).try_invoke().ok()?.ok()
}
