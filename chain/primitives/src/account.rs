//! Accounts and their SS58 addresses.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use sp_crypto_hashing::blake2_512;
use std::{fmt, str::FromStr};

/// Address prefix of the network, registered for Phala.
pub const SS58_PREFIX: u16 = 30;
/// Prefixes that are read besides our own: 42 is what Substrate tools print for any network.
const GENERIC_PREFIX: u16 = 42;

/// An account of the chain or a contract: 32 bytes, written as an SS58 address with prefix 30.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Encode,
    Decode,
    DecodeWithMemTracking,
    MaxEncodedLen,
    TypeInfo,
)]
pub struct AccountId(pub [u8; 32]);

/// Why a text is no address of this network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is not base58.
    #[error("an address is written in base58, as in 5Grw… or 0x followed by 64 hex digits")]
    Alphabet,
    /// It has the wrong length for an account.
    #[error("an address holds 32 bytes, this one has another length")]
    Length,
    /// The checksum does not fit: mistyped.
    #[error("the address's checksum is wrong: it may be mistyped")]
    Checksum,
    /// It belongs to another network.
    #[error("the address has prefix {0}, this network uses 30 (and reads 42)")]
    Prefix(u16),
}

fn checksum(body: &[u8]) -> [u8; 64] {
    blake2_512(&[b"SS58PRE".as_slice(), body].concat())
}

impl AccountId {
    /// The address with a prefix below 64, as Substrate's tools write it.
    pub fn to_ss58(&self, prefix: u8) -> String {
        let mut body = vec![prefix & 0x3f];
        body.extend_from_slice(&self.0);
        let sum = checksum(&body);
        body.extend_from_slice(&sum[..2]);
        bs58::encode(body).into_string()
    }

    /// Reads an address and returns the prefix that it carries.
    pub fn from_ss58(text: &str) -> Result<(Self, u16), AddressError> {
        if text.len() > 60 {
            return Err(AddressError::Length);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| AddressError::Alphabet)?;
        let (prefix, start) = match *bytes.as_slice() {
            [first @ 0..=63, ..] => (u16::from(first), 1),
            [first @ 64..=127, second, ..] => {
                let lower = (first << 2) | (second >> 6);
                (u16::from(lower) | (u16::from(second & 0x3f) << 8), 2)
            }
            _ => return Err(AddressError::Length),
        };
        if bytes.len() != start + 34 {
            return Err(AddressError::Length);
        }
        let (body, sum) = bytes.split_at(start + 32);
        if checksum(body)[..2] != *sum {
            return Err(AddressError::Checksum);
        }
        let mut account = [0; 32];
        account.copy_from_slice(&body[start..]);
        Ok((Self(account), prefix))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_ss58(SS58_PREFIX as u8))
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AccountId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(digits) = text.strip_prefix("0x") {
            let mut bytes = [0; 32];
            hex::decode_to_slice(digits, &mut bytes).map_err(|_| AddressError::Length)?;
            return Ok(Self(bytes));
        }
        match Self::from_ss58(text)? {
            (account, SS58_PREFIX | GENERIC_PREFIX) => Ok(account),
            (_, prefix) => Err(AddressError::Prefix(prefix)),
        }
    }
}

impl From<[u8; 32]> for AccountId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for AccountId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

    #[test]
    fn reads_generic_and_writes_own_prefix() {
        let alice: AccountId = ALICE.parse().unwrap();
        assert_eq!(alice.to_ss58(42), ALICE);
        assert_eq!(alice.to_string().parse::<AccountId>().unwrap(), alice);
        assert_ne!(alice.to_string(), ALICE);
    }

    #[test]
    fn refuses_what_is_mistyped_or_foreign() {
        let typo = ALICE.replace("Grw", "Grv");
        assert_eq!(typo.parse::<AccountId>(), Err(AddressError::Checksum));
        let polkadot = ALICE.parse::<AccountId>().unwrap().to_ss58(0);
        assert_eq!(polkadot.parse::<AccountId>(), Err(AddressError::Prefix(0)));
        assert_eq!("hello!".parse::<AccountId>(), Err(AddressError::Alphabet));
        assert_eq!("".parse::<AccountId>(), Err(AddressError::Length));
    }
}
