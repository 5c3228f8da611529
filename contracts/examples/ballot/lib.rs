//! A secret ballot: nobody sees who voted for what, and nobody sees a result before the end.
//!
//! What it shows: what a public chain cannot do. Votes are read by nobody but the voter who cast them; the tally exists
//! all the time, but until the ballot is closed the only way to it is through code that refuses. Machines and their
//! operators do not see it either: state and requests are encrypted, and keys are in enclaves only.
//!
//! Rules: voters are named when the ballot is made. Each may vote once; a vote cannot be changed, so that nobody can be
//! made to vote again. The chairperson may close the ballot; if a closing time was given, it is closed from then on in
//! any case. After that the tally is open to everyone, single votes still to their voters alone.
//!
//! ```sh
//! phala build contracts/examples/ballot
//! phala deploy contracts/target/ink/ballot/ballot.contract new '"Lunch"' '["Soup", "Salad"]' '[//Bob, //Charlie]' \
//!     None --suri //Alice
//! phala send ADDRESS vote 1 --suri //Bob
//! phala query ADDRESS my_vote --suri //Bob         # Ok(Some(1))
//! phala query ADDRESS results --suri //Alice       # Err(NotClosed)
//! phala send ADDRESS close --suri //Alice
//! phala query ADDRESS results                      # Ok([("Soup", 0), ("Salad", 1)])
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

/// The contract.
#[ink::contract]
mod ballot {
    use ink::prelude::{string::String, vec::Vec};
    use ink::storage::Mapping;

    /// Most options, and most voters, of a ballot.
    const MAX_OPTIONS: usize = 64;
    const MAX_VOTERS: usize = 1024;

    /// Why the ballot refused.
    #[derive(Debug, PartialEq, Eq)]
    #[ink::scale_derive(Encode, Decode, TypeInfo)]
    pub enum Error {
        /// The caller is no voter, or not the chairperson.
        NotAuthorised,
        /// Results are not told before the end.
        NotClosed,
        /// The ballot is over.
        Closed,
        /// The caller has voted; a vote stands.
        AlreadyVoted,
        /// There is no such option.
        NoSuchOption,
        /// A ballot needs 2 to 64 options and 1 to 1024 voters.
        BadSize,
        /// The closing time has passed already.
        BadTime,
    }

    /// The ballot was closed by its chairperson.
    #[ink(event)]
    pub struct Closed {
        #[ink(topic)]
        by: AccountId,
    }

    /// What is asked, who may answer, and the answers.
    #[ink(storage)]
    pub struct Ballot {
        title: String,
        options: Vec<String>,
        chair: AccountId,
        closes_at: Option<Timestamp>,
        closed: bool,
        /// `None` for a voter who has not voted; no entry for others.
        voters: Mapping<AccountId, Option<u32>>,
        tally: Vec<u32>,
    }

    impl Ballot {
        /// A ballot that its maker chairs. `closes_at` is in milliseconds since 1970; without it the chairperson closes.
        #[ink(constructor)]
        pub fn new(
            title: String,
            options: Vec<String>,
            voters: Vec<AccountId>,
            closes_at: Option<Timestamp>,
        ) -> Result<Self, Error> {
            if options.len() < 2 || options.len() > MAX_OPTIONS || voters.is_empty() || voters.len() > MAX_VOTERS {
                return Err(Error::BadSize);
            }
            if closes_at.is_some_and(|at| at <= Self::env().block_timestamp()) {
                return Err(Error::BadTime);
            }
            let mut roll = Mapping::default();
            for voter in voters {
                roll.insert(voter, &None::<u32>);
            }
            let tally = options.iter().map(|_| 0).collect();
            let chair = Self::env().caller();
            Ok(Self { title, options, chair, closes_at, closed: false, voters: roll, tally })
        }

        /// What is asked.
        #[ink(message)]
        pub fn title(&self) -> String {
            self.title.clone()
        }

        /// What one can vote for; a choice is a position in this list, from 0.
        #[ink(message)]
        pub fn options(&self) -> Vec<String> {
            self.options.clone()
        }

        /// Who may close the ballot.
        #[ink(message)]
        pub fn chair(&self) -> AccountId {
            self.chair
        }

        /// Whether the ballot is over.
        #[ink(message)]
        pub fn is_closed(&self) -> bool {
            self.closed || self.closes_at.is_some_and(|at| self.env().block_timestamp() >= at)
        }

        /// Casts the caller's vote. It stands.
        #[ink(message)]
        pub fn vote(&mut self, choice: u32) -> Result<(), Error> {
            let caller = self.env().caller();
            let before = self.voters.get(caller).ok_or(Error::NotAuthorised)?;
            if self.is_closed() {
                return Err(Error::Closed);
            }
            if before.is_some() {
                return Err(Error::AlreadyVoted);
            }
            let count = self.tally.get_mut(choice as usize).ok_or(Error::NoSuchOption)?;
            // There are at most as many votes as voters.
            *count = count.saturating_add(1);
            self.voters.insert(caller, &Some(choice));
            Ok(())
        }

        /// The caller's own vote, if it was cast. Nobody can ask for another's, the chairperson neither.
        #[ink(message)]
        pub fn my_vote(&self) -> Result<Option<u32>, Error> {
            self.voters.get(self.env().caller()).ok_or(Error::NotAuthorised)
        }

        /// Options with their votes, once the ballot is over.
        #[ink(message)]
        pub fn results(&self) -> Result<Vec<(String, u32)>, Error> {
            if !self.is_closed() {
                return Err(Error::NotClosed);
            }
            Ok(self.options.iter().cloned().zip(self.tally.iter().copied()).collect())
        }

        /// Ends the ballot; only the chairperson may.
        #[ink(message)]
        pub fn close(&mut self) -> Result<(), Error> {
            let caller = self.env().caller();
            if caller != self.chair {
                return Err(Error::NotAuthorised);
            }
            if self.is_closed() {
                return Err(Error::Closed);
            }
            self.closed = true;
            self.env().emit_event(Closed { by: caller });
            Ok(())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::env::{test, DefaultEnvironment};
        use ink::prelude::vec;

        type Accounts = test::DefaultAccounts<DefaultEnvironment>;

        fn accounts() -> Accounts {
            test::default_accounts::<DefaultEnvironment>()
        }

        fn call_as(caller: AccountId) {
            test::set_caller::<DefaultEnvironment>(caller);
        }

        fn strings(texts: &[&str]) -> Vec<String> {
            texts.iter().map(|text| String::from(*text)).collect()
        }

        /// Alice chairs; Bob and Charlie vote.
        fn ballot(closes_at: Option<Timestamp>) -> Ballot {
            let Accounts { alice, bob, charlie, .. } = accounts();
            call_as(alice);
            Ballot::new(String::from("Lunch"), strings(&["Soup", "Salad"]), vec![bob, charlie], closes_at)
                .expect("a good ballot")
        }

        #[ink::test]
        fn results_wait_for_the_end() {
            let mut ballot = ballot(None);
            let Accounts { alice, bob, charlie, .. } = accounts();
            call_as(bob);
            assert_eq!(ballot.vote(1), Ok(()));
            call_as(charlie);
            assert_eq!(ballot.vote(1), Ok(()));
            for anyone in [alice, bob, charlie] {
                call_as(anyone);
                assert_eq!(ballot.results(), Err(Error::NotClosed));
            }
            assert_eq!(ballot.close(), Err(Error::NotAuthorised));
            call_as(alice);
            assert_eq!(ballot.close(), Ok(()));
            assert_eq!(ballot.results(), Ok(vec![(String::from("Soup"), 0), (String::from("Salad"), 2)]));
            assert_eq!(ballot.close(), Err(Error::Closed));
        }

        #[ink::test]
        fn a_vote_is_seen_by_its_voter_alone() {
            let mut ballot = ballot(None);
            let Accounts { alice, bob, charlie, .. } = accounts();
            call_as(bob);
            assert_eq!(ballot.my_vote(), Ok(None));
            assert_eq!(ballot.vote(0), Ok(()));
            assert_eq!(ballot.my_vote(), Ok(Some(0)));
            call_as(charlie);
            assert_eq!(ballot.my_vote(), Ok(None));
            call_as(alice);
            assert_eq!(ballot.my_vote(), Err(Error::NotAuthorised));
        }

        #[ink::test]
        fn a_vote_stands_and_only_voters_have_one() {
            let mut ballot = ballot(None);
            let Accounts { bob, eve, .. } = accounts();
            call_as(eve);
            assert_eq!(ballot.vote(0), Err(Error::NotAuthorised));
            call_as(bob);
            assert_eq!(ballot.vote(2), Err(Error::NoSuchOption));
            assert_eq!(ballot.vote(0), Ok(()));
            assert_eq!(ballot.vote(1), Err(Error::AlreadyVoted));
            assert_eq!(ballot.my_vote(), Ok(Some(0)));
        }

        #[ink::test]
        fn the_closing_time_closes() {
            let mut ballot = ballot(Some(1000));
            call_as(accounts().bob);
            test::set_block_timestamp::<DefaultEnvironment>(999);
            assert_eq!(ballot.vote(0), Ok(()));
            test::set_block_timestamp::<DefaultEnvironment>(1000);
            call_as(accounts().charlie);
            assert_eq!(ballot.vote(0), Err(Error::Closed));
            assert_eq!(ballot.results(), Ok(vec![(String::from("Soup"), 1), (String::from("Salad"), 0)]));
        }

        #[ink::test]
        fn ballots_that_make_no_sense_are_refused() {
            let Accounts { alice, bob, .. } = accounts();
            call_as(alice);
            let new = |options: &[&str], voters, at| Ballot::new(String::new(), strings(options), voters, at).err();
            assert_eq!(new(&["only"], vec![bob], None), Some(Error::BadSize));
            assert_eq!(new(&["a", "b"], vec![], None), Some(Error::BadSize));
            assert_eq!(new(&["a", "b"], vec![bob], Some(0)), Some(Error::BadTime));
        }
    }
}
