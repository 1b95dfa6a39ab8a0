//! The part of JSON Schema that the derives write, read back: enough to check arguments in a test
//! without a validator. Keywords it does not know pass.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::failure::{Issue, push_key};

/// Everything in `value` that breaks `schema`.
///
/// ```
/// use viworks_sdk::json::json;
/// use viworks_sdk::test::violations;
///
/// let schema = json!({ "type": "array", "items": { "type": "integer", "maximum": 9 } });
/// let found = violations(&schema, &json!([1, 10]));
/// assert_eq!(found[0].pointer, "/1");
/// ```
pub fn violations(schema: &Value, value: &Value) -> Vec<Issue> {
    let mut found = Found { pointer: String::new(), issues: Vec::new() };
    found.check(schema, value);
    found.issues
}

struct Found {
    pointer: String,
    issues: Vec<Issue>,
}

impl Found {
    fn add(&mut self, keyword: &str, message: String) {
        self.issues.push(Issue { pointer: self.pointer.clone(), keyword: keyword.into(), message });
    }

    fn at(&mut self, key: &str, body: impl FnOnce(&mut Found)) {
        let before = self.pointer.len();
        push_key(&mut self.pointer, key);
        body(self);
        self.pointer.truncate(before);
    }

    fn check(&mut self, schema: &Value, value: &Value) {
        let Value::Object(schema) = schema else {
            if *schema == Value::Bool(false) {
                self.add("false", "is not allowed here".into());
            }
            return;
        };
        if let Some(expected) = schema.get("type").and_then(Value::as_str)
            && !is_of_type(expected, value)
        {
            return self.add("type", format!("{value} is not of type {expected}"));
        }
        if let Some(Value::Array(words)) = schema.get("enum")
            && !words.contains(value)
        {
            self.add("enum", format!("{value} is not one of {}", Value::from(words.as_slice())));
        }
        match value {
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                self.bound(schema, "minimum", number, |limit| number >= limit);
                self.bound(schema, "maximum", number, |limit| number <= limit);
            }
            Value::String(text) => {
                self.count(schema, "minLength", "maxLength", text.chars().count());
                if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                    && !is_match(pattern, text)
                {
                    self.add("pattern", format!("{value} does not match {pattern}"));
                }
            }
            Value::Array(items) => {
                self.count(schema, "minItems", "maxItems", items.len());
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.at(&index.to_string(), |found| found.check(schema, item));
                    }
                }
            }
            Value::Object(fields) => self.object(schema, fields),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, fields: &Map<String, Value>) {
        self.count(schema, "minProperties", "maxProperties", fields.len());
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                self.at(name, |found| found.add("required", "is missing".into()));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields {
            if let Some(names) = schema.get("propertyNames") {
                self.at(name, |found| found.check(names, &Value::from(name.as_str())));
            }
            let own = properties.and_then(|properties| properties.get(name));
            match own.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    self.at(name, |found| found.add("additionalProperties", format!("`{name}` is not a field here")));
                }
                Some(schema) => self.at(name, |found| found.check(schema, field)),
                None => {}
            }
        }
    }

    fn bound(&mut self, schema: &Map<String, Value>, keyword: &str, found: f64, fits: impl FnOnce(f64) -> bool) {
        if let Some(limit) = schema.get(keyword).and_then(Value::as_f64)
            && !fits(limit)
        {
            self.add(keyword, format!("{found} breaks the {keyword} of {limit}"));
        }
    }

    fn count(&mut self, schema: &Map<String, Value>, least: &str, most: &str, found: usize) {
        let found = found as f64;
        self.bound(schema, least, found, |limit| found >= limit);
        self.bound(schema, most, found, |limit| found <= limit);
    }
}

/// Whether `pattern` is found in `text`, by the engine that a host uses. It knows no look-around, so a
/// pattern that it cannot read is one that no host accepts.
fn is_match(pattern: &str, text: &str) -> bool {
    thread_local! {
        // Compiling one takes a hundred times as long as matching.
        static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        let compile = || match Regex::new(pattern) {
            Ok(pattern) => pattern,
            Err(error) => panic!("the pattern `{pattern}` is not one that a host reads: {error}"),
        };
        known.entry(pattern.to_owned()).or_insert_with(compile).is_match(text)
    })
}

fn is_of_type(expected: &str, value: &Value) -> bool {
    match expected {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}
