//! One property of an object schema, as a person reads about it.

use std::fmt::Write as _;

use serde_json::Value;

use super::shape::{Shape, bare, choices, resolve};

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
    /// What each of its items, values and names must keep, in words; empty when there is nothing.
    pub inner: Vec<String>,
    /// A value to learn from, as it is typed behind the flag.
    pub example: Option<String>,
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
            let shape = Shape::of(&schema, root);
            Property {
                name: name.clone(),
                example: schema.pointer("/examples/0").and_then(|example| example_of(&shape, example)),
                shape,
                required: required.contains(&name.as_str()),
                choices: choices(&schema),
                default: schema.get("default").filter(|value| !value.is_null()).cloned(),
                description: text.split_whitespace().collect::<Vec<_>>().join(" "),
                limits: limits(&schema),
                inner: inner(&schema, root),
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
    said.join(", ")
}

fn pattern(schema: &Value) -> Option<String> {
    schema.get("pattern").and_then(Value::as_str).map(|pattern| format!("matches {pattern}"))
}

/// What the schemas of items, values and names say.
fn inner(schema: &Value, root: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for (keyword, whose) in [("items", "each"), ("additionalProperties", "each value"), ("propertyNames", "each name")]
    {
        let Some(part) = schema.get(keyword).filter(|part| part.is_object()) else { continue };
        let part = resolve(part, root);
        let words: Vec<String> =
            [limits(&part)].into_iter().filter(|text| !text.is_empty()).chain(pattern(&part)).collect();
        if !words.is_empty() {
            said.push(format!("{whose}: {}", words.join(", ")));
        }
    }
    said
}

/// An example as one word behind the flag: of several, the first.
fn example_of(shape: &Shape, example: &Value) -> Option<String> {
    match (shape, example) {
        (Shape::List(item), Value::Array(items)) => items.first().and_then(|first| item.spell(first)),
        (Shape::Map(value), Value::Object(entries)) => {
            entries.iter().next().and_then(|(name, first)| Some(format!("{name}={}", value.spell(first)?)))
        }
        (shape, example) => shape.spell(example),
    }
}

impl Property {
    /// What a person needs to know before typing it, on one line: no patterns, which only the refused read.
    pub fn hint(&self) -> String {
        let repeated = matches!(self.shape, Shape::List(_) | Shape::Map(_)).then(|| "may be repeated".to_owned());
        self.line(&repeated.into_iter().collect::<Vec<_>>())
    }

    /// Everything about it but its name and shape, on one line.
    pub fn note(&self) -> String {
        let more: Vec<String> = pattern(&self.schema).into_iter().chain(self.inner.iter().cloned()).collect();
        self.line(&more)
    }

    /// The rules it must keep and an example, without its description.
    pub fn rules(&self) -> Vec<String> {
        let mut rules = Vec::new();
        if !self.choices.is_empty() {
            rules.push(format!("one of {}", self.choices.iter().map(bare).collect::<Vec<_>>().join(", ")));
        }
        rules.extend((!self.limits.is_empty()).then(|| self.limits.clone()));
        rules.extend(pattern(&self.schema));
        rules.extend(self.inner.iter().cloned());
        rules.extend(self.default().map(|default| format!("default {default}")));
        rules.extend(self.example.as_ref().map(|example| format!("e.g. {example}")));
        rules
    }

    /// The default, unless it is nothing, which everybody expects.
    fn default(&self) -> Option<String> {
        let nothing = |value: &&Value| match value {
            Value::Bool(false) | Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        self.default.as_ref().filter(|value| !nothing(value)).map(bare)
    }

    fn line(&self, more: &[String]) -> String {
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
        more.iter().for_each(|text| add(text));
        if let Some(default) = self.default() {
            add(&format!("default {default}"));
        }
        if self.required {
            add("required");
        }
        note
    }

    /// The properties of the items of an array schema.
    pub fn items(schema: &Value) -> Vec<Property> {
        schema.get("items").map(|items| properties_in(items, schema)).unwrap_or_default()
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
        all <true or false> 
        count <integer> 1 to 100 [default 10]
        deep <object> 
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
