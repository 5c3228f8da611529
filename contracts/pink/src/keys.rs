//! Keys and signatures. All of it is the same on every replica, so it works in queries and commands.

use crate::{ext, SigType};
use ink::prelude::vec::Vec;

/// A key of the contract; see [`derive_sr25519_key`]. Whoever has it signs as the contract: do not return or log it.
#[derive(Clone)]
pub struct Sr25519Key(Vec<u8>);

impl Sr25519Key {
    /// Signs a message: 64 bytes.
    ///
    /// ```
    /// # let _mock = pink::mock::install();
    /// let key = pink::derive_sr25519_key(b"reports");
    /// let signature = key.sign(b"text");
    /// assert!(pink::verify(pink::SigType::Sr25519, &key.public(), b"text", &signature));
    /// ```
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        sign(SigType::Sr25519, &self.0, message)
    }

    /// The public half: 32 bytes, the account that signs.
    pub fn public(&self) -> Vec<u8> {
        public_key(SigType::Sr25519, &self.0)
    }

    /// The secret itself: 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key that this contract alone has: the same on every replica and after every move of its state, another for each
/// salt and for each contract.
///
/// ```
/// # let _mock = pink::mock::install();
/// let (a, again, b) =
///     (pink::derive_sr25519_key(b"a"), pink::derive_sr25519_key(b"a"), pink::derive_sr25519_key(b"b"));
/// assert_eq!(a.public(), again.public());
/// assert_ne!(a.public(), b.public());
/// ```
pub fn derive_sr25519_key(salt: &[u8]) -> Sr25519Key {
    Sr25519Key(ext().derive_sr25519_key(salt))
}

/// Signs a message as Substrate's accounts do: 64 bytes, for ecdsa 65. A key and a message have one signature. Traps
/// if the key is none of this kind.
///
/// ```
/// # let _mock = pink::mock::install();
/// use pink::SigType::Ed25519;
/// let seed = [7; 32];
/// let signature = pink::sign(Ed25519, &seed, b"text");
/// assert!(pink::verify(Ed25519, &pink::public_key(Ed25519, &seed), b"text", &signature));
/// ```
pub fn sign(kind: SigType, key: &[u8], message: &[u8]) -> Vec<u8> {
    ext().sign(kind, key, message)
}

/// Whether a signature is good. Whatever is malformed is not.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert!(!pink::verify(pink::SigType::Sr25519, &[1; 32], b"text", b"no signature"));
/// ```
pub fn verify(kind: SigType, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    ext().verify(kind, public, message, signature)
}

/// The public half of a key: 32 bytes, for ecdsa 33. Traps if the key is none of this kind.
///
/// ```
/// # let _mock = pink::mock::install();
/// assert_eq!(pink::public_key(pink::SigType::Ecdsa, &[7; 32]).len(), 33);
/// ```
pub fn public_key(kind: SigType, key: &[u8]) -> Vec<u8> {
    ext().get_public_key(kind, key)
}

/// Signs a hash by ecdsa: `r`, `s`, and which of the possible keys it is. Traps if the key is none.
///
/// ```
/// # let _mock = pink::mock::install();
/// let (key, hash) = ([7; 32], [1; 32]);
/// let public = pink::public_key(pink::SigType::Ecdsa, &key).try_into().unwrap();
/// let signature = pink::ecdsa_sign_prehashed(&key, hash);
/// assert!(pink::ecdsa_verify_prehashed(signature, hash, public));
/// ```
pub fn ecdsa_sign_prehashed(key: &[u8], hash: [u8; 32]) -> [u8; 65] {
    ext().ecdsa_sign_prehashed(key, hash)
}

/// Whether an ecdsa signature of a hash is good and of this key, compressed. For an example see
/// [`ecdsa_sign_prehashed`].
pub fn ecdsa_verify_prehashed(signature: [u8; 65], hash: [u8; 32], public: [u8; 33]) -> bool {
    ext().ecdsa_verify_prehashed(signature, hash, public)
}
