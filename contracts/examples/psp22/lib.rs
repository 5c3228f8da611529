//! A fungible token by the [PSP22 standard](https://github.com/w3f/PSPs/blob/master/PSPs/psp-22.md).
//!
//! What it shows: a standard's trait with its fixed selectors, events, errors as values and checked arithmetic. The
//! standard lets anyone ask for anyone's balance and so does this contract: wallets and other contracts expect it.
//! For balances that only their owner can read, see the `vault` example, which holds tokens of this one.
//!
//! ```sh
//! phala build contracts/examples/psp22
//! phala deploy contracts/target/ink/psp22/psp22.contract new 1000000 'Some("Example")' 'Some("EXM")' 12 --suri //Alice
//! phala query ADDRESS PSP22::balance_of //Alice
//! phala send ADDRESS PSP22::transfer //Bob 250 0x --suri //Alice
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

mod standard;

pub use standard::{PSP22Error, PSP22Metadata, PSP22};

/// The contract.
#[ink::contract]
mod token {
    use super::{PSP22Error, PSP22Metadata, PSP22};
    use ink::prelude::{string::String, vec::Vec};
    use ink::storage::Mapping;

    /// Tokens were moved, made (`from` is `None`) or destroyed (`to` is `None`).
    #[ink(event)]
    pub struct Transfer {
        #[ink(topic)]
        from: Option<AccountId>,
        #[ink(topic)]
        to: Option<AccountId>,
        value: u128,
    }

    /// `spender` may now move `amount` of the owner's tokens in all.
    #[ink(event)]
    pub struct Approval {
        #[ink(topic)]
        owner: AccountId,
        #[ink(topic)]
        spender: AccountId,
        amount: u128,
    }

    /// Who has how much, and who may move how much of it.
    #[ink(storage)]
    pub struct Token {
        total: u128,
        balances: Mapping<AccountId, u128>,
        allowances: Mapping<(AccountId, AccountId), u128>,
        name: Option<String>,
        symbol: Option<String>,
        decimals: u8,
    }

    impl Token {
        /// A token whose whole supply belongs to the account that makes it.
        #[ink(constructor)]
        pub fn new(supply: u128, name: Option<String>, symbol: Option<String>, decimals: u8) -> Self {
            let caller = Self::env().caller();
            let mut balances = Mapping::default();
            if supply > 0 {
                balances.insert(caller, &supply);
                Self::env().emit_event(Transfer { from: None, to: Some(caller), value: supply });
            }
            Self { total: supply, balances, allowances: Mapping::default(), name, symbol, decimals }
        }

        fn balance(&self, owner: AccountId) -> u128 {
            self.balances.get(owner).unwrap_or_default()
        }

        fn allowed(&self, owner: AccountId, spender: AccountId) -> u128 {
            self.allowances.get((owner, spender)).unwrap_or_default()
        }

        fn set_balance(&mut self, owner: AccountId, value: u128) {
            if value == 0 {
                self.balances.remove(owner);
            } else {
                self.balances.insert(owner, &value);
            }
        }

        fn set_allowance(&mut self, owner: AccountId, spender: AccountId, amount: u128) {
            if amount == 0 {
                self.allowances.remove((owner, spender));
            } else {
                self.allowances.insert((owner, spender), &amount);
            }
            self.env().emit_event(Approval { owner, spender, amount });
        }

        fn move_tokens(&mut self, from: AccountId, to: AccountId, value: u128) -> Result<(), PSP22Error> {
            if from == to || value == 0 {
                return Ok(());
            }
            let rest = self.balance(from).checked_sub(value).ok_or(PSP22Error::InsufficientBalance)?;
            // Cannot overflow while the sum of all balances is `total`; checked all the same.
            let sum = self.balance(to).checked_add(value).ok_or(PSP22Error::InsufficientBalance)?;
            self.set_balance(from, rest);
            self.set_balance(to, sum);
            self.env().emit_event(Transfer { from: Some(from), to: Some(to), value });
            Ok(())
        }
    }

    impl PSP22 for Token {
        #[ink(message)]
        fn total_supply(&self) -> u128 {
            self.total
        }

        #[ink(message)]
        fn balance_of(&self, owner: AccountId) -> u128 {
            self.balance(owner)
        }

        #[ink(message)]
        fn allowance(&self, owner: AccountId, spender: AccountId) -> u128 {
            self.allowed(owner, spender)
        }

        #[ink(message)]
        fn transfer(&mut self, to: AccountId, value: u128, _data: Vec<u8>) -> Result<(), PSP22Error> {
            let caller = self.env().caller();
            self.move_tokens(caller, to, value)
        }

        #[ink(message)]
        fn transfer_from(
            &mut self,
            from: AccountId,
            to: AccountId,
            value: u128,
            _data: Vec<u8>,
        ) -> Result<(), PSP22Error> {
            let caller = self.env().caller();
            if caller == from || from == to || value == 0 {
                return self.move_tokens(from, to, value);
            }
            let rest = self.allowed(from, caller).checked_sub(value).ok_or(PSP22Error::InsufficientAllowance)?;
            self.move_tokens(from, to, value)?;
            self.set_allowance(from, caller, rest);
            Ok(())
        }

        #[ink(message)]
        fn approve(&mut self, spender: AccountId, value: u128) -> Result<(), PSP22Error> {
            let owner = self.env().caller();
            if owner != spender {
                self.set_allowance(owner, spender, value);
            }
            Ok(())
        }

        #[ink(message)]
        fn increase_allowance(&mut self, spender: AccountId, delta_value: u128) -> Result<(), PSP22Error> {
            let owner = self.env().caller();
            if owner != spender && delta_value > 0 {
                let amount = self.allowed(owner, spender).saturating_add(delta_value);
                self.set_allowance(owner, spender, amount);
            }
            Ok(())
        }

        #[ink(message)]
        fn decrease_allowance(&mut self, spender: AccountId, delta_value: u128) -> Result<(), PSP22Error> {
            let owner = self.env().caller();
            if owner != spender && delta_value > 0 {
                let allowed = self.allowed(owner, spender);
                let rest = allowed.checked_sub(delta_value).ok_or(PSP22Error::InsufficientAllowance)?;
                self.set_allowance(owner, spender, rest);
            }
            Ok(())
        }
    }

    impl PSP22Metadata for Token {
        #[ink(message)]
        fn token_name(&self) -> Option<String> {
            self.name.clone()
        }

        #[ink(message)]
        fn token_symbol(&self) -> Option<String> {
            self.symbol.clone()
        }

        #[ink(message)]
        fn token_decimals(&self) -> u8 {
            self.decimals
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::env::{test, DefaultEnvironment};

        type Accounts = test::DefaultAccounts<DefaultEnvironment>;

        fn accounts() -> Accounts {
            test::default_accounts::<DefaultEnvironment>()
        }

        fn call_as(caller: AccountId) {
            test::set_caller::<DefaultEnvironment>(caller);
        }

        fn token(supply: u128) -> Token {
            call_as(accounts().alice);
            Token::new(supply, Some(String::from("Example")), None, 12)
        }

        #[ink::test]
        fn supply_belongs_to_the_maker() {
            let token = token(100);
            assert_eq!((token.total_supply(), token.balance_of(accounts().alice)), (100, 100));
            assert_eq!((token.token_name().as_deref(), token.token_symbol()), (Some("Example"), None));
            assert_eq!(token.token_decimals(), 12);
            assert_eq!(test::recorded_events().count(), 1);
        }

        #[ink::test]
        fn transfer_moves_and_keeps_the_sum() {
            let mut token = token(100);
            assert_eq!(token.transfer(accounts().bob, 30, Vec::new()), Ok(()));
            assert_eq!((token.balance_of(accounts().alice), token.balance_of(accounts().bob)), (70, 30));
            assert_eq!(token.transfer(accounts().bob, 71, Vec::new()), Err(PSP22Error::InsufficientBalance));
            assert_eq!(token.transfer(accounts().alice, 70, Vec::new()), Ok(()));
            assert_eq!((token.balance_of(accounts().alice), token.balance_of(accounts().bob)), (70, 30));
        }

        #[ink::test]
        fn allowance_is_spent_once() {
            let mut token = token(100);
            let Accounts { alice, bob, charlie, .. } = accounts();
            assert_eq!(token.approve(bob, 40), Ok(()));
            call_as(bob);
            assert_eq!(token.transfer_from(alice, charlie, 25, Vec::new()), Ok(()));
            assert_eq!(token.allowance(alice, bob), 15);
            assert_eq!(token.transfer_from(alice, charlie, 16, Vec::new()), Err(PSP22Error::InsufficientAllowance));
            assert_eq!(token.balance_of(charlie), 25);
        }

        #[ink::test]
        fn failed_transfer_from_keeps_the_allowance() {
            let mut token = token(10);
            let Accounts { alice, bob, charlie, .. } = accounts();
            assert_eq!(token.approve(bob, 40), Ok(()));
            call_as(bob);
            assert_eq!(token.transfer_from(alice, charlie, 11, Vec::new()), Err(PSP22Error::InsufficientBalance));
            assert_eq!((token.allowance(alice, bob), token.balance_of(alice)), (40, 10));
        }

        #[ink::test]
        fn allowance_goes_up_and_down() {
            let mut token = token(1);
            let Accounts { alice, bob, .. } = accounts();
            assert_eq!(token.increase_allowance(bob, u128::MAX), Ok(()));
            assert_eq!(token.increase_allowance(bob, 1), Ok(()));
            assert_eq!(token.allowance(alice, bob), u128::MAX);
            assert_eq!(token.decrease_allowance(bob, u128::MAX), Ok(()));
            assert_eq!(token.decrease_allowance(bob, 1), Err(PSP22Error::InsufficientAllowance));
        }
    }
}
