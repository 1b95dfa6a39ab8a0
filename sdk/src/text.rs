//! JSON text to and from values, one way each: every further way costs a component kilobytes.
//!
//! `serde_json`'s own reading of a `Value` can complain about floating-point map keys and so carries
//! the printing of floats, a tenth of a small component. Here a key is a string or the text is not JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one JSON value from all of `text`.
///
/// # Errors
/// Where and why `text` is not JSON.
///
/// ```
/// use viworks_sdk::json::{json, parse};
///
/// assert_eq!(parse("[1, 2]").unwrap(), json!([1, 2]));
/// ```
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Any.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// JSON text of `value`.
pub(crate) fn text_of(value: &Value) -> String {
    serde_json::to_string(value).expect("a JSON value has text keys only")
}

/// The value of JSON text that a macro wrote.
pub(crate) fn known(text: &'static str) -> Value {
    parse(text).expect("the macros write JSON")
}

/// Any value.
struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Any)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key_seed(Key)? {
            object.insert(key, fields.next_value_seed(Any)?);
        }
        Ok(Value::Object(object))
    }
}

/// An object's key.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "-0",
            "18446744073709551615",
            "-9223372036854775808",
            "1.5e3",
            "0.1",
            "1e400",
            "\"\"",
            "\"a\\u00e9\\ud83d\\ude00\\n\"",
            "[]",
            "[1,[2],{}]",
            "{\"\":{\"a/b\":[null]},\"1\":2,\"x\":1,\"x\":2}",
            "",
            "nul",
            "{1:2}",
            "{\"a\"}",
            "[1,]",
            "1 2",
            "\"\\ud800\"",
            "{\"$serde_json::private::RawValue\":\"1\"}x",
        ] {
            let theirs = serde_json::from_str::<Value>(text);
            match (parse(text), theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{text}"),
                (Err(_), Err(_)) => {}
                (ours, theirs) => panic!("{text}: {ours:?} but {theirs:?}"),
            }
        }
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({ "a": [1, -2, 0.5, null, true], "é\"\\\u{1}": "x" });
        assert_eq!(parse(&text_of(&value)).expect("JSON"), value);
    }
}
