//! The smallest contract: one bit that can be flipped and read.
//!
//! What it shows: a constructor, a message that reads (a *query*, answered by one replica in milliseconds) and a
//! message that writes (a *command*, ordered and executed by every replica of the cluster). Arguments, results and the
//! bit itself are encrypted on their way and at rest; what is on the chain is the hash of the code and the address.
//!
//! ```sh
//! phala build contracts/examples/flipper
//! phala deploy contracts/target/ink/flipper/flipper.contract new true --suri //Alice
//! phala query ADDRESS get
//! phala send ADDRESS flip --suri //Alice
//! ```
#![cfg_attr(not(feature = "std"), no_std, no_main)]

/// The contract.
#[ink::contract]
mod flipper {
    /// The bit.
    #[ink(storage)]
    pub struct Flipper {
        value: bool,
    }

    impl Flipper {
        /// A flipper that starts with this value.
        #[ink(constructor)]
        pub fn new(init_value: bool) -> Self {
            Self { value: init_value }
        }

        /// A flipper that starts with `false`.
        #[ink(constructor)]
        pub fn default() -> Self {
            Self::new(false)
        }

        /// Turns the bit over.
        #[ink(message)]
        pub fn flip(&mut self) {
            self.value = !self.value;
        }

        /// The bit.
        #[ink(message)]
        pub fn get(&self) -> bool {
            self.value
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[ink::test]
        fn starts_as_told() {
            assert!(Flipper::new(true).get());
            assert!(!Flipper::default().get());
        }

        #[ink::test]
        fn flips_and_flips_back() {
            let mut flipper = Flipper::new(false);
            flipper.flip();
            assert!(flipper.get());
            flipper.flip();
            assert!(!flipper.get());
        }
    }
}
