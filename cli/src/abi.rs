//! Arguments and answers of contracts as people write them, by the contract's ink! metadata.
//!
//! Values are written in SCON (SCALE object notation), as ink!'s own tools do: `true`, `42`, `"text"`, `[1, 2]`,
//! `Some(3)`, `{ field: 1 }`. Two things are made easier: an account may be named (`//Alice`) or be an address of
//! this network, and a text need not be quoted.

use anyhow::{Context, Result, anyhow, bail};
use contract_transcode::{ContractMessageTranscoder, Value};
use phala_client::Account;
use phala_primitives::AccountId;
use scale_info::{TypeDef, TypeDefPrimitive};
use std::str::FromStr;

/// The interface of one contract.
pub struct Abi {
    transcoder: ContractMessageTranscoder,
}

impl std::fmt::Debug for Abi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Abi").finish_non_exhaustive()
    }
}

/// An answer, decoded.
#[derive(Debug)]
pub struct Decoded {
    /// The value as a person reads it.
    pub text: String,
    /// The value for programs.
    pub json: serde_json::Value,
    /// Whether the contract answered with its own error (`Err(…)`).
    pub is_err: bool,
}

impl Abi {
    /// Reads ink! metadata of version 5.
    pub fn new(metadata: &serde_json::Value) -> Result<Self> {
        let project = serde_json::from_value(metadata.clone()).context("the metadata is not ink! 5 metadata")?;
        Ok(Self { transcoder: ContractMessageTranscoder::new(project) })
    }

    /// Input of a constructor or message: selector and arguments.
    pub fn encode(&self, name: &str, arguments: &[String]) -> Result<Vec<u8>> {
        let types = self.argument_types(name);
        let written: Vec<String> = arguments
            .iter()
            .enumerate()
            .map(|(i, text)| self.normalise(text, types.get(i).copied()))
            .collect::<Result<_>>()?;
        self.transcoder.encode(name, &written).map_err(|error| anyhow!("{name}: {error}"))
    }

    /// Whether the message changes the contract (`&mut self`). `None` if there is no such message.
    pub fn mutates(&self, message: &str) -> Option<bool> {
        let spec = self.transcoder.metadata().spec();
        spec.messages().iter().find(|m| m.label() == message).map(|m| m.mutates())
    }

    /// Decodes what a message returned.
    pub fn decode(&self, message: &str, mut data: &[u8]) -> Result<Decoded> {
        let value = self.transcoder.decode_message_return(message, &mut data)?;
        Ok(present(strip_lang_error(value)))
    }

    /// Decodes what a constructor returned, `None` if nothing.
    pub fn decode_constructor(&self, constructor: &str, mut data: &[u8]) -> Option<Decoded> {
        let value = self.transcoder.decode_constructor_return(constructor, &mut data).ok()?;
        Some(present(strip_lang_error(value)))
    }

    /// One line for each constructor and message, for help.
    pub fn signatures(&self) -> Vec<String> {
        let spec = self.transcoder.metadata().spec();
        let line = |label: &str, arguments: Vec<String>, kind: &str| format!("{kind} {label}({})", arguments.join(", "));
        let constructors = spec.constructors().iter().map(|c| {
            line(c.label(), c.args().iter().map(|a| a.label().clone()).collect(), "constructor")
        });
        let messages = spec.messages().iter().map(|m| {
            let kind = if m.mutates() { "send " } else { "query" };
            line(m.label(), m.args().iter().map(|a| a.label().clone()).collect(), kind)
        });
        constructors.chain(messages).collect()
    }

    fn argument_types(&self, name: &str) -> Vec<u32> {
        let spec = self.transcoder.metadata().spec();
        let of = |args: &[ink_metadata::MessageParamSpec<scale_info::form::PortableForm>]| {
            args.iter().map(|a| a.ty().ty().id).collect()
        };
        spec.constructors()
            .iter()
            .find(|c| c.label() == name)
            .map(|c| of(c.args()))
            .or_else(|| spec.messages().iter().find(|m| m.label() == name).map(|m| of(m.args())))
            .unwrap_or_default()
    }

    fn normalise(&self, text: &str, type_id: Option<u32>) -> Result<String> {
        let registry = self.transcoder.metadata().registry();
        let is_text = type_id
            .and_then(|id| registry.resolve(id))
            .is_some_and(|ty| matches!(ty.type_def, TypeDef::Primitive(TypeDefPrimitive::Str)));
        if is_text && !text.starts_with('"') {
            return Ok(format!("{text:?}"));
        }
        name_accounts(text)
    }
}

/// Replaces each account outside of quotes by hexadecimal, which the transcoder reads for any account.
fn name_accounts(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if rest.starts_with('"') {
            let end = rest[1..].find('"').map_or(rest.len(), |i| i + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end.max(rest.chars().next().map_or(1, char::len_utf8)));
        out.push_str(&word_to_account(word)?);
        rest = tail;
    }
    Ok(out)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '/' || c == '_'
}

fn word_to_account(word: &str) -> Result<String> {
    if word.starts_with("//") {
        let account = Account::from_suri(word).map_err(|error| anyhow!("{word} is no account: {error}"))?;
        return Ok(format!("0x{}", hex::encode(account.id().0)));
    }
    // An address is 47 or 48 base58 characters; anything shorter is a number or a word.
    if (46..=50).contains(&word.len()) {
        match AccountId::from_str(word) {
            Ok(account) => return Ok(format!("0x{}", hex::encode(account.0))),
            Err(error) if word.chars().all(|c| c.is_ascii_alphanumeric()) => bail!("{word}: {error}"),
            Err(_) => {}
        }
    }
    Ok(word.to_owned())
}

/// ink! wraps every answer in `Result<T, LangError>`; the outer `Ok` is of no interest.
fn strip_lang_error(value: Value) -> Value {
    if let Value::Tuple(ref tuple) = value
        && tuple.ident().as_deref() == Some("Ok")
        && let Some(inner) = tuple.values().next()
    {
        return inner.clone();
    }
    value
}

fn present(value: Value) -> Decoded {
    let is_err = matches!(&value, Value::Tuple(tuple) if tuple.ident().as_deref() == Some("Err"));
    let value = own_addresses(value);
    Decoded { text: value.to_string(), json: to_json(&value), is_err }
}

/// The transcoder prints accounts with the generic prefix; ours is 30.
fn own_addresses(value: Value) -> Value {
    match value {
        Value::Literal(text) => match AccountId::from_ss58(&text) {
            Ok((account, _)) => Value::Literal(account.to_string()),
            Err(_) => Value::Literal(text),
        },
        Value::Seq(seq) => Value::Seq(seq.elems().iter().cloned().map(own_addresses).collect::<Vec<_>>().into()),
        Value::Tuple(tuple) => Value::Tuple(contract_transcode::Tuple::new(
            tuple.ident().as_deref(),
            tuple.values().cloned().map(own_addresses).collect(),
        )),
        other => other,
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::{Value as Json, json};
    match value {
        Value::Bool(b) => json!(b),
        Value::Char(c) => json!(c.to_string()),
        // Beyond 2^53 JavaScript would round, so large numbers are texts.
        Value::UInt(n) => u64::try_from(*n).ok().filter(|n| *n <= 1 << 53).map_or_else(|| json!(n.to_string()), |n| json!(n)),
        Value::Int(n) => i64::try_from(*n).ok().filter(|n| n.unsigned_abs() <= 1 << 53).map_or_else(|| json!(n.to_string()), |n| json!(n)),
        Value::String(text) | Value::Literal(text) => json!(text),
        Value::Hex(hex) => json!(format!("0x{}", hex::encode(hex.bytes()))),
        Value::Unit => Json::Null,
        Value::Seq(seq) => seq.elems().iter().map(to_json).collect(),
        Value::Tuple(tuple) => {
            let mut values: Vec<Json> = tuple.values().map(to_json).collect();
            match tuple.ident() {
                Some(name) if values.is_empty() => json!(name),
                Some(name) if values.len() == 1 => json!({ name: values.remove(0) }),
                Some(name) => json!({ name: values }),
                None => Json::Array(values),
            }
        }
        Value::Map(map) => {
            let fields = map.iter().map(|(key, value)| (key.to_string(), to_json(value))).collect::<serde_json::Map<_, _>>();
            match map.ident() {
                Some(name) if !fields.is_empty() => json!({ name: fields }),
                Some(name) => json!(name),
                None => Json::Object(fields),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_outside_of_quotes_only() {
        let alice = "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d";
        assert_eq!(name_accounts("//Alice").unwrap(), alice);
        assert_eq!(name_accounts("[//Alice, \"//Alice\"]").unwrap(), format!("[{alice}, \"//Alice\"]"));
        assert_eq!(name_accounts("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY").unwrap(), alice);
        assert_eq!(name_accounts("Some(1_000)").unwrap(), "Some(1_000)");
        assert!(name_accounts("5GrvvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY").is_err());
    }
}
