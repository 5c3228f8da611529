//! Serialises a value as the hex digits of its SCALE encoding, for genesis files.

use codec::{DecodeAll, Encode};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<T: Encode, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("0x{}", hex::encode(value.encode())))
}

pub(crate) fn deserialize<'de, T: DecodeAll, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(&text)).map_err(D::Error::custom)?;
    T::decode_all(&mut bytes.as_slice()).map_err(D::Error::custom)
}
