//! The description of the door: whole, tagged, and made once for each set of verbs.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::header;
use domain::access::Role;
use domain::agent::AgentStatus;
use domain::priority::Priority;
use plan::effect::Effect;
use serde_json::Value;
use services::follow_up::Only;

use super::world::{World, with};
use crate::routes::TABLE;

/// Every `$ref` and discriminator address in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            let mapped = fields.get("mapping").and_then(Value::as_object).into_iter().flat_map(|map| map.values());
            found.extend(mapped.filter_map(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_route_is_described_and_every_reference_leads_somewhere() {
    let world = World::new().await;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    for row in TABLE {
        let operation = &document["paths"][row.path][row.method.to_ascii_lowercase()];
        assert_eq!(operation["summary"], row.summary, "{} {}", row.method, row.path);
        let parameters = operation["parameters"].as_array().expect("parameters");
        for name in row.query {
            assert!(parameters.iter().any(|told| told["name"] == *name && told["in"] == "query"), "{}", row.path);
        }
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("inside the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn a_command_is_told_from_another_by_its_verb() {
    let world = World::new().await;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    let body = &document["paths"]["/api/v1/commands"]["post"]["requestBody"]["content"]["application/json"];
    assert_eq!(body["schema"]["$ref"], "#/components/schemas/NewCommand");
    let schemas = &document["components"]["schemas"];
    let discriminator = &schemas["NewCommand"]["discriminator"];
    assert_eq!(discriminator["propertyName"], "verb");
    assert_eq!(discriminator["mapping"]["test.echo"], "#/components/schemas/test.echo.command");
    assert_eq!(schemas["test.echo.command"]["properties"]["verb"]["const"], "test.echo");
    assert_eq!(schemas["test.echo.args"]["properties"]["text"]["type"], "string");
    assert_eq!(schemas["test.echo.result"]["type"], "object");
}

#[tokio::test]
async fn a_description_that_one_has_is_not_sent_again() {
    let world = World::new().await;
    let first = world.get("", "/openapi.json").await.expect(200);
    let tag = first.headers[header::ETAG].to_str().expect("text").to_owned();
    assert!(tag.len() == 66 && tag.starts_with('"'), "{tag}");
    let ask = |tag: &str| with("", "GET", "/openapi.json").header("if-none-match", tag).body(Body::empty());
    let again = world.send(ask(&tag).expect("a request")).await.expect(304);
    assert!(again.body.is_empty());
    assert_eq!(again.headers[header::ETAG], *tag);
    world.send(ask("\"another\"").expect("a request")).await.expect(200);
}

#[tokio::test]
async fn closed_sets_are_told_as_they_are_read() {
    let world = World::new().await;
    let document = world.get("", "/openapi.json").await.expect(200).json();
    let told = |name: &str| {
        let words = document["components"]["schemas"][name]["enum"].as_array().expect(name);
        words.iter().map(|word| word.as_str().expect("a word").to_owned()).collect::<BTreeSet<_>>()
    };
    let read = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(told("Role"), read(&Role::ALL.map(Role::as_str)));
    assert_eq!(told("Effect"), read(&Effect::ALL.map(Effect::as_str)));
    assert_eq!(told("Priority"), read(&Priority::ALL.map(Priority::as_str)));
    assert_eq!(told("AgentStatus"), read(&AgentStatus::ALL.map(AgentStatus::as_str)));
    assert_eq!(told("RetryOnly"), read(&Only::ALL.map(Only::as_str)));
}
