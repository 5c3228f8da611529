//! Buckets: an observer learns of a message's length no more than its bucket.

use crate::MAX_PADDED;
use codec::{DecodeAll, Encode, Output};
use phala_primitives::{Code, Coded};

/// Sizes of small padded plaintexts, in bytes, ascending.
const SMALL: [usize; 6] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// Sizes of larger ones between a power of two and the next.
const STEPS: usize = 8;
/// Bytes of the length in front.
const PREFIX: usize = 4;

/// The smallest bucket for content of this length.
fn bucket(length: usize) -> Option<usize> {
    let need = length.checked_add(PREFIX)?;
    SMALL.into_iter().find(|size| *size >= need).or_else(|| {
        let step = (1usize << need.checked_ilog2()?) / STEPS;
        let size = need.checked_next_multiple_of(step)?.min(MAX_PADDED);
        (need <= size).then_some(size)
    })
}

/// Appends the padded encoding of `message` to `out`, with room left for a tag, or fails with [`Code::TooLarge`].
pub(crate) fn pad(message: &impl Encode, out: &mut Vec<u8>) -> Result<(), Coded> {
    let length = message.encoded_size();
    let size = bucket(length).ok_or(Code::TooLarge)?;
    let end = out.len() + size;
    out.reserve_exact(size + crate::crypto::TAG);
    out.write(&(length as u32).to_le_bytes());
    message.encode_to(out);
    out.resize(end, 0);
    Ok(())
}

/// Decodes a padded message; fails with [`Code::Malformed`] unless it is exactly what [`pad`] makes.
pub(crate) fn unpad<T: DecodeAll>(padded: &[u8]) -> Result<T, Coded> {
    let (prefix, rest) = padded.split_first_chunk::<PREFIX>().ok_or(Code::Malformed)?;
    let length = u32::from_le_bytes(*prefix) as usize;
    let content = rest.get(..length).ok_or(Code::Malformed)?;
    let zeros = rest.get(length..).ok_or(Code::Malformed)?;
    if bucket(length) != Some(padded.len()) || zeros.iter().any(|byte| *byte != 0) {
        return Err(Coded::new(Code::Malformed, "the padding is wrong"));
    }
    T::decode_all(&mut &*content).map_err(|_| Code::Malformed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(length: usize) -> Vec<u8> {
        let mut out = vec![];
        pad(&vec![7u8; length], &mut out).unwrap();
        out
    }

    #[test]
    fn lengths_fall_into_few_buckets_and_come_back() {
        for length in [0, 1, 63, 250, 251, 300, 1018, 1019, 5000, 200_000, 300_000, 2 << 20, MAX_PADDED - PREFIX - 4] {
            let out = padded(length);
            assert!(out.len() >= length && (length < 256 << 10 || out.len() <= length + length / 8 + 8));
            assert_eq!(unpad::<Vec<u8>>(&out).unwrap(), vec![7; length]);
        }
        let too_long = vec![0u8; MAX_PADDED - PREFIX - 3];
        assert_eq!(pad(&too_long, &mut vec![]).unwrap_err().known(), Some(Code::TooLarge));
    }

    #[test]
    fn there_are_few_sizes() {
        let mut sizes: Vec<usize> = (0..MAX_PADDED - PREFIX).step_by(1000).filter_map(bucket).collect();
        sizes.dedup();
        assert!(sizes.len() <= 56, "{}", sizes.len());
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]) && sizes.last() == Some(&MAX_PADDED));
        assert_eq!(bucket(MAX_PADDED - PREFIX + 1), None);
    }

    #[test]
    fn only_one_encoding_is_accepted() {
        let good = padded(5);
        let mut dirty = good.clone();
        dirty[255] = 1;
        let mut longer = good.clone();
        longer[0] += 1;
        let mut bigger = good.clone();
        bigger.resize(1024, 0);
        for bad in [&dirty, &longer, &bigger, &good[..255].to_vec(), &vec![], &vec![0xff; 256]] {
            assert_eq!(unpad::<Vec<u8>>(bad).unwrap_err().known(), Some(Code::Malformed));
        }
    }
}
