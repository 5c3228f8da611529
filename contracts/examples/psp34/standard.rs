//! The standard: traits with fixed selectors, ids and errors. Other contracts may copy this file.

use ink::prelude::{string::String, vec::Vec};
use ink::primitives::AccountId;

/// Name of a token within its collection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
#[cfg_attr(feature = "std", derive(ink::storage::traits::StorageLayout))]
pub enum Id {
    /// An 8-bit number.
    U8(u8),
    /// A 16-bit number.
    U16(u16),
    /// A 32-bit number.
    U32(u32),
    /// A 64-bit number.
    U64(u64),
    /// A 128-bit number.
    U128(u128),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// Why a collection refused.
#[derive(Debug, PartialEq, Eq)]
#[ink::scale_derive(Encode, Decode, TypeInfo)]
pub enum PSP34Error {
    /// A reason of the implementation's own.
    Custom(String),
    /// An owner needs no approval of its own.
    SelfApprove,
    /// The caller is neither owner nor approved.
    NotApproved,
    /// There is a token of this id already.
    TokenExists,
    /// There is no token of this id.
    TokenNotExists,
    /// The recipient refused.
    SafeTransferCheckFailed(String),
}

/// Ownership and approvals.
#[ink::trait_definition]
pub trait PSP34 {
    /// What names this collection: its own address.
    #[ink(message, selector = 0xffa27a5f)]
    fn collection_id(&self) -> Id;

    /// How many tokens the account has.
    #[ink(message, selector = 0xcde7e55f)]
    fn balance_of(&self, owner: AccountId) -> u32;

    /// Whose token it is.
    #[ink(message, selector = 0x1168624d)]
    fn owner_of(&self, id: Id) -> Option<AccountId>;

    /// Whether the operator may move this token of the owner; without an id: all of them.
    #[ink(message, selector = 0x4790f55a)]
    fn allowance(&self, owner: AccountId, operator: AccountId, id: Option<Id>) -> bool;

    /// Lets the operator move one token of the caller, or without an id all of them; or forbids it again.
    #[ink(message, selector = 0x1932a8b0)]
    fn approve(&mut self, operator: AccountId, id: Option<Id>, approved: bool) -> Result<(), PSP34Error>;

    /// Moves a token of the caller, or one that the caller was approved for.
    #[ink(message, selector = 0x3128d61b)]
    fn transfer(&mut self, to: AccountId, id: Id, data: Vec<u8>) -> Result<(), PSP34Error>;

    /// All tokens there are.
    #[ink(message, selector = 0x628413fe)]
    fn total_supply(&self) -> u128;
}

/// Making tokens.
#[ink::trait_definition]
pub trait PSP34Mintable {
    /// Makes a token for the account; only the collection's owner may.
    #[ink(message, selector = 0x6c41f2ec)]
    fn mint(&mut self, to: AccountId, id: Id) -> Result<(), PSP34Error>;
}
