//! Between JSON and Rust values. Reading collects every fault with its JSON Pointer instead of
//! stopping at the first.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::failure::{Failure, Issue};

/// A type that reads itself from JSON.
pub trait FromJson: Sized {
    /// Reads `value`; on a fault tells `reader` and answers `None`.
    fn from_json(value: Value, reader: &mut Reader) -> Option<Self>;

    /// What an absent field is; `None` when it must not be absent.
    fn absent() -> Option<Self> {
        None
    }
}

/// A type that writes itself as JSON.
pub trait ToJson {
    /// The JSON form.
    fn to_json(&self) -> Value;

    /// Whether a field of this value is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Reads `value` as `T`.
///
/// # Errors
/// Every fault of `value`, as issues with JSON Pointers.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::value::read;
///
/// assert_eq!(read::<Vec<u8>>(json!([1, 2])), Ok(vec![1, 2]));
/// let refused = read::<Vec<u8>>(json!([1, 256, "x"])).unwrap_err();
/// let pointers: Vec<_> = refused.issues.iter().map(|issue| issue.pointer.as_str()).collect();
/// assert_eq!(pointers, ["/1", "/2"]);
/// ```
pub fn read<T: FromJson>(value: Value) -> Result<T, Failure> {
    Reader::default().finish(value)
}

/// Where a reading stands and what it found so far.
#[derive(Default)]
pub struct Reader {
    pointer: String,
    issues: Vec<Issue>,
    pub(crate) dashes: Vec<String>,
}

impl Reader {
    pub(crate) fn finish<T: FromJson>(&mut self, value: Value) -> Result<T, Failure> {
        match T::from_json(value, self) {
            Some(read) if self.issues.is_empty() => Ok(read),
            _ => Err(Failure::issues(std::mem::take(&mut self.issues))),
        }
    }

    /// Notes a fault at the present place. Always `None`, to be returned.
    pub fn refuse<T>(&mut self, keyword: &str, message: impl Into<String>) -> Option<T> {
        self.issues.push(Issue { pointer: self.pointer.clone(), keyword: keyword.into(), message: message.into() });
        None
    }

    /// Notes that `value` should have been `expected`. Always `None`.
    pub fn wrong_type<T>(&mut self, expected: &str, value: &Value) -> Option<T> {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.refuse("type", format!("is {found}; {expected} is expected"))
    }

    /// Runs `body` one level deeper, at `key`.
    pub fn at<T>(&mut self, key: &str, body: impl FnOnce(&mut Reader) -> T) -> T {
        let before = self.pointer.len();
        push_key(&mut self.pointer, key);
        let answer = body(self);
        self.pointer.truncate(before);
        answer
    }

    /// Opens an object that has no other fields than `known`. Called by the derives.
    #[doc(hidden)]
    pub fn object(&mut self, value: Value, known: &[&str]) -> Option<Fields> {
        let Value::Object(map) = value else { return self.wrong_type("an object", &value) };
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            let list = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            let message = format!("`{name}` is not a field here; fields are: {list}");
            self.at(name, |reader| reader.refuse::<()>("additionalProperties", message));
        }
        Some(Fields { map, printed: false })
    }

    /// Opens an object as a program printed it: other fields are ignored, `null` means absent.
    #[doc(hidden)]
    pub fn printed_object(&mut self, value: Value) -> Option<Fields> {
        match value {
            Value::Object(map) => Some(Fields { map, printed: true }),
            other => self.wrong_type("an object", &other),
        }
    }

    /// Reads one of `words`. Called by the derives.
    #[doc(hidden)]
    pub fn choice(&mut self, value: Value, words: &[&'static str]) -> Option<&'static str> {
        let Value::String(text) = value else { return self.wrong_type("a string", &value) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Some(word),
            None => self.refuse("enum", format!("`{text}` is not one of: {}", words.join(", "))),
        }
    }
}

/// Makes `pointer`, a JSON Pointer, lead one level deeper.
pub(crate) fn push_key(pointer: &mut String, key: &str) {
    pointer.push('/');
    for letter in key.chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// The fields of an object being read.
#[doc(hidden)]
pub struct Fields {
    map: Map<String, Value>,
    printed: bool,
}

impl Fields {
    /// Reads one field.
    pub fn take<T: FromJson>(
        &mut self,
        reader: &mut Reader,
        name: &str,
        default: Option<fn() -> T>,
        allow_dash: bool,
    ) -> Option<T> {
        // Taken in place: removing would bring the rebalancing of trees into every component.
        let found = self.map.get_mut(name).map(Value::take).filter(|value| !(self.printed && value.is_null()));
        reader.at(name, |reader| match (found, default) {
            (Some(value), _) => {
                if allow_dash {
                    reader.dashes.push(reader.pointer.clone());
                }
                T::from_json(value, reader)
            }
            (None, Some(default)) => Some(default()),
            (None, None) => T::absent().or_else(|| reader.refuse("required", "is missing")),
        })
    }
}

/// Writes one field. Called by the derives.
#[doc(hidden)]
pub fn put(object: &mut Map<String, Value>, name: &str, value: &dyn ToJson) {
    if !value.is_absent() {
        object.insert(name.into(), value.to_json());
    }
}

impl FromJson for bool {
    fn from_json(value: Value, reader: &mut Reader) -> Option<bool> {
        value.as_bool().or_else(|| reader.wrong_type("a boolean", &value))
    }
}

impl FromJson for f64 {
    fn from_json(value: Value, reader: &mut Reader) -> Option<f64> {
        value.as_f64().or_else(|| reader.wrong_type("a number", &value))
    }
}

impl FromJson for String {
    fn from_json(value: Value, reader: &mut Reader) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            other => reader.wrong_type("a string", &other),
        }
    }
}

impl FromJson for () {
    fn from_json(value: Value, reader: &mut Reader) -> Option<()> {
        value.as_null().or_else(|| reader.wrong_type("null", &value))
    }
}

impl FromJson for Value {
    fn from_json(value: Value, _: &mut Reader) -> Option<Value> {
        Some(value)
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: Value, reader: &mut Reader) -> Option<Option<T>> {
        T::from_json(value, reader).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: Value, reader: &mut Reader) -> Option<Vec<T>> {
        let Value::Array(items) = value else { return reader.wrong_type("a list", &value) };
        let mut read = Vec::with_capacity(items.len());
        let mut whole = true;
        for (index, item) in items.into_iter().enumerate() {
            match reader.at(&index.to_string(), |reader| T::from_json(item, reader)) {
                Some(item) => read.push(item),
                None => whole = false,
            }
        }
        whole.then_some(read)
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: Value, reader: &mut Reader) -> Option<BTreeMap<String, T>> {
        let Value::Object(items) = value else { return reader.wrong_type("an object", &value) };
        let mut read = BTreeMap::new();
        let mut whole = true;
        for (key, item) in items {
            match reader.at(&key, |reader| T::from_json(item, reader)) {
                Some(item) => _ = read.insert(key, item),
                None => whole = false,
            }
        }
        whole.then_some(read)
    }
}

/// JSON Schema counts `1.0` as an integer, so it is read as one.
fn integer(value: &Value) -> Option<i128> {
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9.0e18).then_some(number as i128)
}

macro_rules! integers {
    ($($ty:ident)*) => {$(
        impl FromJson for $ty {
            fn from_json(value: Value, reader: &mut Reader) -> Option<$ty> {
                let Some(number) = integer(&value) else { return reader.wrong_type("an integer", &value) };
                <$ty>::try_from(number).ok().or_else(|| {
                    reader.refuse("range", format!("{number} is outside {} to {}", <$ty>::MIN, <$ty>::MAX))
                })
            }
        }

        impl ToJson for $ty {
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl ToJson for bool {
    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

impl ToJson for f64 {
    fn to_json(&self) -> Value {
        Value::from(*self)
    }
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl ToJson for () {
    fn to_json(&self) -> Value {
        Value::Null
    }
}

impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToJson::to_json)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(ToJson::to_json).collect())
    }
}

impl<T: ToJson> ToJson for BTreeMap<String, T> {
    fn to_json(&self) -> Value {
        // One by one: collecting into a map would bring a sort into every component.
        let mut object = Map::new();
        for (key, value) in self {
            object.insert(key.clone(), value.to_json());
        }
        Value::Object(object)
    }
}
