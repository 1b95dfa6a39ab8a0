//! What loaded verbs bring to the description: their schemas, and a command for each that is typed.

use std::sync::Arc;

use ports::plugins::Verb;
use serde_json::{Map, Value, json};

use super::shape::reference;

/// The component that stands for any command.
pub const COMMAND: &str = "NewCommand";

/// Adds each verb's schemas, and makes `NewCommand` one of the verbs' own commands.
pub fn add(schemas: &mut Map<String, Value>, verbs: &[Arc<dyn Verb>]) {
    let Some(untyped) = schemas.get(COMMAND).cloned() else { return };
    let (mut one_of, mut mapping) = (Vec::new(), Map::new());
    for verb in verbs {
        let (name, contract) = (verb.traits().name.to_string(), verb.contract());
        let (args, result, command) = (format!("{name}.args"), format!("{name}.result"), format!("{name}.command"));
        embed(schemas, &args, &contract.args_schema);
        embed(schemas, &result, &contract.result_schema);
        let needs_args = contract.args_schema["required"].as_array().is_some_and(|fields| !fields.is_empty());
        schemas.insert(command.clone(), typed(&untyped, &name, &verb.traits().summary, &args, needs_args));
        let pointer = reference(&command);
        mapping.insert(name, pointer["$ref"].clone());
        one_of.push(pointer);
    }
    if !one_of.is_empty() {
        let description = untyped["description"].clone();
        let command = json!({
            "description": description,
            "oneOf": one_of,
            "discriminator": { "propertyName": "verb", "mapping": mapping }
        });
        schemas.insert(COMMAND.to_owned(), command);
    }
}

/// A command of one verb.
fn typed(untyped: &Value, verb: &str, summary: &str, args: &str, needs_args: bool) -> Value {
    let mut command = untyped.clone();
    command["description"] = summary.into();
    command["properties"]["verb"] = json!({ "type": "string", "const": verb });
    command["properties"]["args"] = reference(args);
    if let Some(required) = command["required"].as_array_mut().filter(|_| needs_args) {
        required.push("args".into());
    }
    command
}

/// Puts a plugin's schema among the components, its definitions beside it, and lets its references follow.
fn embed(schemas: &mut Map<String, Value>, name: &str, schema: &Value) {
    let mut schema = schema.clone();
    let mut definitions = Map::new();
    if let Value::Object(root) = &mut schema {
        // The document has one dialect and one address, and every verb's schema is of that dialect.
        root.remove("$schema");
        root.remove("$id");
        if let Some(Value::Object(found)) = root.remove("$defs") {
            definitions = found;
        }
    }
    follow(&mut schema, name);
    schemas.insert(name.to_owned(), schema);
    for (word, mut definition) in definitions {
        follow(&mut definition, name);
        schemas.insert(format!("{name}.{}", plain(&word)), definition);
    }
}

/// Rewrites the references in a schema that were meant from its own root. Values are left as they are.
fn follow(schema: &mut Value, name: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| follow(item, name)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("const" | "enum" | "default" | "examples" | "example", _) => {}
                    ("$ref", Value::String(target)) => *target = moved(target, name),
                    (_, value) => follow(value, name),
                }
            }
        }
        _ => {}
    }
}

fn moved(target: &str, name: &str) -> String {
    let Some(pointer) = target.strip_prefix('#') else { return target.to_owned() };
    let below = pointer.strip_prefix("/$defs/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    match below {
        Some((word, "")) => format!("#/components/schemas/{name}.{}", plain(word)),
        Some((word, rest)) => format!("#/components/schemas/{name}.{}/{rest}", plain(word)),
        None => format!("#/components/schemas/{name}{pointer}"),
    }
}

/// The name of a definition in the letters that a component's name may have.
fn plain(word: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    word.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_where_their_definitions_went() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$defs": { "Port": { "type": "integer", "not": { "$ref": "#/$defs/Bad Port" } }, "Bad Port": { "const": 0 } },
            "properties": {
                "port": { "$ref": "#/$defs/Port" },
                "not": { "$ref": "#/$defs/Port/not" },
                "again": { "$ref": "#" },
                "told": { "const": { "$ref": "#/$defs/Port" } }
            }
        });
        let mut schemas = Map::new();
        embed(&mut schemas, "a.b.args", &schema);
        let expected = json!({
            "a.b.args": { "properties": {
                "port": { "$ref": "#/components/schemas/a.b.args.Port" },
                "not": { "$ref": "#/components/schemas/a.b.args.Port/not" },
                "again": { "$ref": "#/components/schemas/a.b.args" },
                "told": { "const": { "$ref": "#/$defs/Port" } }
            } },
            "a.b.args.Port": { "type": "integer", "not": { "$ref": "#/components/schemas/a.b.args.Bad_Port" } },
            "a.b.args.Bad_Port": { "const": 0 }
        });
        assert_eq!(Value::Object(schemas), expected);
    }
}
