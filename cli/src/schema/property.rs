//! One property of an object schema, as a person reads about it.

use std::fmt::Write as _;

use serde_json::Value;

use super::shape::{Shape, choices, resolve};

/// One property.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name in JSON.
    pub name: String,
    /// What it takes.
    pub shape: Shape,
    /// Whether the object is refused without it.
    pub required: bool,
    /// The only values it takes; empty when there are more.
    pub choices: Vec<Value>,
    /// What it is when absent, if the schema says.
    pub default: Option<Value>,
    /// What it is for, on one line.
    pub description: String,
    /// Sizes it must keep, in words; empty when there are none.
    pub limits: String,
    /// Its own schema, resolved.
    pub schema: Value,
}

/// The properties of an object schema: required ones first, then by name.
pub fn properties(schema: &Value) -> Vec<Property> {
    properties_in(schema, schema)
}

/// The properties of a schema that stands somewhere in `root`.
pub(super) fn properties_in(schema: &Value, root: &Value) -> Vec<Property> {
    let schema = resolve(schema, root);
    let required: Vec<&str> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let Some(Value::Object(all)) = schema.get("properties") else { return Vec::new() };
    let mut found: Vec<Property> = all
        .iter()
        .map(|(name, schema)| {
            let schema = resolve(schema, root);
            let text = schema.get("description").or(schema.get("title")).and_then(Value::as_str).unwrap_or_default();
            Property {
                name: name.clone(),
                shape: Shape::of(&schema, root),
                required: required.contains(&name.as_str()),
                choices: choices(&schema),
                default: schema.get("default").filter(|value| !value.is_null()).cloned(),
                description: text.split_whitespace().collect::<Vec<_>>().join(" "),
                limits: limits(&schema),
                schema,
            }
        })
        .collect();
    found.sort_by(|a, b| b.required.cmp(&a.required).then_with(|| a.name.cmp(&b.name)));
    found
}

/// Bounds in words: `1 to 100`, `at most 64 characters`, `1 to 8 items`.
fn limits(schema: &Value) -> String {
    let number = |keyword: &str| schema.get(keyword).filter(|value| value.is_number()).map(ToString::to_string);
    let mut said = Vec::new();
    for (low, high, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ] {
        match (number(low), number(high)) {
            (Some(low), Some(high)) => said.push(format!("{low} to {high}{unit}")),
            (Some(low), None) => said.push(format!("at least {low}{unit}")),
            (None, Some(high)) => said.push(format!("at most {high}{unit}")),
            (None, None) => {}
        }
    }
    if let Some(low) = number("exclusiveMinimum") {
        said.push(format!("more than {low}"));
    }
    if let Some(high) = number("exclusiveMaximum") {
        said.push(format!("less than {high}"));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        said.push(format!("matches {pattern}"));
    }
    said.join(", ")
}

impl Property {
    /// Everything about it but its name and shape, on one line.
    pub fn note(&self) -> String {
        let mut note = self.description.clone();
        let mut add = |text: &str| {
            if !text.is_empty() {
                let _ = if note.is_empty() { write!(note, "{text}") } else { write!(note, " [{text}]") };
            }
        };
        if !self.choices.is_empty() {
            add(&format!("one of {}", self.choices.iter().map(bare).collect::<Vec<_>>().join(", ")));
        }
        add(&self.limits);
        if let Some(default) = &self.default {
            add(&format!("default {}", bare(default)));
        }
        if self.required {
            add("required");
        }
        note
    }

    /// The properties of its values, when they are objects or lists of objects.
    pub fn members(&self, root: &Value) -> Vec<Property> {
        let own = properties_in(&self.schema, root);
        match self.schema.get("items") {
            Some(items) if own.is_empty() => properties_in(items, root),
            _ => own,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_property_is_recognised() {
        let schema = json!({
            "type": "object",
            "required": ["text"],
            "$defs": {"level": {"type": "string", "enum": ["low", "high"], "description": "how loud"}, "loop": {"$ref": "#/$defs/loop"}},
            "properties": {
                "text": {"type": "string", "maxLength": 64, "description": "some\n  text"},
                "count": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
                "ratio": {"type": ["number", "null"]},
                "all": {"type": "boolean", "default": false},
                "level": {"$ref": "#/$defs/level"},
                "maybe": {"anyOf": [{"$ref": "#/$defs/level"}, {"type": "null"}], "description": "nearer"},
                "mode": {"oneOf": [{"const": "a"}, {"const": "b"}]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "levels": {"type": "array", "items": {"$ref": "#/$defs/level"}},
                "env": {"type": "object", "additionalProperties": {"type": "string"}},
                "deep": {"type": "object", "properties": {"x": {"type": "integer"}}},
                "free": {},
                "loop": {"$ref": "#/$defs/loop"},
            }
        });
        let shown: Vec<String> =
            properties(&schema).iter().map(|p| format!("{} <{}> {}", p.name, p.shape, p.note())).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        text <text> some text [at most 64 characters] [required]
        all <true or false> default false
        count <integer> 1 to 100 [default 10]
        deep <JSON> 
        env <name=text, several> 
        free <JSON> 
        level <text> how loud [one of low, high]
        levels <list of text> 
        loop <JSON> 
        maybe <text> nearer [one of low, high]
        mode <text> one of a, b
        ratio <number> 
        tags <list of text> at least 1 items
        ");
    }

    #[test]
    fn a_schema_without_properties_has_none() {
        for schema in [json!(true), json!({}), json!({"type": "object"}), json!({"properties": 3})] {
            assert_eq!(properties(&schema), Vec::new(), "{schema}");
        }
    }
}
