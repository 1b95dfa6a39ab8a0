//! JSON Schema 2020-12 of Rust types, written by the derives.
//!
//! A schema is static data, not code that builds it: a component carries a hundred fields for the price
//! of their words.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A type that knows its JSON Schema.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::schema::Schema;
///
/// assert_eq!(<Vec<String>>::schema(), json!({ "type": "array", "items": { "type": "string" } }));
/// assert!(!<Option<String>>::REQUIRED);
/// ```
pub trait Schema {
    /// Whether a field of this type must be present. Only `Option` says no.
    const REQUIRED: bool = true;

    /// The schema as data.
    const NODE: &'static Node;

    /// The schema as JSON, without `$schema`.
    fn schema() -> Value {
        Self::NODE.to_json()
    }
}

/// The dialect every schema here is written in.
///
/// ```
/// use viworks_sdk::schema::{DIALECT, document};
///
/// assert_eq!(document::<bool>()["$schema"], DIALECT);
/// ```
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
    T::NODE.to_document()
}

/// One part of a schema, as data.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::schema::Node;
///
/// static WORDS: Node = Node::List(&Node::Text);
/// assert_eq!(WORDS.to_json()["items"], json!({ "type": "string" }));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Node {
    /// Any JSON.
    Any,
    /// `null` only.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number, whole or not.
    Number,
    /// A whole number between the bounds, as far as there are any.
    Integer(Option<i64>, Option<i64>),
    /// Text.
    Text,
    /// One of some words.
    Choice {
        /// What the choice is about.
        description: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// A list of such items.
    List(&'static Node),
    /// An object with such values under any names.
    Map(&'static Node),
    /// An object with named fields.
    Object {
        /// What the object is.
        description: &'static str,
        /// Whether further fields are refused.
        closed: bool,
        /// The fields.
        fields: &'static [Field],
    },
}

/// One field of an object. Written by the derives.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::schema::{Field, Limits, Node};
///
/// static FIELDS: &[Field] = &[Field {
///     name: "tail",
///     description: "How many lines.",
///     node: &Node::Integer(Some(0), None),
///     required: true,
///     default: None,
///     example: None,
///     limits: &Limits { maximum: Some(1000.0), ..*Limits::NONE },
/// }];
/// let schema = Node::Object { description: "", closed: true, fields: FIELDS }.to_json();
/// assert_eq!(schema["properties"]["tail"]["maximum"], 1000);
/// assert_eq!(schema["required"], json!(["tail"]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its JSON name.
    pub name: &'static str,
    /// What it is; empty when its type says enough.
    pub description: &'static str,
    /// Its type.
    pub node: &'static Node,
    /// Whether it must be present.
    pub required: bool,
    /// What stands in for it when it is absent.
    pub default: Option<fn() -> Value>,
    /// A value that would do, as JSON text.
    pub example: Option<&'static str>,
    /// What narrows it beyond its type.
    pub limits: &'static Limits,
}

/// What narrows a value beyond its type. Written by the derives.
///
/// ```
/// use viworks_sdk::schema::Limits;
///
/// let limits = Limits { longest: Some(64), ..*Limits::NONE };
/// assert_eq!(limits.shortest, None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Least number.
    pub minimum: Option<f64>,
    /// Greatest number.
    pub maximum: Option<f64>,
    /// Least count of characters, items or members.
    pub shortest: Option<u64>,
    /// Greatest count of characters, items or members.
    pub longest: Option<u64>,
    /// What text looks like.
    pub pattern: Option<&'static str>,
    /// The only texts; any when empty.
    pub one_of: &'static [&'static str],
    /// What narrows a list's items or a map's values.
    pub items: Option<&'static Limits>,
    /// What narrows a map's keys.
    pub keys: Option<&'static Limits>,
    /// Whether text is secret: the plugin sees a placeholder, which may stand in values of the environment and in
    /// standard input.
    pub secret: bool,
}

impl Limits {
    /// No limits.
    pub const NONE: &'static Limits = &Limits {
        minimum: None,
        maximum: None,
        shortest: None,
        longest: None,
        pattern: None,
        one_of: &[],
        items: None,
        keys: None,
        secret: false,
    };
}

impl Node {
    /// The JSON Schema, without `$schema`.
    ///
    /// ```
    /// use viworks_sdk::json::json;
    /// use viworks_sdk::schema::Node;
    ///
    /// assert_eq!(Node::Integer(Some(0), None).to_json(), json!({ "type": "integer", "minimum": 0 }));
    /// ```
    pub fn to_json(&self) -> Value {
        Value::Object(self.members())
    }

    /// The JSON Schema with `$schema`.
    ///
    /// ```
    /// use viworks_sdk::schema::{DIALECT, Node};
    ///
    /// assert_eq!(Node::Boolean.to_document()["$schema"], DIALECT);
    /// ```
    pub fn to_document(&self) -> Value {
        let mut schema = self.members();
        put(&mut schema, "$schema", DIALECT.into());
        Value::Object(schema)
    }

    fn members(&self) -> Map<String, Value> {
        let mut schema = Map::new();
        match self.type_name() {
            "" => {}
            name => put(&mut schema, "type", name.into()),
        }
        match *self {
            Node::Any | Node::Null | Node::Boolean | Node::Number | Node::Text => {}
            Node::Integer(low, high) => {
                put_if(&mut schema, "minimum", low.map(Value::from));
                put_if(&mut schema, "maximum", high.map(Value::from));
            }
            Node::Choice { description, words } => {
                describe(&mut schema, description);
                put(&mut schema, "enum", list(words));
            }
            Node::List(item) => put(&mut schema, "items", item.to_json()),
            Node::Map(value) => put(&mut schema, "additionalProperties", value.to_json()),
            Node::Object { description, closed, fields } => object(&mut schema, description, closed, fields),
        }
        schema
    }

    fn type_name(&self) -> &'static str {
        match self {
            Node::Any => "",
            Node::Null => "null",
            Node::Boolean => "boolean",
            Node::Number => "number",
            Node::Integer(..) => "integer",
            Node::Text | Node::Choice { .. } => "string",
            Node::List(_) => "array",
            Node::Map(_) | Node::Object { .. } => "object",
        }
    }

    /// A bound of this type: whole for a whole number.
    fn bound(&self, bound: f64) -> Value {
        match self {
            Node::Integer(..) => Value::from(bound as i64),
            _ => Value::from(bound),
        }
    }
}

fn object(schema: &mut Map<String, Value>, description: &str, closed: bool, fields: &[Field]) {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for field in fields {
        if field.required {
            required.push(Value::from(field.name));
        }
        let mut inner = field.node.members();
        describe(&mut inner, field.description);
        put_if(&mut inner, "default", field.default.map(|default| default()).filter(|default| !default.is_null()));
        if let Some(example) = field.example {
            put(&mut inner, "examples", Value::Array(vec![crate::text::known(example)]));
        }
        narrow(&mut inner, field.node, field.limits);
        put(&mut properties, field.name, Value::Object(inner));
    }
    describe(schema, description);
    put(schema, "properties", Value::Object(properties));
    if !required.is_empty() {
        put(schema, "required", Value::Array(required));
    }
    if closed {
        put(schema, "additionalProperties", Value::Bool(false));
    }
}

fn narrow(schema: &mut Map<String, Value>, node: &Node, limits: &Limits) {
    let (shortest, longest) = match node {
        Node::List(_) => ("minItems", "maxItems"),
        Node::Map(_) | Node::Object { .. } => ("minProperties", "maxProperties"),
        _ => ("minLength", "maxLength"),
    };
    put_if(schema, "minimum", limits.minimum.map(|bound| node.bound(bound)));
    put_if(schema, "maximum", limits.maximum.map(|bound| node.bound(bound)));
    put_if(schema, shortest, limits.shortest.map(Value::from));
    put_if(schema, "x-secret", limits.secret.then_some(Value::Bool(true)));
    put_if(schema, longest, limits.longest.map(Value::from));
    put_if(schema, "pattern", limits.pattern.map(Value::from));
    if !limits.one_of.is_empty() {
        put(schema, "enum", list(limits.one_of));
    }
    let inner = match node {
        Node::List(item) => Some(("items", *item)),
        Node::Map(value) => Some(("additionalProperties", *value)),
        _ => None,
    };
    if let (Some(limits), Some((key, node))) = (limits.items, inner)
        && let Some(Value::Object(inner)) = schema.get_mut(key)
    {
        narrow(inner, node, limits);
    }
    if let Some(keys) = limits.keys {
        let mut names = Map::new();
        narrow(&mut names, &Node::Text, keys);
        put(schema, "propertyNames", Value::Object(names));
    }
}

fn describe(schema: &mut Map<String, Value>, description: &str) {
    if !description.is_empty() {
        put(schema, "description", description.into());
    }
}

fn list(words: &[&str]) -> Value {
    let mut list = Vec::with_capacity(words.len());
    for word in words {
        list.push(Value::from(*word));
    }
    Value::Array(list)
}

fn put_if(schema: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        put(schema, key, value);
    }
}

fn put(schema: &mut Map<String, Value>, key: &str, value: Value) {
    schema.insert(key.to_owned(), value);
}

macro_rules! nodes {
    ($($ty:ty: $node:expr;)*) => {$(
        impl Schema for $ty {
            const NODE: &'static Node = &$node;
        }
    )*};
}

// Wider bounds are left out: other readers of the schema hold numbers as doubles and would misread them.
nodes! {
    u8: Node::Integer(Some(0), Some(u8::MAX as i64));
    u16: Node::Integer(Some(0), Some(u16::MAX as i64));
    u32: Node::Integer(Some(0), Some(u32::MAX as i64));
    u64: Node::Integer(Some(0), None);
    i8: Node::Integer(Some(i8::MIN as i64), Some(i8::MAX as i64));
    i16: Node::Integer(Some(i16::MIN as i64), Some(i16::MAX as i64));
    i32: Node::Integer(Some(i32::MIN as i64), Some(i32::MAX as i64));
    i64: Node::Integer(None, None);
    f64: Node::Number;
    bool: Node::Boolean;
    String: Node::Text;
    (): Node::Null;
    Value: Node::Any;
}

impl<T: Schema> Schema for Option<T> {
    const REQUIRED: bool = false;
    const NODE: &'static Node = T::NODE;
}

impl<T: Schema> Schema for Vec<T> {
    const NODE: &'static Node = &Node::List(T::NODE);
}

impl<T: Schema> Schema for BTreeMap<String, T> {
    const NODE: &'static Node = &Node::Map(T::NODE);
}
