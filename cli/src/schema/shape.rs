//! What kind of value a schema wants, and how a word becomes one.

use std::fmt;

use serde_json::Value;

/// Deepest chain of references followed; past it a value is given as JSON.
const MAX_DEPTH: usize = 16;

/// The kind of value a property takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// Several of one kind.
    List(Box<Shape>),
    /// Names with values of one kind.
    Map(Box<Shape>),
    /// Fields, each of its own kind: `name=value,name=value`, or JSON.
    Object(Vec<(String, Shape)>),
    /// Anything else.
    Json,
}

impl Shape {
    /// The kind that a resolved schema wants.
    pub fn of(schema: &Value, root: &Value) -> Shape {
        Shape::at_depth(schema, root, 0)
    }

    fn at_depth(schema: &Value, root: &Value, depth: usize) -> Shape {
        if depth > MAX_DEPTH {
            return Shape::Json;
        }
        let inner = |schema: &Value| Box::new(Shape::at_depth(&resolve(schema, root), root, depth + 1));
        match type_name(schema) {
            Some("string") => Shape::Text,
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            Some("boolean") => Shape::Boolean,
            Some("array") if schema.get("prefixItems").is_none() => match schema.get("items") {
                Some(items) if items.is_object() => Shape::List(inner(items)),
                _ => Shape::List(Box::new(Shape::Json)),
            },
            Some("object") if schema.get("properties").is_some_and(Value::is_object) => match depth {
                // The fields of a property or of its items; what lies deeper is given as JSON.
                0 | 1 => Shape::Object(fields(schema, root)),
                _ => Shape::Json,
            },
            Some("object") => match schema.get("additionalProperties") {
                Some(values) if values.is_object() => match *inner(values) {
                    shape @ (Shape::Text | Shape::Integer | Shape::Number | Shape::Boolean) => {
                        Shape::Map(Box::new(shape))
                    }
                    Shape::List(_) | Shape::Map(_) | Shape::Object(_) | Shape::Json => Shape::Json,
                },
                _ => Shape::Json,
            },
            _ => match choices(schema).as_slice() {
                [first, rest @ ..] if first.is_string() && rest.iter().all(Value::is_string) => Shape::Text,
                _ => Shape::Json,
            },
        }
    }

    /// The value a word stands for; what the schema says about its size is for the host to check.
    ///
    /// # Errors
    /// In words, when the word is no value of this kind.
    pub fn read(&self, word: &str) -> Result<Value, String> {
        match self {
            Shape::Text => Ok(Value::String(word.to_owned())),
            Shape::Integer => match word.parse::<i64>() {
                Ok(number) => Ok(number.into()),
                Err(_) => match word.parse::<u64>() {
                    Ok(number) => Ok(number.into()),
                    Err(_) => Err("it takes a whole number".to_owned()),
                },
            },
            Shape::Number => match serde_json::from_str::<serde_json::Number>(word) {
                Ok(number) => Ok(Value::Number(number)),
                Err(_) => Err("it takes a number, like 12 or 0.5".to_owned()),
            },
            Shape::Boolean => match word {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("it takes true or false".to_owned()),
            },
            Shape::Object(fields) if !word.trim_start().starts_with('{') => object(fields, word),
            Shape::List(_) | Shape::Map(_) | Shape::Object(_) | Shape::Json => {
                serde_json::from_str(word).map_err(|error| format!("it takes JSON ({error})"))
            }
        }
    }

    /// The word that [`Shape::read`] makes `value` of; `None` when there is none.
    pub fn spell(&self, value: &Value) -> Option<String> {
        let text = match (self, value) {
            (Shape::Object(fields), Value::Object(members)) => {
                let pair = |(name, value): (&String, &Value)| {
                    let (_, shape) = fields.iter().find(|(known, _)| known == name)?;
                    Some(format!("{name}={}", shape.spell(value)?))
                };
                members.iter().map(pair).collect::<Option<Vec<_>>>().unwrap_or_default().join(",")
            }
            (_, value) => bare(value),
        };
        let same = |text: &str| self.read(text).ok().as_ref() == Some(value);
        if same(&text) {
            return Some(text);
        }
        Some(value.to_string()).filter(|json| matches!(self, Shape::Object(_)) && same(json))
    }
}

/// The fields of an object schema. Objects and lists in them are given as JSON.
fn fields(schema: &Value, root: &Value) -> Vec<(String, Shape)> {
    let all = schema.get("properties").and_then(Value::as_object);
    let field = |(name, schema): (&String, &Value)| {
        let shape = match type_name(&resolve(schema, root)) {
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            Some("boolean") => Shape::Boolean,
            Some("string") => Shape::Text,
            Some(_) | None => Shape::Json,
        };
        (name.clone(), shape)
    };
    all.into_iter().flatten().map(field).collect()
}

/// `name=value,name=value`. A comma separates only where the name of a field follows it.
fn object(fields: &[(String, Shape)], word: &str) -> Result<Value, String> {
    let names = || fields.iter().map(|(name, _)| format!("{name}=…")).collect::<Vec<_>>().join(",");
    let shape_of = |part: &str| {
        let (name, _) = part.split_once('=')?;
        fields.iter().find(|(known, _)| known == name)
    };
    let mut parts: Vec<String> = Vec::new();
    for part in word.split(',') {
        match parts.last_mut() {
            Some(last) if shape_of(part).is_none() => {
                last.push(',');
                last.push_str(part);
            }
            Some(_) | None => parts.push(part.to_owned()),
        }
    }
    let mut object = serde_json::Map::new();
    for part in &parts {
        let (Some((name, shape)), Some((_, text))) = (shape_of(part), part.split_once('=')) else {
            return Err(format!("it takes JSON, or {}", names()));
        };
        object.insert(name.clone(), shape.read(text).map_err(|why| format!("{name}: {why}"))?);
    }
    Ok(Value::Object(object))
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Text => f.write_str("text"),
            Shape::Integer => f.write_str("integer"),
            Shape::Number => f.write_str("number"),
            Shape::Boolean => f.write_str("true or false"),
            Shape::List(item) if matches!(**item, Shape::Object(_)) => f.write_str("list of objects"),
            Shape::List(item) => write!(f, "list of {item}"),
            Shape::Map(value) => write!(f, "name={value}, several"),
            Shape::Object(_) => f.write_str("object"),
            Shape::Json => f.write_str("JSON"),
        }
    }
}

/// A value as a person writes it: strings without quotes.
pub(super) fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The schema behind local references, `allOf` of one and alternatives of which all but one are null.
/// Keywords beside a reference win over the referred ones, as a description does.
pub(crate) fn resolve(schema: &Value, root: &Value) -> Value {
    let mut schema = schema.clone();
    for _ in 0..MAX_DEPTH {
        let Some(object) = schema.as_object_mut() else { return schema };
        let behind = if let Some(Value::String(reference)) = object.remove("$ref") {
            reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)).cloned()
        } else {
            ["allOf", "anyOf", "oneOf"].into_iter().find_map(|keyword| {
                let list = object.get(keyword)?.as_array()?;
                let real: Vec<&Value> =
                    list.iter().filter(|item| item.get("type").and_then(Value::as_str) != Some("null")).collect();
                let [one] = real.as_slice() else { return None };
                let one = (*one).clone();
                object.remove(keyword);
                Some(one)
            })
        };
        let Some(Value::Object(behind)) = behind else { return schema };
        for (keyword, value) in behind {
            object.entry(keyword).or_insert(value);
        }
    }
    schema
}

/// The one type besides null that a schema allows.
fn type_name(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            let first = names.next();
            if names.next().is_some() { None } else { first }
        }
        _ => None,
    }
}

/// The only values a schema allows, if it lists them: `enum`, `const`, or alternatives of constants.
pub(crate) fn choices(schema: &Value) -> Vec<Value> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter(|value| !value.is_null()).cloned().collect();
    }
    if let Some(value) = schema.get("const") {
        return vec![value.clone()];
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(list) = schema.get(keyword).and_then(Value::as_array) {
            let constants: Option<Vec<Vec<Value>>> = list
                .iter()
                .filter(|item| item.get("type").and_then(Value::as_str) != Some("null"))
                .map(|item| if item.get("const").or(item.get("enum")).is_some() { Some(choices(item)) } else { None })
                .collect();
            if let Some(constants) = constants {
                return constants.concat();
            }
        }
    }
    Vec::new()
}
