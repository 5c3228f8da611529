//! Signatures of accounts: sr25519, ed25519 and ecdsa, as Substrate wallets make them.

use crate::AccountId;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Signing context of sr25519 in every Substrate wallet.
pub const SIGNING_CONTEXT: &[u8] = b"substrate";

/// A signature by an account. The encoding equals `sp_runtime::MultiSignature` up to ecdsa.
#[derive(Clone, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo)]
pub enum AccountSignature {
    /// ed25519; the account is the public key.
    Ed25519([u8; 64]),
    /// sr25519 (Schnorr over Ristretto); the account is the public key.
    Sr25519([u8; 64]),
    /// secp256k1 with recovery byte over BLAKE2b-256; the account is the hash of the compressed public key.
    Ecdsa([u8; 65]),
}

impl std::fmt::Debug for AccountSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "ed25519 signature",
            Self::Sr25519(_) => "sr25519 signature",
            Self::Ecdsa(_) => "ecdsa signature",
        })
    }
}

/// `<Bytes>message</Bytes>`: what browser wallets sign when asked for raw bytes.
pub fn wrap_bytes(message: &[u8]) -> Vec<u8> {
    [b"<Bytes>".as_slice(), message, b"</Bytes>"].concat()
}

/// The message inside `<Bytes>…</Bytes>`, or `None` if it is not wrapped.
pub fn unwrap_bytes(message: &[u8]) -> Option<&[u8]> {
    message.strip_prefix(b"<Bytes>")?.strip_suffix(b"</Bytes>")
}

impl AccountSignature {
    /// Whether `account` signed `message`, plain or wrapped in `<Bytes>` as browser wallets do.
    pub fn verify(&self, message: &[u8], account: &AccountId) -> bool {
        self.verify_exact(message, account) || self.verify_exact(&wrap_bytes(message), account)
    }

    fn verify_exact(&self, message: &[u8], account: &AccountId) -> bool {
        match self {
            Self::Ed25519(signature) => ed25519_dalek::VerifyingKey::from_bytes(&account.0)
                .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()),
            Self::Sr25519(signature) => {
                let Ok(signature) = schnorrkel::Signature::from_bytes(signature) else { return false };
                schnorrkel::PublicKey::from_bytes(&account.0)
                    .is_ok_and(|key| key.verify_simple(SIGNING_CONTEXT, message, &signature).is_ok())
            }
            Self::Ecdsa(signature) => {
                recover(signature, message).is_some_and(|public| sp_crypto_hashing::blake2_256(&public) == account.0)
            }
        }
    }
}

/// The compressed secp256k1 key that signed the BLAKE2b-256 hash of `message`.
fn recover(signature: &[u8; 65], message: &[u8]) -> Option<[u8; 33]> {
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
    let (body, id) = (Signature::from_slice(&signature[..64]).ok()?, RecoveryId::from_byte(signature[64])?);
    let hash = sp_crypto_hashing::blake2_256(message);
    let key = VerifyingKey::recover_from_prehash(&hash, &body, id).ok()?;
    key.to_encoded_point(true).as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sr25519_is_accepted_plain_and_wrapped_only() {
        let pair = schnorrkel::MiniSecretKey::from_bytes(&[7; 32])
            .unwrap()
            .expand_to_keypair(schnorrkel::ExpansionMode::Ed25519);
        let account = AccountId(pair.public.to_bytes());
        let sign = |m: &[u8]| AccountSignature::Sr25519(pair.sign_simple(SIGNING_CONTEXT, m).to_bytes());
        assert!(sign(b"hi").verify(b"hi", &account));
        assert!(sign(&wrap_bytes(b"hi")).verify(b"hi", &account));
        assert!(!sign(b"ho").verify(b"hi", &account));
        assert!(!sign(b"hi").verify(b"hi", &AccountId([3; 32])));
    }

    #[test]
    fn ecdsa_accounts_are_hashes_of_keys() {
        let key = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
        let public = key.verifying_key().to_encoded_point(true);
        let account = AccountId(sp_crypto_hashing::blake2_256(public.as_bytes()));
        let (body, id) = key.sign_prehash_recoverable(&sp_crypto_hashing::blake2_256(b"hi")).unwrap();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&body.to_bytes());
        bytes[64] = id.to_byte();
        assert!(AccountSignature::Ecdsa(bytes).verify(b"hi", &account));
        assert!(!AccountSignature::Ecdsa(bytes).verify(b"ho", &account));
    }
}
