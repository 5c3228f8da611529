//! Parcels: what one cluster sends to another through the chain, which everyone can see and only the other can read.
//!
//! Sealed with HPKE (RFC 9180: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, `info =
//! "phala/parcel/v1"`) to the key that the receiving cluster has published on the chain; enc, then ciphertext. Who sent
//! it is not proven by this: the certificate of the sending cluster's entry does that.
//!
//! All replicas of the sender must come to the same bytes, so the ephemeral key is not drawn: it derives from a secret of
//! the sending cluster, the receiver's key, the name of the parcel and what is in it. A log that was recovered, and gives
//! a number to another parcel, so has another key for it.

use crate::{Key, release::Kem};
use codec::Encode;
use hkdf::Hkdf;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256};
use phala_primitives::{Code, Coded, blake2_256};
use rand_core::{TryCryptoRng, TryRng};
use sha2::Sha256;
use std::convert::Infallible;
use zeroize::Zeroizing;

/// `info` of the HPKE context.
const INFO: &[u8] = b"phala/parcel/v1";
/// Bytes of an encapsulated key.
const ENC: usize = 32;
/// Plaintexts are padded to multiples of this, in bytes.
const BUCKET: usize = 256;
/// Bytes of the length in front.
const PREFIX: usize = 4;

/// A cluster's end of it. It does not print and is not copied.
pub struct Mailbox {
    seed: Key,
    secret: <Kem as hpke::Kem>::PrivateKey,
    public: [u8; 32],
}

/// Bytes that follow from a secret, where randomness is asked for.
struct Derived {
    key: Hkdf<Sha256>,
    count: u64,
}

impl TryRng for Derived {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(32) {
            let mut block = Zeroizing::new([0; 32]);
            self.count = self.count.wrapping_add(1);
            // 32 bytes are within what HKDF gives.
            let _ = self.key.expand(&self.count.to_le_bytes(), &mut *block);
            chunk.iter_mut().zip(*block).for_each(|(byte, derived)| *byte = derived);
        }
        Ok(())
    }
}

impl TryCryptoRng for Derived {}

impl Mailbox {
    pub(crate) fn new(seed: Key) -> Self {
        let (secret, public) = Kem::derive_keypair(seed.expose());
        Self { seed, secret, public: public.to_bytes().into() }
    }

    /// The key that the chain is told.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Seals a parcel to another cluster's key. `name` is what everyone can see of it, and is bound to it.
    ///
    /// Errors: `Malformed` if that key is no valid point.
    pub fn seal(&self, to: &[u8; 32], name: &[u8], plain: &[u8]) -> Result<Vec<u8>, Coded> {
        let invalid = || Coded::new(Code::Malformed, "the mailbox is no valid point");
        let recipient = <Kem as hpke::Kem>::PublicKey::from_bytes(to).map_err(|_| invalid())?;
        let about = ("phala/parcel-key/v1", to, name, blake2_256(plain)).encode();
        let key = Hkdf::<Sha256>::new(Some(&blake2_256(&about).0), self.seed.expose());
        let mut derived = Derived { key, count: 0 };
        let (enc, mut context) = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &recipient,
            INFO,
            &mut derived,
        )
        .map_err(|_| invalid())?;
        let length = u32::try_from(plain.len()).map_err(|_| Code::TooLarge)?;
        let mut padded = Zeroizing::new([&length.to_le_bytes()[..], plain].concat());
        let size = padded.len().checked_next_multiple_of(BUCKET).ok_or(Code::TooLarge)?;
        padded.resize(size, 0);
        let ciphertext = context.seal(&padded, name).map_err(|_| Code::Internal)?;
        Ok([enc.to_bytes().as_slice(), &ciphertext].concat())
    }

    /// Opens a parcel. Fails with [`Code::NotAuthentic`] if it was sealed to another key or under another name, and with
    /// [`Code::Malformed`] if it is none.
    pub fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Coded> {
        let (enc, ciphertext) = sealed.split_at_checked(ENC).ok_or(Code::Malformed)?;
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(enc).map_err(|_| Code::Malformed)?;
        let mut context =
            hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeR::Base, &self.secret, &enc, INFO)
                .map_err(|_| Code::NotAuthentic)?;
        let padded = Zeroizing::new(context.open(ciphertext, name).map_err(|_| Code::NotAuthentic)?);
        let (length, rest) = padded.split_first_chunk::<PREFIX>().ok_or(Code::Malformed)?;
        let plain = rest.get(..u32::from_le_bytes(*length) as usize).ok_or(Code::Malformed)?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(seed: u8) -> Mailbox {
        Mailbox::new(Key::new([seed; 32]))
    }

    #[test]
    fn only_the_receiver_opens_a_parcel_and_only_under_its_name() {
        let (from, to) = (mailbox(1), mailbox(2));
        for length in [0, 1, 251, 252, 253, 16 << 10] {
            let plain = vec![7; length];
            let sealed = from.seal(&to.public(), b"name", &plain).unwrap();
            assert_eq!(to.open(b"name", &sealed).unwrap(), plain);
            assert_eq!(to.open(b"other", &sealed).unwrap_err().known(), Some(Code::NotAuthentic));
            assert!(from.open(b"name", &sealed).is_err() && mailbox(3).open(b"name", &sealed).is_err());
            for place in [0, ENC, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[place] ^= 1;
                assert!(to.open(b"name", &changed).is_err());
            }
            assert!(to.open(b"name", &sealed[..sealed.len() - 1]).is_err() && to.open(b"name", &[]).is_err());
        }
    }

    #[test]
    fn the_same_parcel_is_the_same_bytes_and_another_shares_no_key_with_it() {
        let (from, to) = (mailbox(1), mailbox(2).public());
        let sealed = |from: &Mailbox, name: &[u8], plain: &[u8]| from.seal(&to, name, plain).unwrap();
        let first = sealed(&from, b"1", b"a");
        assert_eq!(sealed(&mailbox(1), b"1", b"a"), first);
        let others = [sealed(&from, b"2", b"a"), sealed(&from, b"1", b"b"), sealed(&mailbox(3), b"1", b"a")];
        assert!(others.iter().all(|other| other[..ENC] != first[..ENC]));
        // One bucket tells nothing of the length.
        assert_eq!(sealed(&from, b"1", &[0; 252]).len(), first.len());
        assert_eq!(sealed(&from, b"1", &[0; 253]).len(), first.len() + BUCKET);
        assert_eq!(from.seal(&[0; 32], b"1", b"a").unwrap_err().known(), Some(Code::Malformed));
    }
}
