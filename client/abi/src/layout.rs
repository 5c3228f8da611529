//! Whether new code reads what old code stored.
//!
//! ink! keeps the plain fields of a contract in one cell, encoded one after the other, and each `Mapping` or `Lazy` in
//! cells of its own, under a key made of the field's name. So new code reads old storage if
//! - the plain fields are the same, in the same order and of types that decode alike. Not even a field at the end may be
//!   added: there are no bytes for it;
//! - each `Mapping` and `Lazy` keeps its key and its types. New ones may be added: they begin empty.
//!
//! Types decode alike if they have the same shape; names do not matter, and an enum may get further variants.

use crate::Abi;
use anyhow::{Context, Result};
use scale_info::{TypeDef, form::PortableForm};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// How a contract lays out its storage.
#[derive(Debug, Default)]
struct Layout {
    /// Plain fields of the first cell, in order.
    plain: Vec<Field>,
    /// Fields with cells of their own, by their keys.
    apart: BTreeMap<String, (String, u32)>,
}

/// A plain field: its name, and its type or, for an enum that the metadata spells out, its variants.
#[derive(Debug)]
struct Field {
    name: String,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Type(u32),
    Variants(BTreeMap<String, Vec<Field>>),
}

/// What new code would read wrongly of the storage that old code wrote; nothing if it fits.
///
/// # Errors
/// One of them is no metadata of ink! 5.
pub fn storage_conflicts(old: &Json, new: &Json) -> Result<Vec<String>> {
    let pair = Pair { old: Abi::new(old)?, new: Abi::new(new)? };
    let read = |metadata: &Json| Layout::read(metadata).context("the metadata describe no storage");
    let (old, new) = (read(old)?, read(new)?);
    let mut found = vec![];
    pair.fields(&old.plain, &new.plain, "", &mut found);
    for (key, (name, ty)) in &old.apart {
        match new.apart.get(key) {
            None => found.push(format!("`{name}` is gone or has another name: what it holds would not be found")),
            Some((_, other)) if !pair.alike(*ty, *other, &mut BTreeSet::new()) => {
                found.push(format!("`{name}` has another type"));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

impl Layout {
    fn read(metadata: &Json) -> Option<Self> {
        let mut layout = Self::default();
        let root = metadata.pointer("/storage/root/layout")?;
        layout.plain = layout.walk(root, "")?;
        Some(layout)
    }

    /// Plain fields of a part; those with cells of their own are set apart.
    fn walk(&mut self, part: &Json, name: &str) -> Option<Vec<Field>> {
        let number = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let field = |shape| vec![Field { name: name.to_owned(), shape }];
        if let Some(leaf) = part.get("leaf") {
            return Some(field(Shape::Type(number(leaf.get("ty")?)?)));
        }
        if let Some(root) = part.get("root") {
            let key = root.get("root_key")?.as_str()?.to_owned();
            self.apart.insert(key, (name.to_owned(), number(root.get("ty")?)?));
            return Some(vec![]);
        }
        if let Some(parts) = part.get("struct") {
            return self.walk_fields(parts, name);
        }
        if let Some(parts) = part.get("enum") {
            let mut variants = BTreeMap::new();
            for (index, variant) in parts.get("variants")?.as_object()? {
                variants.insert(index.clone(), self.walk_fields(variant, name)?);
            }
            return Some(field(Shape::Variants(variants)));
        }
        // Arrays and hashed parts: what they repeat, as often as it is told.
        let array = part.get("array").or_else(|| part.get("hash"))?;
        let length = array.get("len").and_then(Json::as_u64).unwrap_or_default();
        let mut inner = self.walk(array.get("layout")?, name)?;
        inner.push(Field { name: format!("{name} × {length}"), shape: Shape::Variants(BTreeMap::new()) });
        Some(inner)
    }

    fn walk_fields(&mut self, parts: &Json, name: &str) -> Option<Vec<Field>> {
        let mut fields = vec![];
        for part in parts.get("fields")?.as_array()? {
            let own = part.get("name")?.as_str()?;
            let path = if name.is_empty() { own.to_owned() } else { format!("{name}.{own}") };
            fields.extend(self.walk(part.get("layout")?, &path)?);
        }
        Some(fields)
    }
}

/// Old and new types.
struct Pair {
    old: Abi,
    new: Abi,
}

impl Pair {
    fn fields(&self, old: &[Field], new: &[Field], place: &str, found: &mut Vec<String>) {
        let names: BTreeSet<_> = old.iter().map(|field| &field.name).collect();
        for (before, after) in old.iter().zip(new) {
            // Another name is as good; a name that stood elsewhere means that fields changed places.
            if before.name != after.name && names.contains(&after.name) {
                found.push(format!("{place}`{}` stands where `{}` stood", after.name, before.name));
                return;
            }
            if !self.same(&before.shape, &after.shape) {
                found.push(format!("{place}`{}` has another type", before.name));
                return;
            }
        }
        for gone in old.iter().skip(new.len()) {
            found.push(format!("{place}`{}` is gone", gone.name));
        }
        for added in new.iter().skip(old.len()) {
            found.push(format!("{place}`{}` is new and plain: nothing is stored for it", added.name));
        }
    }

    fn same(&self, old: &Shape, new: &Shape) -> bool {
        match (old, new) {
            (Shape::Type(old), Shape::Type(new)) => self.alike(*old, *new, &mut BTreeSet::new()),
            (Shape::Variants(old), Shape::Variants(new)) => old.iter().all(|(index, fields)| {
                let mut found = vec![];
                if let Some(others) = new.get(index) {
                    self.fields(fields, others, "", &mut found);
                }
                new.contains_key(index) && found.is_empty()
            }),
            _ => false,
        }
    }

    /// Whether the new type decodes what the old one encodes.
    fn alike(&self, old: u32, new: u32, seen: &mut BTreeSet<(u32, u32)>) -> bool {
        if !seen.insert((old, new)) {
            return true;
        }
        let (Some(before), Some(after)) = (self.old.types.resolve(old), self.new.types.resolve(new)) else {
            return false;
        };
        let mut all = |old: &[u32], new: &[u32]| {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| self.alike(*old, *new, seen))
        };
        match (&before.type_def, &after.type_def) {
            // `Mapping` and `Lazy` hold nothing themselves: their parameters say what lies in their cells.
            (TypeDef::Composite(old), TypeDef::Composite(new)) if old.fields.is_empty() && new.fields.is_empty() => {
                let parameters = |ty: &scale_info::Type<PortableForm>| {
                    ty.type_params.iter().filter_map(|parameter| parameter.ty.map(|ty| ty.id)).collect::<Vec<_>>()
                };
                before.path == after.path && all(&parameters(before), &parameters(after))
            }
            (TypeDef::Composite(old), TypeDef::Composite(new)) => all(&ids(&old.fields), &ids(&new.fields)),
            (TypeDef::Variant(old), TypeDef::Variant(new)) => old.variants.iter().all(|variant| {
                let other = new.variants.iter().find(|other| other.index == variant.index);
                other.is_some_and(|other| all(&ids(&variant.fields), &ids(&other.fields)))
            }),
            (TypeDef::Sequence(old), TypeDef::Sequence(new)) => all(&[old.type_param.id], &[new.type_param.id]),
            (TypeDef::Array(old), TypeDef::Array(new)) => {
                old.len == new.len && all(&[old.type_param.id], &[new.type_param.id])
            }
            (TypeDef::Tuple(old), TypeDef::Tuple(new)) => {
                let ids = |fields: &[scale_info::interner::UntrackedSymbol<std::any::TypeId>]| {
                    fields.iter().map(|field| field.id).collect::<Vec<_>>()
                };
                all(&ids(&old.fields), &ids(&new.fields))
            }
            (TypeDef::Primitive(old), TypeDef::Primitive(new)) => old == new,
            (TypeDef::Compact(old), TypeDef::Compact(new)) => all(&[old.type_param.id], &[new.type_param.id]),
            _ => false,
        }
    }
}

fn ids(fields: &[scale_info::Field<PortableForm>]) -> Vec<u32> {
    fields.iter().map(|field| field.ty.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Json {
        serde_json::from_str(include_str!("../../../contracts/fixtures/psp22.contract")).unwrap()
    }

    fn conflicts(change: impl FnOnce(&mut Vec<Json>, &mut Vec<Json>)) -> Vec<String> {
        let mut new = token();
        let mut types = new["types"].as_array().unwrap().clone();
        change(new["storage"]["root"]["layout"]["struct"]["fields"].as_array_mut().unwrap(), &mut types);
        new["types"] = types.into();
        storage_conflicts(&token(), &new).unwrap()
    }

    #[test]
    fn what_is_read_alike_fits() {
        assert!(conflicts(|_, _| ()).is_empty());
        assert!(conflicts(|fields, _| fields[5]["name"] = "places".into()).is_empty(), "another name");
        // A further mapping: a copy of one, under another key.
        let added = conflicts(|fields, _| {
            let mut mapping = fields[1].clone();
            mapping["name"] = "frozen".into();
            mapping["layout"]["root"]["root_key"] = "0x01020304".into();
            fields.push(mapping);
        });
        assert!(added.is_empty(), "{added:?}");
    }

    #[test]
    fn what_is_read_otherwise_is_named() {
        let added = conflicts(|fields, _| {
            let mut field = fields[5].clone();
            field["name"] = "fee".into();
            fields.push(field);
        });
        assert_eq!(added, ["`fee` is new and plain: nothing is stored for it"]);
        let gone = conflicts(|fields, _| drop(fields.pop()));
        assert_eq!(gone, ["`decimals` is gone"]);
        let moved = conflicts(|fields, _| fields.swap(3, 4));
        assert_eq!(moved, ["`symbol` stands where `name` stood"]);
        let other = conflicts(|fields, _| fields[5]["layout"]["leaf"]["ty"] = 0.into());
        assert_eq!(other, ["`decimals` has another type"]);
        let lost = conflicts(|fields, _| fields[1]["layout"]["root"]["root_key"] = "0x01020304".into());
        assert_eq!(lost, ["`balances` is gone or has another name: what it holds would not be found"]);
        let value = conflicts(|_, types| types[1]["type"]["params"][1]["type"] = 4.into());
        assert_eq!(value, ["`balances` has another type"]);
    }
}
