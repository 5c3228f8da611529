//! Money and calls that leave the cluster for the chain.
//!
//! Within the cluster ink!'s own functions move money: `#[ink(message, payable)]`, `self.env().transferred_value()`,
//! `self.env().transfer(…)`, `self.env().balance()`.

use crate::ext;
use ink::primitives::AccountId;

pub use crate::types::WithdrawError;

/// Pays an account of the chain, at least 0.01 PHA. It arrives some blocks after the command; what the chain cannot
/// pay comes back to the contract. In a query nothing leaves.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_balance(5_000_000_000_000);
/// let bob = [2; 32].into();
/// assert_eq!(pink::withdraw(bob, 2_000_000_000_000), Ok(()));
/// assert_eq!(pink::withdraw(bob, 4_000_000_000_000), Err(pink::WithdrawError::TooLittle));
/// assert_eq!(mock.withdrawals(), [(bob, 2_000_000_000_000)]);
/// ```
pub fn withdraw(to: AccountId, amount: u128) -> Result<(), WithdrawError> {
    ext().withdraw(to, amount).0
}

/// Has an encoded call of at most 4 KiB dispatched on the chain, signed by the account whose address is the contract's:
/// it pays the fee, so it must own something on the chain, which [`withdraw`] to the own address gives it. Only
/// transfers, batches, deposits, messages to contracts and [`watch`](crate::watch) are let through, and only of contracts
/// that the chain has placed, which those that contracts create are not. What comes of it is an event of the chain. In
/// a query nothing leaves.
///
/// ```
/// # let mock = pink::mock::install();
/// // The numbers of `balances.transferKeepAlive`, an account, an amount.
/// let call = [&[2, 3, 0][..], &[7; 32], &[4]].concat();
/// pink::chain_call(&call);
/// assert_eq!(mock.chain_calls(), [call]);
/// ```
pub fn chain_call(call: &[u8]) {
    ext().chain_call(call);
}
