//! Data at rest, sealed to machine and measurement: a byte of version, 12 of nonce, then AES-256-GCM-SIV with
//! `AAD = SCALE("phala/sealed/v1", context)`. GCM-SIV because a machine that is rolled back may repeat a nonce.
//!
//! Sealing hides and authenticates. It does not say that the data is the newest.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use codec::Encode;
use phala_attest::SealKey;
use phala_primitives::{Code, Coded};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const VERSION: u8 = 1;

fn cipher(key: &SealKey) -> Result<LessSafeKey, Coded> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.expose()).map_err(|_| Code::Internal)?))
}

fn aad(context: &str) -> Aad<Vec<u8>> {
    Aad::from(("phala/sealed/v1", context).encode())
}

/// Seals `data`; `context` says what it is, and must be the same to open it.
pub fn seal(key: &SealKey, context: &str, data: &[u8], rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Coded> {
    let mut nonce = [0; 12];
    rng.fill_bytes(&mut nonce);
    let mut text = Zeroizing::new(data.to_vec());
    let tag = cipher(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(context), &mut text)
        .map_err(|_| Code::Internal)?;
    Ok([&[VERSION], nonce.as_slice(), &text, tag.as_ref()].concat())
}

/// Opens what [`seal`] made on the same machine with the same program. Fails with [`Code::Unsealable`].
pub fn unseal(key: &SealKey, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Coded> {
    let (version, rest) = sealed.split_first().ok_or(Code::Unsealable)?;
    let (nonce, text) = rest.split_first_chunk::<12>().ok_or(Code::Unsealable)?;
    if *version != VERSION {
        return Err(Coded::new(Code::Unsealable, format!("format {version} is not known")));
    }
    let mut text = Zeroizing::new(text.to_vec());
    let length = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(context), &mut text)
        .map_err(|_| Code::Unsealable)?
        .len();
    text.truncate(length);
    Ok(text)
}
