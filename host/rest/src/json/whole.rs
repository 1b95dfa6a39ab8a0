//! A value read with objects as objects. Readers of serde's take a list for the fields of a struct in their
//! order, at any depth; here it is refused where it stands, so that what a body says depends on no order of ours.
//!
//! Invariant: no body of a request is flattened or tagged from within: serde would keep such a part aside and
//! read it by its own rules.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// The value.
pub struct Whole(pub Value);

fn members(object: Map<String, Value>) -> impl Iterator<Item = (String, Whole)> {
    object.into_iter().map(|(name, member)| (name, Whole(member)))
}

impl Whole {
    fn object<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(Error::custom("has to be an object, not a list of its members")),
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'de> IntoDeserializer<'de, Error> for Whole {
    type Deserializer = Whole;

    fn into_deserializer(self) -> Whole {
        self
    }
}

impl<'de> Deserializer<'de> for Whole {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Whole));
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Value::Object(object) => {
                let mut members = MapDeserializer::new(members(object));
                let value = visitor.visit_map(&mut members)?;
                members.end().map(|()| value)
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.object(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.object(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(object) if object.len() == 1 => {
                MapAccessDeserializer::new(MapDeserializer::new(members(object)))
                    .deserialize_enum(name, variants, visitor)
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, de::DeserializeOwned};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Shelf {
        label: String,
        of: Option<Box<Shelf>>,
        more: Vec<Shelf>,
        by_name: BTreeMap<String, Shelf>,
        kind: Kind,
        pair: (u8, u8),
        as_it_is: Value,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        #[default]
        Plain,
        Of(Box<Shelf>),
        With {
            label: String,
        },
    }

    fn read<T: DeserializeOwned>(value: &Value) -> Result<T, (String, String)> {
        serde_path_to_error::deserialize(Whole(value.clone()))
            .map_err(|error| (error.path().to_string(), error.inner().to_string()))
    }

    #[test]
    fn what_has_the_right_shape_is_read_as_serde_reads_it() {
        for value in [
            json!({}),
            json!({ "label": "a", "of": null, "pair": [1, 2], "as_it_is": [{ "x": [1.5, -1, true, null] }, []] }),
            json!({ "of": { "label": "b" }, "more": [{}, { "label": "c" }], "by_name": { "d": { "label": "d" } } }),
            json!({ "kind": "plain" }),
            json!({ "kind": { "of": { "label": "e" } } }),
            json!({ "kind": { "with": { "label": "f" } } }),
        ] {
            let plain = serde_json::from_value::<Shelf>(value.clone()).expect("serde's reading");
            assert_eq!(read::<Shelf>(&value), Ok(plain), "{value}");
        }
        for (value, at) in [
            (json!({ "label": 1 }), "label"),
            (json!({ "pair": [1, 2, 3] }), "pair"),
            (json!({ "pair": [1] }), "pair"),
            (json!({ "kind": { "of": {}, "with": {} } }), "kind"),
            (json!({ "kind": [] }), "kind"),
            (json!({ "more": {} }), "more"),
        ] {
            assert_eq!(read::<Shelf>(&value).expect_err("refused").0, at, "{value}");
        }
    }

    #[test]
    fn a_list_stands_for_no_object_at_any_depth() {
        for (value, at) in [
            (json!([]), "."),
            (json!(["a"]), "."),
            (json!({ "of": ["b"] }), "of"),
            (json!({ "of": { "more": [{}, []] } }), "of.more[1]"),
            (json!({ "by_name": [] }), "by_name"),
            (json!({ "by_name": { "d": ["d"] } }), "by_name.d"),
            (json!({ "kind": { "of": ["e"] } }), "kind.of"),
            (json!({ "kind": { "with": ["f"] } }), "kind.with"),
        ] {
            let (place, message) = read::<Shelf>(&value).expect_err("refused");
            assert_eq!((place.as_str(), message.contains("not a list")), (at, true), "{value}: {message}");
        }
    }
}
