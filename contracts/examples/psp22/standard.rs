//! The standard: traits with fixed selectors, and its errors. Other contracts may copy this file.

use ink::prelude::{string::String, vec::Vec};
use ink::primitives::AccountId;

/// Why a token refused.
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

/// Balances and allowances.
#[ink::trait_definition]
pub trait PSP22 {
    /// All tokens there are.
    #[ink(message, selector = 0x162df8c2)]
    fn total_supply(&self) -> u128;

    /// The tokens of this account.
    #[ink(message, selector = 0x6568382f)]
    fn balance_of(&self, owner: AccountId) -> u128;

    /// How many of the owner's tokens the spender may move.
    #[ink(message, selector = 0x4d47d921)]
    fn allowance(&self, owner: AccountId, spender: AccountId) -> u128;

    /// Moves tokens of the caller.
    #[ink(message, selector = 0xdb20f9f5)]
    fn transfer(&mut self, to: AccountId, value: u128, data: Vec<u8>) -> Result<(), PSP22Error>;

    /// Moves tokens of another account, which allowed it to the caller.
    #[ink(message, selector = 0x54b3c76e)]
    fn transfer_from(&mut self, from: AccountId, to: AccountId, value: u128, data: Vec<u8>) -> Result<(), PSP22Error>;

    /// Lets the spender move so many of the caller's tokens in all, whatever it might before.
    #[ink(message, selector = 0xb20f1bbd)]
    fn approve(&mut self, spender: AccountId, value: u128) -> Result<(), PSP22Error>;

    /// Lets the spender move so many more of the caller's tokens.
    #[ink(message, selector = 0x96d6b57a)]
    fn increase_allowance(&mut self, spender: AccountId, delta_value: u128) -> Result<(), PSP22Error>;

    /// Lets the spender move so many fewer of the caller's tokens.
    #[ink(message, selector = 0xfecb57d5)]
    fn decrease_allowance(&mut self, spender: AccountId, delta_value: u128) -> Result<(), PSP22Error>;
}

/// How to show the token.
#[ink::trait_definition]
pub trait PSP22Metadata {
    /// Its name.
    #[ink(message, selector = 0x3d261bd4)]
    fn token_name(&self) -> Option<String>;

    /// Its symbol.
    #[ink(message, selector = 0x34205be5)]
    fn token_symbol(&self) -> Option<String>;

    /// How many decimals a whole token has.
    #[ink(message, selector = 0x7271b782)]
    fn token_decimals(&self) -> u8;
}
