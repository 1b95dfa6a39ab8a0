//! Strict JSON: one reading of every text, and no text that two readers could understand differently.
//!
//! Duplicate keys, integers beyond 2^53 - 1, NUL, invalid UTF-8, lone surrogates, deep nesting and
//! anything after the value are refused with the reason and, where there is one, the place.
//! Source: RFC 8259 sections 4, 6 and 8.2; RFC 7493 (I-JSON).

mod whole;

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_path_to_error::Segment;

use self::whole::Whole;
use crate::problem::{Code, Problem};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;
/// Most keys of one object.
pub const MAX_KEYS: usize = 1_000;
/// Most items of one array.
pub const MAX_ITEMS: usize = 10_000;
/// Most bytes of one string.
pub const MAX_STRING_BYTES: usize = 256 * 1024;
/// Largest integer that every reader of JSON keeps exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Reads one JSON value.
///
/// # Errors
/// 400 with the reason.
pub fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Problem::new(Code::InvalidJson, format!("the body is not UTF-8: byte {} is wrong", error.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Problem::new(Code::InvalidJson, "the body begins with a byte order mark; leave it out"));
    }
    let reading = Reading { path: RefCell::default(), fault: RefCell::default() };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict(&reading).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| reading.fault.take().unwrap_or_else(|| syntax(&error)))
}

/// Turns a value into what a route expects; a list is no object's fields in their order.
///
/// # Errors
/// 422 with the place.
pub fn shape<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Whole(value)).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                Segment::Seq { index } => push(&mut pointer, &index.to_string()),
                Segment::Map { key } => push(&mut pointer, key),
                Segment::Enum { variant } => push(&mut pointer, variant),
                Segment::Unknown => {}
            }
        }
        let message = error.inner().to_string();
        if let Some(field) = quoted(&message, "unknown field `") {
            if !pointer.ends_with(&format!("/{}", escape(field))) {
                push(&mut pointer, field);
            }
            return Problem::at(Code::UnknownField, pointer, message);
        }
        if let Some(field) = quoted(&message, "missing field `") {
            push(&mut pointer, field);
            return Problem::at(Code::InvalidBody, pointer, "is missing");
        }
        Problem::at(Code::InvalidBody, pointer, plain(&message))
    })
}

/// A sentence of the reader's in words of JSON instead of its own: `expected u64` says nothing to who wrote the body.
fn plain(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let found = found.replace("type: sequence", "type: list").replace("type: map", "type: object");
    let found = found.replace("floating point", "number").replace("type: unit value", "type: null");
    format!("{found}, expected {expected}")
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before).and_then(|rest| rest.split_once('`')).map(|(name, _)| name)
}

fn push(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&escape(segment));
}

fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

fn syntax(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or("not JSON");
    Problem::new(Code::InvalidJson, format!("line {}, column {}: {what}", error.line(), error.column()))
}

/// Where the reader stands, and what it stumbled over: serde's errors carry text only.
struct Reading {
    path: RefCell<Vec<String>>,
    fault: RefCell<Option<Problem>>,
}

impl Reading {
    fn refuse<E: serde::de::Error>(&self, code: Code, message: impl Into<String>) -> E {
        let mut pointer = String::new();
        self.path.borrow().iter().for_each(|segment| push(&mut pointer, segment));
        // A hostile path must not make the answer larger than the question.
        let pointer = if pointer.len() > 512 { String::new() } else { pointer };
        self.fault.borrow_mut().get_or_insert_with(|| Problem::at(code, pointer, message));
        E::custom("refused")
    }

    fn text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(self.refuse(Code::NulByte, "holds a NUL, which no program argument or database text can carry"));
        }
        if text.len() > MAX_STRING_BYTES {
            let message = format!("{} bytes of text; at most {MAX_STRING_BYTES}", text.len());
            return Err(self.refuse(Code::JsonSize, message));
        }
        Ok(())
    }

    fn enter<E: serde::de::Error>(&self, segment: String) -> Result<(), E> {
        if self.path.borrow().len() >= MAX_DEPTH {
            return Err(self.refuse(Code::JsonDepth, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.path.borrow_mut().push(segment);
        Ok(())
    }

    fn leave(&self) {
        self.path.borrow_mut().pop();
    }
}

#[derive(Clone, Copy)]
struct Strict<'a>(&'a Reading);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_INTEGER {
            return Err(self.0.refuse(Code::BigInteger, format!("{value} is beyond 2^53 - 1; send it as text")));
        }
        Ok(Value::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_INTEGER {
            return Err(self.0.refuse(Code::BigInteger, format!("{value} is beyond -(2^53 - 1); send it as text")));
        }
        Ok(Value::from(value))
    }

    /// An integer too large for 64 bits arrives here too, already rounded.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() > MAX_INTEGER as f64 {
            return Err(self.0.refuse(Code::BigInteger, format!("{value:e} is beyond 2^53 - 1")));
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.0.refuse(Code::InvalidJson, "not a number"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.text(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.text(&value)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.0.enter(items.len().to_string())?;
            let Some(item) = seq.next_element_seed(self)? else { break };
            if items.len() == MAX_ITEMS {
                return Err(self.0.refuse(Code::JsonSize, format!("more than {MAX_ITEMS} items")));
            }
            self.0.leave();
            items.push(item);
        }
        self.0.leave();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        self.0.enter(String::new())?;
        while let Some(key) = map.next_key::<String>()? {
            self.0.text::<A::Error>(&key)?;
            if let Some(last) = self.0.path.borrow_mut().last_mut() {
                last.clone_from(&key);
            }
            if object.contains_key(&key) {
                return Err(self.0.refuse(Code::DuplicateKey, "this key stands twice; which one is meant?"));
            }
            if object.len() == MAX_KEYS {
                return Err(self.0.refuse(Code::JsonSize, format!("more than {MAX_KEYS} keys")));
            }
            let value = map.next_value_seed(self)?;
            object.insert(key, value);
        }
        self.0.leave();
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(body: impl AsRef<[u8]>, code: Code, pointer: Option<&str>) {
        let problem = read(body.as_ref()).expect_err("refused");
        assert_eq!(problem.code, code, "{}", problem.detail);
        assert_eq!(problem.errors.first().map(|error| error.pointer.as_str()), pointer, "{}", problem.detail);
    }

    #[test]
    fn plain_json_is_read_as_it_is() {
        let text = r#" {"a": [1, -2, 0.5, true, null, "x\n\u00e9\ud83d\ude00"], "b": {"c": {}}} "#;
        let value = read(text.as_bytes()).expect("reads");
        assert_eq!(value, json!({"a": [1, -2, 0.5, true, null, "x\né😀"], "b": {"c": {}}}));
        assert_eq!(read(b"9007199254740991").expect("reads"), json!(MAX_INTEGER));
        assert_eq!(read(b"-9007199254740991").expect("reads"), json!(-9_007_199_254_740_991_i64));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused_with_its_place() {
        refused(r#"{"role":"viewer","role":"admin"}"#, Code::DuplicateKey, Some("/role"));
        refused(r#"{"a":[{"b/c":1,"b\u002fc":2}]}"#, Code::DuplicateKey, Some("/a/0/b~1c"));
        refused("[9007199254740992]", Code::BigInteger, Some("/0"));
        refused("-9007199254740992", Code::BigInteger, Some(""));
        refused(r#"{"priority":18446744073709551616}"#, Code::BigInteger, Some("/priority"));
        refused("1e300", Code::BigInteger, Some(""));
        refused(r#"["a\u0000b"]"#, Code::NulByte, Some("/0"));
        refused(r#"{"a\u0000":1}"#, Code::NulByte, Some("/"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let bad: [&[u8]; 16] = [
            b"",
            b" ",
            b"{",
            b"[1,]",
            b"{\"a\":1,}",
            b"{}x",
            b"{} {}",
            b"NaN",
            b"1e400",
            b"'a'",
            b"01",
            b"{a:1}",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"\"a\nb\"",
            b"\xef\xbb\xbf{}",
        ];
        for body in bad {
            refused(body, Code::InvalidJson, None);
        }
    }

    #[test]
    fn depth_and_size_hold_at_their_edges() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(read(nested(MAX_DEPTH + 1).as_bytes()).expect_err("too deep").code, Code::JsonDepth);
        assert_eq!(read("[".repeat(100_000).as_bytes()).expect_err("too deep").code, Code::JsonDepth);
        assert_eq!(read("{\"a\":".repeat(100_000).as_bytes()).expect_err("too deep").code, Code::JsonDepth);
        let items = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(read(items(MAX_ITEMS).as_bytes()).is_ok());
        assert_eq!(read(items(MAX_ITEMS + 1).as_bytes()).expect_err("too many").code, Code::JsonSize);
        let keys =
            |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(","));
        assert!(read(keys(MAX_KEYS).as_bytes()).is_ok());
        assert_eq!(read(keys(MAX_KEYS + 1).as_bytes()).expect_err("too many").code, Code::JsonSize);
        let string = |length: usize| format!("\"{}\"", "x".repeat(length));
        assert!(read(string(MAX_STRING_BYTES).as_bytes()).is_ok());
        assert_eq!(read(string(MAX_STRING_BYTES + 1).as_bytes()).expect_err("too long").code, Code::JsonSize);
    }

    #[test]
    fn what_was_expected_is_said_in_words_of_json() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only read")]
        struct Body {
            #[serde(default)]
            limit: u32,
            #[serde(default)]
            sites: Vec<String>,
            #[serde(default)]
            labels: std::collections::BTreeMap<String, String>,
        }
        for (body, told) in [
            (r#"{"limit":-1}"#, "/limit: invalid value: integer `-1`, expected a whole number, not negative"),
            (r#"{"limit":1.5}"#, "/limit: invalid type: number `1.5`, expected a whole number, not negative"),
            (r#"{"limit":null}"#, "/limit: invalid type: null, expected a whole number, not negative"),
            (r#"{"limit":[1]}"#, "/limit: invalid type: list, expected a whole number, not negative"),
            (r#"{"sites":"eu"}"#, "/sites: invalid type: string \"eu\", expected a list"),
            (r#"{"sites":[7]}"#, "/sites/0: invalid type: integer `7`, expected a string"),
            (r#"{"labels":"eu"}"#, "/labels: invalid type: string \"eu\", expected an object"),
        ] {
            let refused = shape::<Body>(read(body.as_bytes()).expect("JSON")).expect_err("refused");
            assert_eq!(refused.detail, told);
        }
    }

    #[test]
    fn shapes_point_at_what_is_wrong() {
        let check = |value: Value, code: Code, pointer: &str| {
            let problem = shape::<api::command::NewCommand>(value).expect_err("refused");
            assert_eq!((problem.code, problem.errors[0].pointer.as_str()), (code, pointer), "{}", problem.detail);
        };
        check(json!({"verb": "a.b", "target": {}, "x": 1}), Code::UnknownField, "/x");
        check(json!({"verb": "a.b", "target": {"agent": ["x"]}}), Code::UnknownField, "/target/agent");
        check(json!({"verb": "a.b"}), Code::InvalidBody, "/target");
        check(json!({"verb": 1, "target": {}}), Code::InvalidBody, "/verb");
        check(json!({"verb": "a.b", "target": {"agents": ["x", 1]}}), Code::InvalidBody, "/target/agents/1");
        check(json!({"verb": "a.b", "target": {}, "run_timeout_ms": 1.0}), Code::InvalidBody, "/run_timeout_ms");
        check(json!({"verb": "a.b", "target": {}, "run_timeout_ms": "5"}), Code::InvalidBody, "/run_timeout_ms");
        check(json!({"verb": "a.b", "target": {}, "run_timeout_ms": -1}), Code::InvalidBody, "/run_timeout_ms");
        check(json!({"verb": "a.b", "target": [true]}), Code::InvalidBody, "/target");
        check(json!({"verb": "a.b", "target": {}, "retry": [3]}), Code::InvalidBody, "/retry");
        check(json!({"verb": "a.b", "target": {}, "rollout": []}), Code::InvalidBody, "/rollout");
    }
}
