//! A till takes payments in PHA, keeps them in the cluster, and pays out: to accounts of the cluster, where nobody sees
//! it, or to accounts of the chain.
//!
//! ```sh
//! phala build contracts/examples/till
//! phala deploy contracts/target/ink/till/till.contract new --suri //Alice
//! phala deposit 100 --suri //Bob
//! phala send TILL_ADDRESS pay "order 7" --value 2.5 --suri //Bob
//! phala query TILL_ADDRESS takings --suri //Alice
//! phala send TILL_ADDRESS cash_up //Charlie 2000000000000 --suri //Alice
//! phala account //Charlie
//! ```
//! What is paid to its account on the chain, it counts after `watch`, once that account owns enough for the fees.
//! An extrinsic can pay as well: `clusters.sendMessage` with the address, the encoded call and a value.
#![cfg_attr(not(feature = "std"), no_std, no_main)]

/// The contract.
#[ink::contract(env = pink::PinkEnvironment)]
mod till {
    use ink::{
        prelude::{string::String, vec::Vec},
        scale::Decode,
    };

    /// Why the till stays shut.
    #[derive(Debug, PartialEq, Eq)]
    #[ink::scale_derive(Encode, Decode, TypeInfo)]
    pub enum Error {
        /// Only its owner may do that.
        NotOwner,
        /// There is not so much in it, or it would be left with dust.
        TooLittle,
        /// Less than an account of the chain can live with.
        TooSmall,
    }

    impl From<pink::WithdrawError> for Error {
        fn from(error: pink::WithdrawError) -> Self {
            match error {
                pink::WithdrawError::TooLittle => Self::TooLittle,
                pink::WithdrawError::TooSmall => Self::TooSmall,
            }
        }
    }

    /// Somebody has paid.
    #[ink(event)]
    pub struct Paid {
        /// Who.
        #[ink(topic)]
        pub from: AccountId,
        /// How much.
        pub amount: Balance,
        /// For what.
        pub reference: String,
    }

    /// Calls the till with what is paid to its account on the chain.
    const ON_CHAIN: [u8; 4] = [0, 0, 0, 3];

    /// Whose it is, what it took in so far, and what its account on the chain did.
    #[ink(storage)]
    pub struct Till {
        owner: AccountId,
        takings: Balance,
        on_chain: Balance,
    }

    impl Till {
        /// A till of the caller's, with what is paid along as its float.
        #[ink(constructor, payable)]
        pub fn new() -> Self {
            Self { owner: Self::env().caller(), takings: 0, on_chain: 0 }
        }

        /// Takes what is paid along.
        #[ink(message, payable)]
        pub fn pay(&mut self, reference: String) {
            let amount = self.env().transferred_value();
            self.takings = self.takings.saturating_add(amount);
            self.env().emit_event(Paid { from: self.env().caller(), amount, reference });
        }

        /// Gives money to an account or contract of this cluster.
        #[ink(message)]
        pub fn give(&mut self, to: AccountId, amount: Balance) -> Result<(), Error> {
            self.only_owner()?;
            self.env().transfer(to, amount).map_err(|_| Error::TooLittle)
        }

        /// Pays an account of the chain.
        #[ink(message)]
        pub fn cash_up(&mut self, to: AccountId, amount: Balance) -> Result<(), Error> {
            self.only_owner()?;
            Ok(pink::withdraw(to, amount)?)
        }

        /// Has an encoded call dispatched on the chain, by the account whose address is the till's. It pays the fee.
        #[ink(message)]
        pub fn dispatch(&mut self, call: Vec<u8>) -> Result<(), Error> {
            self.only_owner()?;
            pink::chain_call(&call);
            Ok(())
        }

        /// Counts what is paid to the till's account on the chain from some blocks on. That account pays for it, see
        /// `pink::watch`.
        #[ink(message)]
        pub fn watch(&mut self) -> Result<(), Error> {
            self.only_owner()?;
            pink::watch(&self.payments(), ON_CHAIN);
            Ok(())
        }

        /// Ends that.
        #[ink(message)]
        pub fn unwatch(&mut self) -> Result<(), Error> {
            self.only_owner()?;
            pink::unwatch(&self.payments(), ON_CHAIN);
            Ok(())
        }

        /// Takes note of a payment on the chain. Only the network calls it.
        #[ink(message, selector = 0x0000_0003)]
        pub fn paid(&mut self, event: pink::ChainEvent) {
            assert_eq!(self.env().caller(), self.env().account_id());
            let Ok((from, _, amount)) = <(AccountId, AccountId, Balance)>::decode(&mut &event.data[..]) else { return };
            self.on_chain = self.on_chain.saturating_add(amount);
            self.env().emit_event(Paid { from, amount, reference: "on the chain".into() });
        }

        /// What was paid on the chain so far.
        #[ink(message)]
        pub fn on_chain(&self) -> Balance {
            self.on_chain
        }

        /// What is in the till.
        #[ink(message)]
        pub fn balance(&self) -> Balance {
            self.env().balance()
        }

        /// What was paid so far.
        #[ink(message)]
        pub fn takings(&self) -> Balance {
            self.takings
        }

        fn payments(&self) -> pink::Events {
            pink::Events::payments_to(self.env().account_id().as_ref())
        }

        fn only_owner(&self) -> Result<(), Error> {
            match self.env().caller() == self.owner {
                true => Ok(()),
                false => Err(Error::NotOwner),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::{env::test, scale::Encode};

        const PHA: Balance = 1_000_000_000_000;

        fn accounts() -> test::DefaultAccounts<pink::PinkEnvironment> {
            test::default_accounts::<pink::PinkEnvironment>()
        }

        #[ink::test]
        fn it_counts_what_is_paid_and_only_its_owner_pays_out() {
            let mock = pink::mock::install();
            mock.set_balance(3 * PHA);
            let (alice, bob) = (accounts().alice, accounts().bob);
            test::set_caller::<pink::PinkEnvironment>(alice);
            let mut till = Till::new();
            test::set_caller::<pink::PinkEnvironment>(bob);
            test::set_value_transferred::<pink::PinkEnvironment>(3 * PHA);
            till.pay("order 7".into());
            assert_eq!(till.takings(), 3 * PHA);
            assert_eq!(till.cash_up(bob, PHA), Err(Error::NotOwner));
            assert_eq!(till.dispatch(Vec::new()), Err(Error::NotOwner));
            test::set_caller::<pink::PinkEnvironment>(alice);
            assert_eq!(till.cash_up(bob, 1), Err(Error::TooSmall));
            assert_eq!(till.cash_up(bob, 4 * PHA), Err(Error::TooLittle));
            assert_eq!(till.cash_up(bob, 2 * PHA), Ok(()));
            assert_eq!(till.dispatch([1, 2].to_vec()), Ok(()));
            assert_eq!((mock.withdrawals(), mock.chain_calls()), (vec![(bob, 2 * PHA)], vec![vec![1, 2]]));
            assert_eq!((till.watch(), mock.chain_calls().len()), (Ok(()), 2));
            let event = |data: Vec<u8>| pink::ChainEvent { pallet: 2, event: 2, block: 9, missed: 0, data };
            test::set_caller::<pink::PinkEnvironment>(test::callee::<pink::PinkEnvironment>());
            till.paid(event((bob, alice, 5 * PHA).encode()));
            till.paid(event(Vec::new()));
            assert_eq!(till.on_chain(), 5 * PHA);
        }
    }
}
