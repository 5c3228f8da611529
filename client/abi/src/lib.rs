//! Arguments and answers of contracts as people write them, by the contract's ink! 5 metadata.
//!
//! Values are written as in Rust: `true`, `42`, `"text"`, `[1, 2]`, `(1, "two")`, `Some(3)`, `None`, `{ field: 1 }`,
//! `0x` and hex digits for bytes. An account may be named (`//Alice`) or be an address, and a text need not be quoted.
//! `scale-value` does the encoding and decoding by the metadata's types.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod layout;

pub use layout::storage_conflicts;

use anyhow::{Context, Result, anyhow, bail};
use phala_primitives::{AccountId, Code, Coded, Hash};
use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive};
use scale_value::{Composite, Primitive, Value, ValueDef, scale};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::str::FromStr;
use subxt_signer::{SecretUri, sr25519::Keypair};

/// The interface of one contract.
#[derive(Debug)]
pub struct Abi {
    types: PortableRegistry,
    constructors: Vec<Entry>,
    messages: Vec<Entry>,
    events: Vec<EventEntry>,
}

/// An event, as the metadata describes it.
#[derive(Debug, Deserialize)]
struct EventEntry {
    label: String,
    args: Vec<Argument>,
    /// Its first topic; none if it is anonymous.
    signature_topic: Option<String>,
}

/// A constructor or message, as the metadata describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    label: String,
    selector: String,
    args: Vec<Argument>,
    return_type: Option<TypeRef>,
    #[serde(default)]
    mutates: bool,
}

#[derive(Debug, Deserialize)]
struct Argument {
    label: String,
    #[serde(rename = "type")]
    ty: TypeRef,
}

#[derive(Debug, Deserialize)]
struct TypeRef {
    #[serde(rename = "type")]
    id: u32,
}

/// An answer, decoded.
#[derive(Debug)]
pub struct Decoded {
    /// The value as a person reads it.
    pub text: String,
    /// The value for programs.
    pub json: Json,
    /// Whether the contract answered with its own error (`Err(…)`).
    pub is_err: bool,
    /// What went wrong before the contract's own code ran (`LangError`), explained.
    pub explained: Option<&'static str>,
}

/// What ink!'s only `LangError` means.
const NOT_READ: &str = "the contract could not read the message: its code is not what this metadata describes; name the \
                        bundle that runs there with --bundle";

impl Abi {
    /// Reads ink! metadata of version 5.
    pub fn new(metadata: &Json) -> Result<Self> {
        let part = |path: &str| metadata.pointer(path).cloned().unwrap_or(Json::Null);
        let read = |path: &str| -> Result<Vec<Entry>> {
            serde_json::from_value(part(path)).with_context(|| format!("the metadata has no `{path}` of ink! 5"))
        };
        let types = serde_json::from_value(json!({ "types": part("/types") }));
        Ok(Self {
            types: types.context("the metadata has no types of ink! 5")?,
            constructors: read("/spec/constructors")?,
            messages: read("/spec/messages")?,
            events: serde_json::from_value(part("/spec/events")).unwrap_or_default(),
        })
    }

    /// Input of a constructor or message: selector and arguments.
    pub fn encode(&self, name: &str, arguments: &[String]) -> Result<Vec<u8>> {
        let entry = self.find(name).ok_or_else(|| anyhow!("there is no constructor or message `{name}`"))?;
        if entry.args.len() != arguments.len() {
            bail!("`{}` takes {} arguments, {} are given", signature(entry), entry.args.len(), arguments.len());
        }
        let mut out = hex::decode(entry.selector.trim_start_matches("0x")).context("the metadata's selector")?;
        for (argument, text) in entry.args.iter().zip(arguments) {
            let value = self.parse(text, argument.ty.id).with_context(|| argument.label.clone())?;
            scale::encode_as_type(&value, argument.ty.id, &self.types, &mut out)
                .map_err(|error| anyhow!("{}: `{text}` does not fit: {error}", argument.label))?;
        }
        Ok(out)
    }

    /// Whether the message changes the contract (`&mut self`). `None` if there is no such message.
    pub fn mutates(&self, message: &str) -> Option<bool> {
        self.messages.iter().find(|m| m.label == message).map(|m| m.mutates)
    }

    /// Decodes what a constructor or message returned.
    pub fn decode(&self, name: &str, mut data: &[u8]) -> Result<Decoded> {
        let entry = self.find(name).ok_or_else(|| anyhow!("there is no constructor or message `{name}`"))?;
        let Some(ty) = &entry.return_type else {
            return Ok(Decoded { text: "()".into(), json: Json::Null, is_err: false, explained: None });
        };
        let value = scale::decode_as_type(&mut data, ty.id, &self.types)
            .map_err(|error| anyhow!("the answer does not fit the metadata: {error}"))?;
        // ink! wraps every answer in `Result<T, LangError>`; the outer `Ok` is of no interest.
        let inner = match &value.value {
            ValueDef::Variant(outer) if outer.name == "Ok" => outer.values.values().next().cloned(),
            _ => None,
        };
        let value = inner.unwrap_or(value);
        let is_err = matches!(&value.value, ValueDef::Variant(variant) if variant.name == "Err");
        let is_lang_error = is_err && value.context == ty.id;
        let explained = is_lang_error.then_some(NOT_READ);
        Ok(Decoded { text: self.text(&value), json: self.json(&value), is_err, explained })
    }

    /// Name and content of an event.
    pub fn event(&self, topics: &[Hash], mut data: &[u8]) -> Result<(String, Decoded)> {
        let first = topics.first().map(ToString::to_string);
        let known = |event: &&EventEntry| event.signature_topic.is_some() && event.signature_topic == first;
        let event = self.events.iter().find(known).ok_or_else(|| anyhow!("the metadata has no such event"))?;
        let mut fields = vec![];
        for argument in &event.args {
            let value = scale::decode_as_type(&mut data, argument.ty.id, &self.types)
                .map_err(|error| anyhow!("{}: {error}", argument.label))?;
            fields.push((argument.label.clone(), value));
        }
        let value = Composite::Named(fields);
        let json = match &value {
            Composite::Named(named) => {
                named.iter().map(|(name, value)| (name.clone(), self.json(value))).collect::<serde_json::Map<_, _>>()
            }
            Composite::Unnamed(_) => serde_json::Map::new(),
        };
        Ok((
            event.label.clone(),
            Decoded { text: self.fields(&value), json: Json::Object(json), is_err: false, explained: None },
        ))
    }

    /// One line for each constructor and message, for help.
    pub fn signatures(&self) -> Vec<String> {
        let messages =
            self.messages.iter().map(|m| format!("{} {}", if m.mutates { "send" } else { "query" }, signature(m)));
        self.constructors.iter().map(|c| format!("constructor {}", signature(c))).chain(messages).collect()
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.constructors.iter().chain(&self.messages).find(|entry| entry.label == name)
    }

    fn parse(&self, text: &str, type_id: u32) -> Result<Value> {
        let is_text = matches!(
            self.types.resolve(type_id).map(|ty| &ty.type_def),
            Some(TypeDef::Primitive(TypeDefPrimitive::Str))
        );
        if is_text && !text.starts_with('"') {
            return Ok(Value::string(text));
        }
        let normal = normalise(text)?;
        let parser = scale_value::stringify::from_str_custom()
            .add_custom_parser(scale_value::stringify::custom_parsers::parse_hex);
        match parser.parse(&normal) {
            (Ok(value), rest) if rest.trim().is_empty() => Ok(value),
            (Ok(_), rest) => bail!("`{text}`: `{}` is left over", rest.trim()),
            (Err(error), _) => bail!("`{text}`: {error}"),
        }
    }

    /// The account that a value is, if its type says so.
    fn account(&self, value: &Value<u32>) -> Option<AccountId> {
        let ty = self.types.resolve(value.context)?;
        if ty.path.segments.last().is_none_or(|name| name != "AccountId" && name != "AccountId32") {
            return None;
        }
        let ValueDef::Composite(outer) = &value.value else { return None };
        bytes_of(outer.values().next()?)?.try_into().ok().map(AccountId)
    }

    /// Bytes that a value is: an array or vector of `u8`.
    fn bytes(&self, value: &Value<u32>) -> Option<Vec<u8>> {
        let item = match &self.types.resolve(value.context)?.type_def {
            TypeDef::Array(array) => array.type_param.id,
            TypeDef::Sequence(sequence) => sequence.type_param.id,
            _ => return None,
        };
        let item = &self.types.resolve(item)?.type_def;
        matches!(item, TypeDef::Primitive(TypeDefPrimitive::U8)).then(|| bytes_of(value)).flatten()
    }

    fn is_list(&self, value: &Value<u32>) -> bool {
        let def = self.types.resolve(value.context).map(|ty| &ty.type_def);
        matches!(def, Some(TypeDef::Array(_) | TypeDef::Sequence(_)))
    }

    fn text(&self, value: &Value<u32>) -> String {
        if let Some(account) = self.account(value) {
            return account.to_string();
        }
        if let Some(bytes) = self.bytes(value) {
            return format!("0x{}", hex::encode(bytes));
        }
        match &value.value {
            ValueDef::Composite(fields) if self.is_list(value) => format!("[{}]", self.joined(fields)),
            ValueDef::Composite(fields) => self.fields(fields),
            ValueDef::Variant(variant) if variant.values.is_empty() => variant.name.clone(),
            ValueDef::Variant(variant) => match &variant.values {
                Composite::Named(_) => format!("{} {}", variant.name, self.fields(&variant.values)),
                Composite::Unnamed(_) => format!("{}{}", variant.name, self.fields(&variant.values)),
            },
            ValueDef::Primitive(Primitive::String(text)) => format!("{text:?}"),
            ValueDef::Primitive(primitive) => plain(primitive),
            ValueDef::BitSequence(bits) => bits.iter().map(|bit| if bit { '1' } else { '0' }).collect(),
        }
    }

    fn joined(&self, fields: &Composite<u32>) -> String {
        fields.values().map(|value| self.text(value)).collect::<Vec<_>>().join(", ")
    }

    fn fields(&self, fields: &Composite<u32>) -> String {
        match fields {
            Composite::Named(named) => {
                let fields: Vec<_> =
                    named.iter().map(|(name, value)| format!("{name}: {}", self.text(value))).collect();
                format!("{{ {} }}", fields.join(", "))
            }
            Composite::Unnamed(_) => format!("({})", self.joined(fields)),
        }
    }

    fn json(&self, value: &Value<u32>) -> Json {
        if let Some(account) = self.account(value) {
            return json!(account.to_string());
        }
        if let Some(bytes) = self.bytes(value) {
            return json!(format!("0x{}", hex::encode(bytes)));
        }
        match &value.value {
            ValueDef::Composite(fields) => self.json_fields(fields),
            ValueDef::Variant(variant) if variant.values.is_empty() => match variant.name.as_str() {
                "None" => Json::Null,
                name => json!(name),
            },
            ValueDef::Variant(variant) => match &variant.values {
                Composite::Unnamed(values) if values.len() == 1 => json!({ &variant.name: self.json(&values[0]) }),
                fields => json!({ &variant.name: self.json_fields(fields) }),
            },
            ValueDef::Primitive(Primitive::Bool(bool)) => json!(bool),
            ValueDef::Primitive(Primitive::String(text)) => json!(text),
            // Beyond 2^53 JavaScript would round, so large numbers are texts.
            ValueDef::Primitive(Primitive::U128(n)) if *n <= 1 << 53 => json!(*n as u64),
            ValueDef::Primitive(Primitive::I128(n)) if n.unsigned_abs() <= 1 << 53 => json!(*n as i64),
            ValueDef::Primitive(primitive) => json!(plain(primitive)),
            ValueDef::BitSequence(_) => json!(self.text(value)),
        }
    }

    fn json_fields(&self, fields: &Composite<u32>) -> Json {
        match fields {
            Composite::Named(named) => {
                Json::Object(named.iter().map(|(name, value)| (name.clone(), self.json(value))).collect())
            }
            Composite::Unnamed(values) if values.is_empty() => Json::Null,
            Composite::Unnamed(values) => values.iter().map(|value| self.json(value)).collect(),
        }
    }
}

fn signature(entry: &Entry) -> String {
    let arguments: Vec<_> = entry.args.iter().map(|a| a.label.as_str()).collect();
    format!("{}({})", entry.label, arguments.join(", "))
}

fn plain(primitive: &Primitive) -> String {
    match primitive {
        Primitive::Bool(bool) => bool.to_string(),
        Primitive::Char(char) => char.to_string(),
        Primitive::String(text) => text.clone(),
        Primitive::U128(n) => n.to_string(),
        Primitive::I128(n) => n.to_string(),
        Primitive::U256(bytes) | Primitive::I256(bytes) => format!("0x{}", hex::encode(bytes)),
    }
}

fn bytes_of<T>(value: &Value<T>) -> Option<Vec<u8>> {
    let ValueDef::Composite(items) = &value.value else { return None };
    items.values().map(|item| item.as_u128().and_then(|byte| u8::try_from(byte).ok())).collect()
}

/// Brings what people write into the form that `scale-value` reads: accounts as hex, lists in round brackets, names of
/// variants with brackets even when they hold nothing, numbers without separators. Texts in quotes stay as they are.
fn normalise(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => end_of_text(rest),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, tail) = rest.split_at(end);
        match first {
            '[' => out.push('('),
            ']' => out.push(')'),
            c if is_word(c) => out.push_str(&word(token, tail)?),
            _ => out.push_str(token),
        }
        rest = tail;
    }
    Ok(out)
}

fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '/' || c == '_'
}

/// The account that a secret belongs to, such as `//Alice`.
///
/// # Errors
/// `BadKey`, without a trace of the text.
pub fn account(suri: &str) -> Result<AccountId, Coded> {
    let uri: SecretUri = suri.trim().parse().map_err(|_| Coded::from(Code::BadKey))?;
    let pair = Keypair::from_uri(&uri).map_err(|_| Coded::from(Code::BadKey))?;
    Ok(AccountId(pair.public_key().0))
}

fn word(word: &str, tail: &str) -> Result<String> {
    if word.starts_with("//") {
        let account = account(word).map_err(|error| anyhow!("{word} is no account: {error}"))?;
        return Ok(format!("0x{}", hex::encode(account.0)));
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return Ok(word.replace('_', ""));
    }
    // An address has 47 or 48 base58 digits; no number or name of a variant is that long.
    if (46..=50).contains(&word.len()) && !word.starts_with("0x") {
        let account = AccountId::from_str(word).map_err(|error| anyhow!("{word}: {error}"))?;
        return Ok(format!("0x{}", hex::encode(account.0)));
    }
    let names_variant = word.starts_with(|c: char| c.is_ascii_uppercase());
    let next = tail.trim_start().chars().next();
    Ok(if names_variant && !matches!(next, Some('(' | '{' | ':')) { format!("{word}()") } else { word.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d";

    fn psp22() -> Abi {
        let bundle =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/fixtures/psp22.contract")).unwrap();
        Abi::new(&serde_json::from_slice(&bundle).unwrap()).unwrap()
    }

    #[test]
    fn what_people_write_is_brought_into_form() {
        assert_eq!(normalise("//Alice").unwrap(), ALICE);
        assert_eq!(normalise("[//Alice, \"//Alice [x]\"]").unwrap(), format!("({ALICE}, \"//Alice [x]\")"));
        assert_eq!(normalise("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY").unwrap(), ALICE);
        assert_eq!(normalise("Some(1_000)").unwrap(), "Some(1000)");
        assert_eq!(normalise("(None, true)").unwrap(), "(None(), true)");
        assert_eq!(normalise(r#""a\"[b""#).unwrap(), r#""a\"[b""#);
        assert!(normalise("5GrvvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY").is_err());
    }

    #[test]
    fn a_constructor_is_encoded_as_ink_does() {
        let arguments = ["1_000".to_owned(), "Some(\"Gold\")".into(), "None".into(), "12".into()];
        let mut expected = vec![0x9b, 0xae, 0x9d, 0x5e];
        expected.extend(1000u128.to_le_bytes());
        expected.extend([1, 16, b'G', b'o', b'l', b'd', 0, 12]);
        assert_eq!(psp22().encode("new", &arguments).unwrap(), expected);
        assert!(psp22().encode("new", &arguments[..3]).is_err());
        assert!(psp22().encode("gold", &[]).is_err());
    }

    #[test]
    fn a_transfer_is_encoded_and_its_answer_decoded() {
        let abi = psp22();
        let data = abi.encode("PSP22::transfer", &["//Alice".into(), "7".into(), "[]".into()]).unwrap();
        let mut expected = vec![0xdb, 0x20, 0xf9, 0xf5];
        expected.extend(hex::decode(&ALICE[2..]).unwrap());
        expected.extend(7u128.to_le_bytes());
        expected.push(0);
        assert_eq!(data, expected);
        assert_eq!(abi.mutates("PSP22::transfer"), Some(true));
        let fine = abi.decode("PSP22::transfer", &[0, 0]).unwrap();
        assert!(!fine.is_err, "{}", fine.text);
        assert!(abi.decode("PSP22::transfer", &[0, 1, 1]).unwrap().is_err);
        let balance = abi.decode("PSP22::balance_of", &[&[0][..], &5u128.to_le_bytes()].concat()).unwrap();
        assert_eq!((balance.text.as_str(), balance.json), ("5", json!(5)));
    }
}
