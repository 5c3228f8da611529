//! A vault keeps tokens of a PSP22 contract, and tells each depositor what is theirs and nobody what is others'.
//!
//! What it shows: one contract calling another through its trait, and balances that really are private: they are
//! encrypted in the cluster's state, requests and answers are sealed to the replica's enclave, and the only message
//! that reveals one answers its owner. The token itself shows the sum that the vault holds, not its parts.
//! (Deposits and withdrawals are transfers of the token; within the cluster they stay confidential as well, but they
//! change what the token's `balance_of` answers about the depositor.)
//!
//! ```sh
//! phala build contracts/examples/vault
//! phala deploy contracts/target/ink/vault/vault.contract new TOKEN_ADDRESS --suri //Alice
//! phala send TOKEN_ADDRESS PSP22::approve VAULT_ADDRESS 100 --suri //Alice
//! phala send VAULT_ADDRESS deposit 100 --suri //Alice
//! phala query VAULT_ADDRESS my_balance --suri //Alice
//! phala send VAULT_ADDRESS withdraw 40 --suri //Alice
//! ```
//! Token and vault must live in the same cluster.
#![cfg_attr(not(feature = "std"), no_std, no_main)]

mod token;

pub use token::{PSP22Error, PSP22};

/// The contract.
#[ink::contract]
mod vault {
    use super::{token, PSP22Error};
    use ink::storage::Mapping;

    /// Why the vault refused.
    #[derive(Debug, PartialEq, Eq)]
    #[ink::scale_derive(Encode, Decode, TypeInfo)]
    pub enum Error {
        /// The caller has less in the vault.
        InsufficientDeposit,
        /// The sum does not fit.
        Overflow,
        /// The token refused to move.
        Token(PSP22Error),
        /// There is no PSP22 contract at the token's address, or it failed.
        NoToken,
    }

    impl From<PSP22Error> for Error {
        fn from(error: PSP22Error) -> Self {
            Self::Token(error)
        }
    }

    /// The token's address and who put in how much.
    #[ink(storage)]
    pub struct Vault {
        token: AccountId,
        deposits: Mapping<AccountId, u128>,
    }

    impl Vault {
        /// A vault for this token.
        #[ink(constructor)]
        pub fn new(token: AccountId) -> Self {
            Self { token, deposits: Mapping::default() }
        }

        /// The token that the vault keeps.
        #[ink(message)]
        pub fn token(&self) -> AccountId {
            self.token
        }

        /// Takes so many tokens of the caller, who must have approved the vault for them.
        #[ink(message)]
        pub fn deposit(&mut self, value: u128) -> Result<(), Error> {
            let caller = self.env().caller();
            let sum = self.deposited(caller).checked_add(value).ok_or(Error::Overflow)?;
            token::transfer_from(self.token, caller, self.env().account_id(), value).ok_or(Error::NoToken)??;
            self.deposits.insert(caller, &sum);
            Ok(())
        }

        /// Gives the caller so many tokens back.
        #[ink(message)]
        pub fn withdraw(&mut self, value: u128) -> Result<(), Error> {
            let caller = self.env().caller();
            let rest = self.deposited(caller).checked_sub(value).ok_or(Error::InsufficientDeposit)?;
            // The deposit goes down before the token is called, and an `Err` below undoes it: ink! reverts a message
            // that returns one. So a token that calls back finds nothing to take twice.
            if rest == 0 {
                self.deposits.remove(caller);
            } else {
                self.deposits.insert(caller, &rest);
            }
            token::transfer(self.token, caller, value).ok_or(Error::NoToken)??;
            Ok(())
        }

        /// What the caller has in the vault. There is no message that tells what others have.
        #[ink(message)]
        pub fn my_balance(&self) -> u128 {
            self.deposited(self.env().caller())
        }

        fn deposited(&self, account: AccountId) -> u128 {
            self.deposits.get(account).unwrap_or_default()
        }
    }

    // Calls between contracts are not there in ink!'s off-chain environment: what crosses the boundary is tested on a
    // network. Here is what the vault decides alone.
    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::env::{test, DefaultEnvironment};

        /// A vault in which Alice has 100.
        fn vault() -> (Vault, test::DefaultAccounts<DefaultEnvironment>) {
            let accounts = test::default_accounts::<DefaultEnvironment>();
            test::set_caller::<DefaultEnvironment>(accounts.alice);
            let mut vault = Vault::new(accounts.django);
            vault.deposits.insert(accounts.alice, &100);
            (vault, accounts)
        }

        #[ink::test]
        fn tells_only_the_callers_balance() {
            let (vault, accounts) = vault();
            assert_eq!(vault.my_balance(), 100);
            test::set_caller::<DefaultEnvironment>(accounts.bob);
            assert_eq!(vault.my_balance(), 0);
            assert_eq!(vault.token(), accounts.django);
        }

        #[ink::test]
        fn nobody_withdraws_more_than_was_deposited() {
            let (mut vault, accounts) = vault();
            assert_eq!(vault.withdraw(101), Err(Error::InsufficientDeposit));
            test::set_caller::<DefaultEnvironment>(accounts.bob);
            assert_eq!(vault.withdraw(1), Err(Error::InsufficientDeposit));
            assert_eq!(vault.deposited(accounts.alice), 100);
        }

        #[ink::test]
        fn sum_that_does_not_fit_is_refused() {
            let (mut vault, _) = vault();
            assert_eq!(vault.deposit(u128::MAX), Err(Error::Overflow));
            assert_eq!(vault.my_balance(), 100);
        }
    }
}
