//! Hashes and signatures.

use super::{define, status};
use crate::{
    gas,
    guest::{Guest, Host, Result},
};
use blake2::{
    Blake2b,
    digest::consts::{U16, U32},
};
use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use phala_primitives::SIGNING_CONTEXT;
use sha2::{Digest, Sha256};
use sha3::Keccak256;
use wasmtime::Linker;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    define! { linker;
        "seal0" "hash_sha2_256" = sha2_256(input: u32, input_len: u32, out: u32) -> ();
        "seal0" "hash_keccak_256" = keccak_256(input: u32, input_len: u32, out: u32) -> ();
        "seal0" "hash_blake2_256" = blake2_256(input: u32, input_len: u32, out: u32) -> ();
        "seal0" "hash_blake2_128" = blake2_128(input: u32, input_len: u32, out: u32) -> ();
        "seal0" "sr25519_verify" = sr25519_verify(signature: u32, key: u32, message_len: u32, message: u32) -> u32;
        "seal0" "ecdsa_recover" = ecdsa_recover(signature: u32, hash: u32, out: u32) -> u32;
        "seal0" "ecdsa_to_eth_address" = ecdsa_to_eth_address(key: u32, out: u32) -> u32;
    }
    Ok(())
}

fn hash<D: Digest>(guest: &mut Guest<'_, '_>, per_byte: u64, input: u32, input_len: u32, out: u32) -> Result<()> {
    guest.charge(gas::HASH.saturating_add(gas::bytes(per_byte, input_len as usize)))?;
    let digest = D::digest(guest.view(input, input_len)?);
    guest.write(out, &digest)
}

fn sha2_256(guest: &mut Guest<'_, '_>, input: u32, input_len: u32, out: u32) -> Result<()> {
    hash::<Sha256>(guest, gas::SHA256_BYTE, input, input_len, out)
}

fn keccak_256(guest: &mut Guest<'_, '_>, input: u32, input_len: u32, out: u32) -> Result<()> {
    hash::<Keccak256>(guest, gas::KECCAK_BYTE, input, input_len, out)
}

fn blake2_256(guest: &mut Guest<'_, '_>, input: u32, input_len: u32, out: u32) -> Result<()> {
    hash::<Blake2b<U32>>(guest, gas::BLAKE2_BYTE, input, input_len, out)
}

fn blake2_128(guest: &mut Guest<'_, '_>, input: u32, input_len: u32, out: u32) -> Result<()> {
    hash::<Blake2b<U16>>(guest, gas::BLAKE2_BYTE, input, input_len, out)
}

fn sr25519_verify(guest: &mut Guest<'_, '_>, signature: u32, key: u32, message_len: u32, message: u32) -> Result<u32> {
    guest.charge(gas::SR25519_VERIFY.saturating_add(gas::bytes(gas::BLAKE2_BYTE, message_len as usize)))?;
    let (signature, key) = (guest.array::<64>(signature)?, guest.array::<32>(key)?);
    let message = guest.view(message, message_len)?;
    let valid = match (schnorrkel::Signature::from_bytes(&signature), schnorrkel::PublicKey::from_bytes(&key)) {
        (Ok(signature), Ok(key)) => key.verify_simple(SIGNING_CONTEXT, message, &signature).is_ok(),
        _ => false,
    };
    Ok(if valid { status::SUCCESS } else { status::SR25519_VERIFY_FAILED })
}

fn ecdsa_recover(guest: &mut Guest<'_, '_>, signature: u32, hash: u32, out: u32) -> Result<u32> {
    guest.charge(gas::ECDSA_RECOVER)?;
    let (signature, hash) = (guest.array::<65>(signature)?, guest.array::<32>(hash)?);
    match recover(&signature, &hash) {
        Some(key) => guest.write(out, &key).map(|()| status::SUCCESS),
        None => Ok(status::ECDSA_RECOVERY_FAILED),
    }
}

/// The compressed key that made a signature. The recovery byte may be Ethereum's (27 and up). A signature with a high
/// `s` is as good as its mirror image with a low one, which is what the library wants.
fn recover(signature: &[u8; 65], hash: &[u8; 32]) -> Option<[u8; 33]> {
    let (body, id) = (Signature::from_slice(signature.get(..64)?).ok()?, *signature.get(64)?);
    let id = RecoveryId::from_byte(if id > 26 { id - 27 } else { id })?;
    let (body, id) = match body.normalize_s() {
        Some(low) => (low, RecoveryId::new(!id.is_y_odd(), id.is_x_reduced())),
        None => (body, id),
    };
    let key = VerifyingKey::recover_from_prehash(hash, &body, id).ok()?;
    key.to_encoded_point(true).as_bytes().try_into().ok()
}

fn ecdsa_to_eth_address(guest: &mut Guest<'_, '_>, key: u32, out: u32) -> Result<u32> {
    guest.charge(gas::ECDSA_ADDRESS)?;
    let key = guest.array::<33>(key)?;
    let Ok(key) = VerifyingKey::from_sec1_bytes(&key) else { return Ok(status::ECDSA_RECOVERY_FAILED) };
    let point = key.to_encoded_point(false);
    let digest = Keccak256::digest(point.as_bytes().get(1..).unwrap_or_default());
    guest.write(out, digest.get(12..).unwrap_or_default())?;
    Ok(status::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovers_low_high_and_ethereum_style_alike() {
        let key = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
        let expected = key.verifying_key().to_encoded_point(true);
        let (low, id) = key.sign_prehash_recoverable(&[7; 32]).unwrap();
        let (r, s) = low.split_scalars();
        let high = Signature::from_scalars(r, -*s).unwrap();
        for (body, id) in [(low, id.to_byte()), (low, id.to_byte() + 27), (high, id.to_byte() ^ 1)] {
            let mut signature = [0; 65];
            signature[..64].copy_from_slice(&body.to_bytes());
            signature[64] = id;
            assert_eq!(recover(&signature, &[7; 32]).unwrap(), expected.as_bytes());
        }
        assert_eq!(recover(&[255; 65], &[7; 32]), None);
    }
}
