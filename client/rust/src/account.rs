//! Accounts: sr25519 keys from what people write.

use phala_primitives::{AccountId, AccountSignature, Code, Coded};
use std::fmt;
use subxt_signer::{SecretUri, bip39::Mnemonic, sr25519::Keypair};
use zeroize::Zeroizing;

/// An account and its secret key, which neither prints nor is copied.
pub struct Account {
    pair: Keypair,
    id: AccountId,
}

impl Account {
    /// Reads a secret as all tools of the ecosystem do: `//Alice` (a name under the well-known development phrase),
    /// 12 or 24 words, or `0x` and 64 hex digits; each may be followed by derivations (`//hard`, `/soft`) and
    /// `///password`.
    ///
    /// Errors: `BadKey`, without a trace of the text.
    pub fn from_suri(text: &str) -> Result<Self, Coded> {
        let uri: SecretUri = text.trim().parse().map_err(|_| Coded::from(Code::BadKey))?;
        let pair = Keypair::from_uri(&uri).map_err(|_| Coded::from(Code::BadKey))?;
        Ok(Self::new(pair))
    }

    /// A new account, and the 12 words that it can be read from again.
    pub fn generate() -> Result<(Self, Zeroizing<String>), Coded> {
        let internal = |what: &str| Coded::new(Code::Internal, what);
        let mut entropy = Zeroizing::new([0; 16]);
        getrandom::fill(entropy.as_mut_slice()).map_err(|_| internal("the system has no randomness"))?;
        let words = Mnemonic::from_entropy(entropy.as_slice()).map_err(|_| internal("no words for the entropy"))?;
        let pair = Keypair::from_phrase(&words, None).map_err(|_| Coded::from(Code::BadKey))?;
        Ok((Self::new(pair), Zeroizing::new(words.to_string())))
    }

    fn new(pair: Keypair) -> Self {
        let id = AccountId(pair.public_key().0);
        Self { pair, id }
    }

    /// The public half: the account's address.
    pub fn id(&self) -> AccountId {
        self.id
    }

    /// Signs as a Substrate wallet does.
    pub fn sign(&self, message: &[u8]) -> AccountSignature {
        AccountSignature::Sr25519(self.pair.sign(message).0)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_words_and_seeds_as_substrate_does() {
        let address = |text: &str| Account::from_suri(text).unwrap().id().to_ss58(42);
        assert_eq!(address("//Alice"), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
        let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
        assert_eq!(address(&format!("{phrase}//Bob")), "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty");
        let seed = "0xe5be9a5092b81bca64be81d212e7f2f9eba183bb7a90954f7b76361f6edb5c0a";
        assert_eq!(address(seed), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    }

    #[test]
    fn generated_words_give_the_same_account_which_signs() {
        let (account, words) = Account::generate().unwrap();
        let again = Account::from_suri(&words).unwrap();
        assert_eq!(again.id(), account.id());
        assert!(account.sign(b"hi").verify(b"hi", &again.id()));
    }

    #[test]
    fn refuses_without_repeating_the_secret() {
        for text in ["bottom drive obey lake", "0x1234", ""] {
            let error = Account::from_suri(text).map(|account| account.id());
            // The empty text is the development phrase itself.
            assert_eq!(error.is_err(), !text.is_empty(), "{text}");
            assert!(error.err().is_none_or(|error| !error.to_string().contains("obey")));
        }
        assert!(!format!("{:?}", Account::from_suri("//Alice").unwrap()).contains("Alice"));
    }
}
