//! What an extrinsic did: events and errors, decoded by the metadata of the chain.
//!
//! The metadata comes from the node and is not proven: a hostile node could give an event or error another name. The
//! bytes of the events are proven.

use codec::Decode;
use frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed, v14::RuntimeMetadataV14};
use phala_primitives::{Code, Coded};
use scale_value::{Composite, Primitive, Value, ValueDef, Variant};

/// Something that happened, as the runtime reports it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name of the pallet.
    pub pallet: String,
    /// Name of the event.
    pub name: String,
    /// Its fields.
    pub fields: Composite<u32>,
}

impl Event {
    /// The number in the field of this name, if it is one.
    pub fn number(&self, field: &str) -> Option<u128> {
        match &get(&self.fields, field)?.value {
            ValueDef::Primitive(Primitive::U128(number)) => Some(*number),
            _ => None,
        }
    }

    /// The 32 bytes in the field of this name, if they are that: an account or a hash.
    pub fn bytes32(&self, field: &str) -> Option<[u8; 32]> {
        let mut value = get(&self.fields, field)?;
        // A type of one field around them, such as `AccountId`.
        while let ValueDef::Composite(Composite::Unnamed(fields)) = &value.value {
            match fields.as_slice() {
                [only] => value = only,
                bytes => return bytes.iter().map(byte).collect::<Option<Vec<_>>>()?.try_into().ok(),
            }
        }
        None
    }
}

fn byte(value: &Value<u32>) -> Option<u8> {
    match &value.value {
        ValueDef::Primitive(Primitive::U128(number)) => u8::try_from(*number).ok(),
        _ => None,
    }
}

fn get<'a>(fields: &'a Composite<u32>, name: &str) -> Option<&'a Value<u32>> {
    match fields {
        Composite::Named(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
        Composite::Unnamed(_) => None,
    }
}

fn variant(value: &Value<u32>) -> Option<&Variant<u32>> {
    match &value.value {
        ValueDef::Variant(variant) => Some(variant),
        _ => None,
    }
}

fn first(fields: &Composite<u32>) -> Option<&Value<u32>> {
    fields.values().next()
}

/// The chain's description of itself.
pub(crate) struct Metadata(RuntimeMetadataV14);

impl Metadata {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Coded> {
        match RuntimeMetadataPrefixed::decode(&mut &*bytes) {
            Ok(RuntimeMetadataPrefixed(_, RuntimeMetadata::V14(metadata))) => Ok(Self(metadata)),
            _ => Err(Coded::new(Code::Malformed, "the node's metadata is not of version 14")),
        }
    }

    /// A constant of a pallet, encoded.
    pub(crate) fn constant(&self, pallet: &str, name: &str) -> Option<&[u8]> {
        let pallet = self.0.pallets.iter().find(|other| other.name == pallet)?;
        pallet.constants.iter().find(|constant| constant.name == name).map(|constant| constant.value.as_slice())
    }

    fn events_type(&self) -> Option<u32> {
        let system = self.0.pallets.iter().find(|pallet| pallet.name == "System")?;
        let entry = system.storage.as_ref()?.entries.iter().find(|entry| entry.name == "Events")?;
        match &entry.ty {
            frame_metadata::v14::StorageEntryType::Plain(kind) => Some(kind.id),
            frame_metadata::v14::StorageEntryType::Map { .. } => None,
        }
    }

    /// The events of one extrinsic, out of all events of its block.
    pub(crate) fn events_of(&self, all: &[u8], extrinsic: u32) -> Result<Vec<Event>, Coded> {
        let bad = || Coded::new(Code::Malformed, "the block's events do not fit the node's metadata");
        let kind = self.events_type().ok_or_else(bad)?;
        let records = scale_value::scale::decode_as_type(&mut &*all, kind, &self.0.types).map_err(|_| bad())?;
        let ValueDef::Composite(records) = records.value else { return Err(bad()) };
        let of_extrinsic = |record: Value<u32>| {
            let ValueDef::Composite(record) = record.value else { return None };
            let phase = variant(get(&record, "phase")?)?;
            let ours = phase.name == "ApplyExtrinsic"
                && matches!(first(&phase.values)?.value, ValueDef::Primitive(Primitive::U128(n)) if n == u128::from(extrinsic));
            let outer = variant(get(&record, "event")?).filter(|_| ours)?;
            let inner = variant(first(&outer.values)?)?;
            Some(Event { pallet: outer.name.clone(), name: inner.name.clone(), fields: inner.values.clone() })
        };
        Ok(records.into_values().filter_map(of_extrinsic).collect())
    }

    /// Fails if the events say that the extrinsic failed, with the error's name.
    pub(crate) fn check_success(&self, events: &[Event]) -> Result<(), Coded> {
        let of_system = |name: &str| events.iter().find(|event| event.pallet == "System" && event.name == name);
        if let Some(failed) = of_system("ExtrinsicFailed") {
            let name = get(&failed.fields, "dispatch_error").and_then(|error| self.error_name(error));
            return Err(Coded::new(Code::ExtrinsicFailed, name.unwrap_or_else(|| "for an unknown reason".into())));
        }
        match of_system("ExtrinsicSuccess") {
            Some(_) => Ok(()),
            None => Err(Coded::new(Code::Malformed, "the block does not say whether the extrinsic succeeded")),
        }
    }

    /// `Pallet::Error: what it means`, or the variants of a `DispatchError` that belongs to no pallet.
    fn error_name(&self, error: &Value<u32>) -> Option<String> {
        let outer = variant(error)?;
        if outer.name != "Module" {
            let inner = first(&outer.values).and_then(variant).map(|inner| format!("::{}", inner.name));
            return Some(format!("{}{}", outer.name, inner.unwrap_or_default()));
        }
        let module = match &first(&outer.values)?.value {
            ValueDef::Composite(fields) if get(fields, "index").is_some() => fields,
            _ => &outer.values,
        };
        let index = byte(get(module, "index")?)?;
        let ValueDef::Composite(codes) = &get(module, "error")?.value else { return None };
        let code = byte(first(codes)?)?;
        let pallet = self.0.pallets.iter().find(|pallet| pallet.index == index)?;
        let kind = self.0.types.resolve(pallet.error.as_ref()?.ty.id)?;
        let scale_info::TypeDef::Variant(errors) = &kind.type_def else { return None };
        let error = errors.variants.iter().find(|variant| variant.index == code)?;
        Some(format!("{}::{}: {}", pallet.name, error.name, error.docs.join(" ").trim()))
    }
}
