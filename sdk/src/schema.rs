//! JSON Schema 2020-12 of Rust types, written by the derives.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A type that knows its JSON Schema.
pub trait Schema {
    /// Whether a field of this type must be present. Only `Option` says no.
    const REQUIRED: bool = true;

    /// The schema, without `$schema`.
    fn schema() -> Value;
}

/// The dialect every schema here is written in.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of `T` as a document of its own.
///
/// ```
/// use viworks_sdk::json::json;
///
/// let schema = viworks_sdk::schema::document::<Vec<bool>>();
/// assert_eq!(schema["items"], json!({ "type": "boolean" }));
/// ```
pub fn document<T: Schema + ?Sized>() -> Value {
    let mut schema = T::schema();
    if let Value::Object(object) = &mut schema {
        object.insert("$schema".into(), DIALECT.into());
    }
    schema
}

/// What narrows a value beyond its type. Written by the derives.
#[doc(hidden)]
#[derive(Default)]
pub struct Limits {
    pub minimum: Option<Value>,
    pub maximum: Option<Value>,
    pub shortest: Option<u64>,
    pub longest: Option<u64>,
    pub pattern: Option<&'static str>,
    pub one_of: &'static [&'static str],
    pub items: Option<Box<Limits>>,
    pub keys: Option<Box<Limits>>,
}

impl Limits {
    fn apply(self, schema: &mut Map<String, Value>) {
        let (shortest, longest) = match schema.get("type").and_then(Value::as_str) {
            Some("array") => ("minItems", "maxItems"),
            Some("object") => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                schema.insert(key.into(), value);
            }
        };
        put("minimum", self.minimum);
        put("maximum", self.maximum);
        put(shortest, self.shortest.map(Value::from));
        put(longest, self.longest.map(Value::from));
        put("pattern", self.pattern.map(Value::from));
        put("enum", (!self.one_of.is_empty()).then(|| Value::from(self.one_of)));
        if let Some(items) = self.items {
            let key = if schema.contains_key("items") { "items" } else { "additionalProperties" };
            if let Some(Value::Object(inner)) = schema.get_mut(key) {
                items.apply(inner);
            }
        }
        if let Some(keys) = self.keys {
            let mut names = Map::new();
            keys.apply(&mut names);
            schema.insert("propertyNames".into(), Value::Object(names));
        }
    }
}

/// One field of a struct. Written by the derives.
#[doc(hidden)]
pub struct Field {
    pub name: &'static str,
    pub description: &'static str,
    pub schema: Value,
    pub required: bool,
    pub default: Option<Value>,
    pub limits: Limits,
}

/// The schema of a struct. Called by the derives.
#[doc(hidden)]
pub fn object(description: &str, closed: bool, fields: Vec<Field>) -> Value {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for field in fields {
        if field.required {
            required.push(Value::from(field.name));
        }
        let mut schema = match field.schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        };
        if !field.description.is_empty() {
            schema.insert("description".into(), field.description.into());
        }
        if let Some(default) = field.default.filter(|default| !default.is_null()) {
            schema.insert("default".into(), default);
        }
        field.limits.apply(&mut schema);
        properties.insert(field.name.into(), Value::Object(schema));
    }
    let mut schema = of_type("object");
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), Value::Array(required));
    }
    if closed {
        schema.insert("additionalProperties".into(), Value::Bool(false));
    }
    Value::Object(schema)
}

/// The schema of a choice of words. Called by the derives.
#[doc(hidden)]
pub fn choice(description: &str, words: &[&str]) -> Value {
    let mut schema = of_type("string");
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
    schema.insert("enum".into(), words.into());
    Value::Object(schema)
}

fn of_type(name: &str) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".into(), name.into());
    schema
}

macro_rules! integer {
    ($($ty:ty: $low:expr, $high:expr;)*) => {$(
        impl Schema for $ty {
            fn schema() -> Value {
                let (low, high): (Option<i64>, Option<i64>) = ($low, $high);
                let limits = Limits { minimum: low.map(Value::from), maximum: high.map(Value::from), ..Limits::default() };
                let mut schema = of_type("integer");
                limits.apply(&mut schema);
                Value::Object(schema)
            }
        }
    )*};
}

// Wider bounds are left out: other readers of the schema hold numbers as doubles and would misread them.
integer! {
    u8: Some(0), Some(u8::MAX.into());
    u16: Some(0), Some(u16::MAX.into());
    u32: Some(0), Some(u32::MAX.into());
    u64: Some(0), None;
    i8: Some(i8::MIN.into()), Some(i8::MAX.into());
    i16: Some(i16::MIN.into()), Some(i16::MAX.into());
    i32: Some(i32::MIN.into()), Some(i32::MAX.into());
    i64: None, None;
}

impl Schema for bool {
    fn schema() -> Value {
        Value::Object(of_type("boolean"))
    }
}

impl Schema for f64 {
    fn schema() -> Value {
        Value::Object(of_type("number"))
    }
}

impl Schema for String {
    fn schema() -> Value {
        Value::Object(of_type("string"))
    }
}

/// Nothing: what a verb without a typed result has.
impl Schema for () {
    fn schema() -> Value {
        Value::Object(of_type("null"))
    }
}

/// Any JSON.
impl Schema for Value {
    fn schema() -> Value {
        Value::Object(Map::new())
    }
}

impl<T: Schema> Schema for Option<T> {
    const REQUIRED: bool = false;

    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Schema> Schema for Vec<T> {
    fn schema() -> Value {
        let mut schema = of_type("array");
        schema.insert("items".into(), T::schema());
        Value::Object(schema)
    }
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    fn schema() -> Value {
        let mut schema = of_type("object");
        schema.insert("additionalProperties".into(), T::schema());
        Value::Object(schema)
    }
}
