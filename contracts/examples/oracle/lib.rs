//! A price oracle: a query fetches a price over HTTP and signs it, a command stores what the contract signed itself.
//!
//! What it shows: the functions of the crate `pink`. A command runs on every replica and must come to the same
//! everywhere, so it fetches nothing. But a query may, and it runs the same code in an enclave: what it signs with a
//! key that only this contract has, a command can believe, whoever brings it. So anyone can keep the price up to date,
//! and nobody can choose it.
//!
//! ```sh
//! phala build contracts/examples/oracle
//! phala deploy contracts/target/ink/oracle/oracle.contract new https://api.example.com/price price --suri //Alice
//! phala query ADDRESS fetch https://api.example.com/price      # Ok({ url: …, price: …, time_ms: …, signature: … })
//! phala send ADDRESS update '{ url: …, price: …, time_ms: …, signature: … }'
//! phala query ADDRESS price
//! phala logs ADDRESS --suri //Alice
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

mod price;

/// The contract.
#[ink::contract(env = pink::PinkEnvironment)]
mod oracle {
    use crate::price;
    use ink::{
        prelude::{string::String, vec::Vec},
        scale::Encode,
    };
    use pink::SigType;

    /// How long a quote can be used, in milliseconds.
    const MAX_AGE_MS: u64 = 10 * 60 * 1000;
    /// How long a query's worker remembers a price, in seconds.
    const CACHE_SECONDS: u64 = 60;

    /// Why the oracle refused.
    #[derive(Debug, PartialEq, Eq)]
    #[ink::scale_derive(Encode, Decode, TypeInfo)]
    pub enum Error {
        /// The server's status was not one of success; 523: it is not allowed or not there, 524: too late.
        Status(u16),
        /// The response holds no price.
        NoPrice,
        /// The quote was not signed by this contract.
        BadSignature,
        /// The quote comes from somewhere else.
        WrongSource,
        /// The quote is too old, or not newer than what is stored.
        Stale,
        /// Only the owner may.
        NotAuthorised,
    }

    /// A price that this contract fetched.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[ink::scale_derive(Encode, Decode, TypeInfo)]
    pub struct Quote {
        /// Where from.
        url: String,
        /// In millionths.
        price: u64,
        /// When, by the cluster's time, in milliseconds since 1970.
        time_ms: u64,
        /// Of the contract's key for quotes.
        signature: Vec<u8>,
    }

    /// There is a new price.
    #[ink(event)]
    pub struct Updated {
        price: u64,
        time_ms: u64,
    }

    /// Where the price comes from, and what it is.
    #[ink(storage)]
    pub struct Oracle {
        owner: AccountId,
        source: String,
        field: String,
        price: u64,
        time_ms: u64,
        rolls: Vec<u8>,
    }

    impl Oracle {
        /// An oracle for the number under `field` in the JSON that `source` answers with.
        #[ink(constructor)]
        pub fn new(source: String, field: String) -> Self {
            Self { owner: Self::env().caller(), source, field, price: 0, time_ms: 0, rolls: Vec::new() }
        }

        /// Fetches a price and signs it. To be queried: a command is answered by `Status(523)`.
        #[ink(message)]
        pub fn fetch(&self, url: String) -> Result<Quote, Error> {
            let response = pink::http_get!(url.as_str(), [("Accept", "application/json")]);
            if !response.is_success() {
                pink::warn!("{url}: {} {}", response.status_code, response.reason_phrase);
                return Err(Error::Status(response.status_code));
            }
            let body = core::str::from_utf8(&response.body).map_err(|_| Error::NoPrice)?;
            let price = price::find(body, &self.field).ok_or(Error::NoPrice)?;
            pink::info!("{url}: {price}");
            // What does not fit is fetched again next time.
            if pink::cache::set(url.as_bytes(), &price.encode()).is_ok() {
                pink::cache::set_expiration(url.as_bytes(), CACHE_SECONDS);
            }
            let time_ms = self.env().block_timestamp();
            let signature = quotes().sign(&(&url, price, time_ms).encode());
            Ok(Quote { url, price, time_ms, signature })
        }

        /// What the worker that answers fetched from there within the last minute.
        #[ink(message)]
        pub fn remembered(&self, url: String) -> Option<u64> {
            let bytes = pink::cache::get(url.as_bytes())?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        }

        /// Stores a price that [`fetch`](Self::fetch) signed. Anyone may bring it.
        #[ink(message)]
        pub fn update(&mut self, quote: Quote) -> Result<(), Error> {
            let Quote { url, price, time_ms, signature } = quote;
            if url != self.source {
                return Err(Error::WrongSource);
            }
            let signed = (&url, price, time_ms).encode();
            if !pink::verify(SigType::Sr25519, &quotes().public(), &signed, &signature) {
                return Err(Error::BadSignature);
            }
            let oldest = self.env().block_timestamp().saturating_sub(MAX_AGE_MS);
            if time_ms <= self.time_ms || time_ms < oldest {
                return Err(Error::Stale);
            }
            (self.price, self.time_ms) = (price, time_ms);
            self.env().emit_event(Updated { price, time_ms });
            pink::info!("the price is {price}");
            Ok(())
        }

        /// The price in millionths and its time in milliseconds since 1970; zeros before the first update.
        #[ink(message)]
        pub fn price(&self) -> (u64, u64) {
            (self.price, self.time_ms)
        }

        /// The public key by which [`sign`](Self::sign) signs.
        #[ink(message)]
        pub fn key(&self) -> Vec<u8> {
            texts().public()
        }

        /// Signs any text, for anyone.
        #[ink(message)]
        pub fn sign(&self, text: String) -> Vec<u8> {
            texts().sign(text.as_bytes())
        }

        /// Rolls a die that nobody foresees, and on which all replicas agree; 1 to 6.
        #[ink(message)]
        pub fn dice(&mut self) -> u8 {
            // Beyond 252 there would be more of some faces than of others.
            let fair = pink::random(32).into_iter().find(|byte| *byte < 252).unwrap_or_default();
            let face = fair.checked_rem(6).unwrap_or_default().saturating_add(1);
            self.rolls.push(face);
            face
        }

        /// All rolls so far.
        #[ink(message)]
        pub fn rolls(&self) -> Vec<u8> {
            self.rolls.clone()
        }

        /// Lets an account read what the contract says; only the owner may say so.
        #[ink(message)]
        pub fn allow_log(&mut self, who: AccountId) -> Result<(), Error> {
            if self.env().caller() != self.owner {
                return Err(Error::NotAuthorised);
            }
            pink::allow_log(who);
            Ok(())
        }
    }

    /// The key for quotes. It signs nothing else, or else someone could have a price signed as a text.
    fn quotes() -> pink::Sr25519Key {
        pink::derive_sr25519_key(b"quotes")
    }

    /// The key for texts.
    fn texts() -> pink::Sr25519Key {
        pink::derive_sr25519_key(b"texts")
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::env::test;
        use pink::PinkEnvironment;

        const SOURCE: &str = "https://api.example.com/price";

        fn oracle() -> (Oracle, pink::mock::Mock) {
            let accounts = test::default_accounts::<PinkEnvironment>();
            test::set_caller::<PinkEnvironment>(accounts.alice);
            test::set_block_timestamp::<PinkEnvironment>(1000);
            let mock = pink::mock::install();
            mock.respond(SOURCE, 200, r#"{"price": "41.5"}"#);
            (Oracle::new(String::from(SOURCE), String::from("price")), mock)
        }

        #[ink::test]
        fn what_is_fetched_is_stored_once() {
            let (mut oracle, mock) = oracle();
            let quote = oracle.fetch(String::from(SOURCE)).expect("a price");
            assert_eq!((quote.price, oracle.remembered(String::from(SOURCE))), (41_500_000, Some(41_500_000)));
            mock.set_command(true);
            assert_eq!(oracle.update(quote.clone()), Ok(()));
            assert_eq!(oracle.price(), (41_500_000, 1000));
            assert_eq!(oracle.update(quote), Err(Error::Stale));
            assert_eq!(test::recorded_events().count(), 1);
            assert_eq!(
                mock.lines().last().map(|(level, text)| (*level, text.as_str())),
                Some((3, "the price is 41500000"))
            );
        }

        #[ink::test]
        fn nobody_chooses_a_price() {
            let (mut oracle, mock) = oracle();
            mock.respond("https://evil.example/", 200, r#"{"price": 1}"#);
            let quote = oracle.fetch(String::from(SOURCE)).expect("a price");
            let other = oracle.fetch(String::from("https://evil.example/")).expect("a price");
            assert_eq!(oracle.update(other), Err(Error::WrongSource));
            assert_eq!(oracle.update(Quote { price: 1, ..quote.clone() }), Err(Error::BadSignature));
            test::set_block_timestamp::<PinkEnvironment>(1001 + MAX_AGE_MS);
            assert_eq!(oracle.update(quote), Err(Error::Stale));
        }

        #[ink::test]
        fn failures_of_the_server_are_told() {
            let (oracle, mock) = oracle();
            let fetch = || oracle.fetch(String::from(SOURCE)).err();
            mock.respond(SOURCE, 500, "");
            assert_eq!(fetch(), Some(Error::Status(500)));
            mock.fail(SOURCE, pink::HttpError::Timeout);
            assert_eq!(fetch(), Some(Error::Status(524)));
            mock.respond(SOURCE, 200, "{}");
            assert_eq!(fetch(), Some(Error::NoPrice));
            mock.set_command(true);
            assert_eq!(fetch(), Some(Error::Status(523)));
        }

        #[ink::test]
        fn texts_are_signed_and_dice_have_six_faces() {
            let (mut oracle, _mock) = oracle();
            let signature = oracle.sign(String::from("text"));
            assert!(pink::verify(SigType::Sr25519, &oracle.key(), b"text", &signature));
            for _ in 0..20 {
                assert!((1..=6).contains(&oracle.dice()));
            }
            assert_eq!(oracle.rolls().len(), 20);
        }

        #[ink::test]
        fn only_the_owner_opens_the_log() {
            let (mut oracle, mock) = oracle();
            let bob = test::default_accounts::<PinkEnvironment>().bob;
            test::set_caller::<PinkEnvironment>(bob);
            assert_eq!(oracle.allow_log(bob), Err(Error::NotAuthorised));
            assert!(!mock.may_read_log(bob));
            test::set_caller::<PinkEnvironment>(test::default_accounts::<PinkEnvironment>().alice);
            assert_eq!(oracle.allow_log(bob), Ok(()));
            assert!(mock.may_read_log(bob));
        }
    }
}
