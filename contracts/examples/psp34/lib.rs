//! A collection of unique tokens by the [PSP34 standard](https://github.com/w3f/PSPs/blob/master/PSPs/psp-34.md).
//!
//! What it shows: enums as arguments, approvals for one token or for all, and a message that only the owner of the
//! contract may send. `collection_id` is the contract's own address, as the standard advises.
//!
//! ```sh
//! phala build contracts/examples/psp34
//! phala deploy contracts/target/ink/psp34/psp34.contract new --suri //Alice
//! phala send ADDRESS PSP34Mintable::mint //Bob 'U32(1)' --suri //Alice
//! phala query ADDRESS PSP34::owner_of 'U32(1)'
//! phala send ADDRESS PSP34::transfer //Charlie 'U32(1)' 0x --suri //Bob
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

mod standard;

pub use standard::{Id, PSP34Error, PSP34Mintable, PSP34};

/// The contract.
#[ink::contract]
mod collection {
    use super::{Id, PSP34Error, PSP34Mintable, PSP34};
    use ink::prelude::{string::String, vec::Vec};
    use ink::storage::Mapping;

    /// A token was moved, or made (`from` is `None`).
    #[ink(event)]
    pub struct Transfer {
        #[ink(topic)]
        from: Option<AccountId>,
        #[ink(topic)]
        to: Option<AccountId>,
        #[ink(topic)]
        id: Id,
    }

    /// `to` may, or may no longer, move one token of `from`, or without an id all of them.
    #[ink(event)]
    pub struct Approval {
        #[ink(topic)]
        from: AccountId,
        #[ink(topic)]
        to: AccountId,
        #[ink(topic)]
        id: Option<Id>,
        approved: bool,
    }

    /// Whose token is which, and who may move it besides.
    #[ink(storage)]
    pub struct Collection {
        owner: AccountId,
        total: u128,
        owners: Mapping<Id, AccountId>,
        balances: Mapping<AccountId, u32>,
        operators: Mapping<(AccountId, AccountId, Option<Id>), ()>,
    }

    impl Collection {
        /// An empty collection. The account that makes it may mint.
        #[ink(constructor)]
        pub fn new() -> Self {
            Self {
                owner: Self::env().caller(),
                total: 0,
                owners: Mapping::default(),
                balances: Mapping::default(),
                operators: Mapping::default(),
            }
        }

        fn allowed(&self, owner: AccountId, operator: AccountId, id: Option<Id>) -> bool {
            self.operators.contains((owner, operator, Option::<Id>::None))
                || (id.is_some() && self.operators.contains((owner, operator, id)))
        }

        fn add(&mut self, to: AccountId, id: &Id) -> Result<(), PSP34Error> {
            let balance = self.balances.get(to).unwrap_or_default();
            let balance = balance.checked_add(1).ok_or_else(|| PSP34Error::Custom(String::from("too many tokens")))?;
            self.balances.insert(to, &balance);
            self.owners.insert(id, &to);
            Ok(())
        }
    }

    impl PSP34 for Collection {
        #[ink(message)]
        fn collection_id(&self) -> Id {
            let account = self.env().account_id();
            Id::Bytes(<AccountId as AsRef<[u8]>>::as_ref(&account).to_vec())
        }

        #[ink(message)]
        fn balance_of(&self, owner: AccountId) -> u32 {
            self.balances.get(owner).unwrap_or_default()
        }

        #[ink(message)]
        fn owner_of(&self, id: Id) -> Option<AccountId> {
            self.owners.get(id)
        }

        #[ink(message)]
        fn allowance(&self, owner: AccountId, operator: AccountId, id: Option<Id>) -> bool {
            self.allowed(owner, operator, id)
        }

        #[ink(message)]
        fn approve(&mut self, operator: AccountId, id: Option<Id>, approved: bool) -> Result<(), PSP34Error> {
            let mut owner = self.env().caller();
            if let Some(id) = &id {
                let holder = self.owners.get(id).ok_or(PSP34Error::TokenNotExists)?;
                // Who may move all tokens of the holder may also approve others for one of them.
                if holder != owner && !self.allowed(holder, owner, None) {
                    return Err(PSP34Error::NotApproved);
                }
                owner = holder;
            }
            if owner == operator {
                return Err(PSP34Error::SelfApprove);
            }
            if approved {
                self.operators.insert((owner, operator, id.clone()), &());
            } else {
                self.operators.remove((owner, operator, id.clone()));
            }
            self.env().emit_event(Approval { from: owner, to: operator, id, approved });
            Ok(())
        }

        #[ink(message)]
        fn transfer(&mut self, to: AccountId, id: Id, _data: Vec<u8>) -> Result<(), PSP34Error> {
            let caller = self.env().caller();
            let from = self.owners.get(&id).ok_or(PSP34Error::TokenNotExists)?;
            if from != caller && !self.allowed(from, caller, Some(id.clone())) {
                return Err(PSP34Error::NotApproved);
            }
            // An approval for this token alone ends when the token leaves; a caller that owns it has none.
            self.operators.remove((from, caller, Some(id.clone())));
            if from == to {
                return Ok(());
            }
            let rest = self.balances.get(from).unwrap_or_default().saturating_sub(1);
            self.balances.insert(from, &rest);
            self.add(to, &id)?;
            self.env().emit_event(Transfer { from: Some(from), to: Some(to), id });
            Ok(())
        }

        #[ink(message)]
        fn total_supply(&self) -> u128 {
            self.total
        }
    }

    impl PSP34Mintable for Collection {
        #[ink(message)]
        fn mint(&mut self, to: AccountId, id: Id) -> Result<(), PSP34Error> {
            if self.env().caller() != self.owner {
                return Err(PSP34Error::NotApproved);
            }
            if self.owners.contains(&id) {
                return Err(PSP34Error::TokenExists);
            }
            self.add(to, &id)?;
            self.total = self.total.saturating_add(1);
            self.env().emit_event(Transfer { from: None, to: Some(to), id });
            Ok(())
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

        /// A collection of Alice's, in which Bob has token 1.
        fn collection() -> Collection {
            call_as(accounts().alice);
            let mut collection = Collection::new();
            assert_eq!(collection.mint(accounts().bob, Id::U32(1)), Ok(()));
            collection
        }

        #[ink::test]
        fn only_the_owner_mints_and_each_id_once() {
            let mut collection = collection();
            assert_eq!(collection.mint(accounts().eve, Id::U32(1)), Err(PSP34Error::TokenExists));
            call_as(accounts().bob);
            assert_eq!(collection.mint(accounts().bob, Id::U32(2)), Err(PSP34Error::NotApproved));
            assert_eq!((collection.total_supply(), collection.balance_of(accounts().bob)), (1, 1));
            assert_eq!(collection.owner_of(Id::U32(1)), Some(accounts().bob));
            assert_eq!(collection.owner_of(Id::U8(1)), None);
        }

        #[ink::test]
        fn strangers_cannot_move_a_token() {
            let mut collection = collection();
            let Accounts { bob, eve, .. } = accounts();
            call_as(eve);
            assert_eq!(collection.transfer(eve, Id::U32(1), Vec::new()), Err(PSP34Error::NotApproved));
            assert_eq!(collection.transfer(eve, Id::U32(9), Vec::new()), Err(PSP34Error::TokenNotExists));
            call_as(bob);
            assert_eq!(collection.transfer(eve, Id::U32(1), Vec::new()), Ok(()));
            assert_eq!((collection.balance_of(bob), collection.balance_of(eve)), (0, 1));
        }

        #[ink::test]
        fn approval_for_one_token_ends_with_the_transfer() {
            let mut collection = collection();
            let Accounts { bob, charlie, eve, .. } = accounts();
            call_as(bob);
            assert_eq!(collection.approve(bob, None, true), Err(PSP34Error::SelfApprove));
            assert_eq!(collection.approve(charlie, Some(Id::U32(1)), true), Ok(()));
            assert!(collection.allowance(bob, charlie, Some(Id::U32(1))));
            assert!(!collection.allowance(bob, charlie, None));
            call_as(charlie);
            assert_eq!(collection.transfer(eve, Id::U32(1), Vec::new()), Ok(()));
            assert!(!collection.allowance(bob, charlie, Some(Id::U32(1))));
            call_as(eve);
            assert_eq!(collection.transfer(bob, Id::U32(1), Vec::new()), Ok(()));
            call_as(charlie);
            assert_eq!(collection.transfer(eve, Id::U32(1), Vec::new()), Err(PSP34Error::NotApproved));
        }

        #[ink::test]
        fn approval_for_all_can_be_taken_back() {
            let mut collection = collection();
            let Accounts { bob, charlie, .. } = accounts();
            call_as(bob);
            assert_eq!(collection.approve(charlie, None, true), Ok(()));
            assert!(collection.allowance(bob, charlie, Some(Id::U32(1))));
            assert_eq!(collection.approve(charlie, None, false), Ok(()));
            call_as(charlie);
            assert_eq!(collection.transfer(charlie, Id::U32(1), Vec::new()), Err(PSP34Error::NotApproved));
        }
    }
}
