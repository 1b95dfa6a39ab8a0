//! Gate 5: schemas that reach out, run away or blow up, and one that a caller could not know to be none.

use runtime::Code;
use serde_json::{Map, Value, json};

use super::Case;
use crate::guest::Guest;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        property(
            "a schema fetched by HTTPS",
            json!({ "$ref": "https://example.com/s" }),
            Code::SchemaRemoteRef,
            "example.com",
        ),
        property(
            "a schema fetched from this machine",
            json!({ "$ref": "http://127.0.0.1:1/s" }),
            Code::SchemaRemoteRef,
            "127.0.0.1",
        ),
        property(
            "a schema read from a file",
            json!({ "$ref": "file:///etc/passwd" }),
            Code::SchemaRemoteRef,
            "/etc/passwd",
        ),
        property(
            "a schema beside this one",
            json!({ "$ref": "../other.json#/x" }),
            Code::SchemaRemoteRef,
            "other.json",
        ),
        property("a schema on a share", json!({ "$ref": "//server/share/s" }), Code::SchemaRemoteRef, "server"),
        property(
            "a schema by another name",
            json!({ "$id": "https://example.com/", "$ref": "#" }),
            Code::SchemaRef,
            "$id",
        ),
        property("a reference that depends on the path", json!({ "$dynamicRef": "#node" }), Code::SchemaRef, "path"),
        property("a reference to nothing", json!({ "$ref": "#/$defs/nothing" }), Code::SchemaRef, "nothing"),
        property(
            "an older dialect",
            json!({ "$schema": "http://json-schema.org/draft-04/schema#" }),
            Code::SchemaDraft,
            "draft-04",
        ),
        property("back-references", json!({ "pattern": r"^(a+)\1$" }), Code::SchemaPattern, "pattern"),
        property("look-around", json!({ "pattern": "^(?=.*a)(?=.*b).*$" }), Code::SchemaPattern, "pattern"),
        property(
            "a pattern of a million states",
            json!({ "pattern": "(a{1000}){1000}" }),
            Code::SchemaPattern,
            "pattern",
        ),
        property(
            "a pattern of all of Unicode",
            json!({ "pattern": r"(\w{100}){100}" }),
            Code::SchemaPattern,
            "pattern",
        ),
        property("a pattern among names", json!({ "patternProperties": { "(?<!x)y": {} } }), Code::SchemaPattern, "y"),
        property("a pattern that does not close", json!({ "pattern": "([" }), Code::SchemaPattern, "pattern"),
        property("201 patterns", json!({ "allOf": vec![json!({ "pattern": "a" }); 201] }), Code::SchemaPattern, "200"),
        property("300 KiB of schema", json!({ "enum": ["x".repeat(300 * 1024)] }), Code::SchemaSize, "262144"),
        property("33 levels", (0..33).fold(json!({}), |deep, _| json!({ "not": deep })), Code::SchemaDepth, "32"),
        property("a type that does not exist", json!({ "type": "strnig" }), Code::SchemaInvalid, "strnig"),
        property("a length below zero", json!({ "minLength": -1 }), Code::SchemaInvalid, "-1"),
        definitions(
            "a reference to itself",
            &[("a", json!({ "$ref": "#/$defs/a" }))],
            Code::SchemaLoop,
            "back to itself",
        ),
        definitions(
            "a loop of two",
            &[("a", json!({ "allOf": [{ "$ref": "#/$defs/b" }] })), ("b", json!({ "not": { "$ref": "#/$defs/a" } }))],
            Code::SchemaLoop,
            "back to itself",
        ),
        definitions(
            "twice itself on every level",
            &[("a", json!({ "allOf": vec![json!({ "additionalProperties": { "$ref": "#/$defs/a" } }); 2] }))],
            Code::SchemaBomb,
            "10000",
        ),
        definitions(
            "a wide choice on every level",
            &[("a", json!({ "anyOf": vec![json!({ "items": { "$ref": "#/$defs/a" } }); 8] }))],
            Code::SchemaBomb,
            "10000",
        ),
        whole("arguments that are no object", json!({ "type": "array" }), Code::SchemaNotObject, "demo.run"),
        whole("arguments that are anything", json!(true), Code::SchemaNotObject, "demo.run"),
        result("a result fetched from elsewhere", json!({ "$ref": "https://example.com/r" }), "result_schema"),
    ];
    cases.extend(
        [
            ("", "doubling references"),
            ("items", "doubling under items"),
            ("not", "doubling under not"),
            ("contains", "doubling under contains"),
            ("propertyNames", "doubling under names"),
        ]
        .map(|(under, name)| doubling(name, under)),
    );
    cases.push(chain());
    cases
}

fn property(name: &'static str, schema: Value, code: Code, told: &'static str) -> Case {
    let mut guest = Guest::new("demo", "1.0.0");
    guest.manifest["verbs"][0]["args_schema"]["properties"]["x"] = schema;
    Case::new(name, guest.build(), code, told)
}

fn whole(name: &'static str, schema: Value, code: Code, told: &'static str) -> Case {
    let mut guest = Guest::new("demo", "1.0.0");
    guest.manifest["verbs"][0]["args_schema"] = schema;
    Case::new(name, guest.build(), code, told)
}

fn result(name: &'static str, schema: Value, told: &'static str) -> Case {
    let mut guest = Guest::new("demo", "1.0.0");
    guest.manifest["verbs"][0]["result_schema"] = schema;
    Case::new(name, guest.build(), Code::SchemaRemoteRef, told)
}

/// A schema whose property `x` is the first of `parts`.
fn definitions(name: &'static str, parts: &[(&str, Value)], code: Code, told: &'static str) -> Case {
    let mut guest = Guest::new("demo", "1.0.0");
    let schema = &mut guest.manifest["verbs"][0]["args_schema"];
    schema["properties"]["x"] = json!({ "$ref": format!("#/$defs/{}", parts[0].0) });
    schema["$defs"] = parts.iter().map(|(name, part)| ((*name).to_owned(), part.clone())).collect::<Map<_, _>>().into();
    Case::new(name, guest.build(), code, told)
}

/// Each part needs the next one twice: two kilobytes that cost 2ⁿ steps.
fn doubling(name: &'static str, under: &str) -> Case {
    let parts: Vec<(String, Value)> = (0..30)
        .map(|level| {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            let both = match under {
                "" => json!({ "allOf": [next, next] }),
                under => json!({ "allOf": [{ under: next }, { under: next }] }),
            };
            (format!("d{level}"), both)
        })
        .chain([("d30".to_owned(), json!({ "type": "string" }))])
        .collect();
    let parts: Vec<(&str, Value)> = parts.iter().map(|(name, part)| (name.as_str(), part.clone())).collect();
    definitions(name, &parts, Code::SchemaBomb, "10000")
}

/// So long that following it would overflow a stack.
fn chain() -> Case {
    let parts: Vec<(String, Value)> = (0..3_000)
        .map(|link| (format!("d{link}"), json!({ "$ref": format!("#/$defs/d{}", (link + 1) % 3_000) })))
        .collect();
    let parts: Vec<(&str, Value)> = parts.iter().map(|(name, part)| (name.as_str(), part.clone())).collect();
    definitions("a chain of 3,000 references", &parts, Code::SchemaDepth, "512")
}
