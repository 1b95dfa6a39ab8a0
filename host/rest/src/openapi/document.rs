//! The document, put together.

use std::sync::Arc;

use ports::plugins::Verb;
use serde_json::{Map, Value, json};

use super::operations;
use super::shape::{Body, Named, Shape, gather, op};
use super::{parameters, problems, verbs as verbs_part};
use crate::authorize::Access;
use crate::routes::{Route, TABLE};

/// Describes every route, with these verbs loaded.
pub fn document(verbs: &[Arc<dyn Verb>], version: &str) -> Value {
    let mut named: Named = Vec::new();
    let mut paths = Map::new();
    for route in TABLE {
        // What has no line is told by a test; it is described all the same, by its row.
        let shape = operations::of(route.method, route.path).unwrap_or_else(|| op("").gives_raw("application/json"));
        let operation = operation(route, &shape, &mut named);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation;
    }
    gather::<api::problem::Problem>(&mut named);
    let mut schemas = Map::new();
    for (name, schema) in named {
        schemas.entry(name).or_insert_with(|| serde_json::to_value(schema).unwrap_or_default());
    }
    schemas.values_mut().for_each(safe_integers);
    let mut loaded = verbs.to_vec();
    loaded.sort_by(|a, b| a.traits().name.cmp(&b.traits().name));
    verbs_part::add(&mut schemas, &loaded);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ViWorkS",
            "version": version,
            "description": "Runs vetted commands on fleets of machines and tells the truth about what happened.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "tags": tags(),
        "x-viworks-errors": problems::codes(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems::responses(),
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The token that `POST /api/v1/auth/login` answers."
            } }
        }
    })
}

fn operation(route: &Route, shape: &Shape, named: &mut Named) -> Value {
    let mut responses = Map::new();
    for (status, body) in &shape.gives {
        let mut response = response(*status, body.as_ref(), named);
        if matches!(status, 201 | 202) {
            links(route, &mut response);
        }
        responses.insert(status.to_string(), response);
    }
    for status in problems::of(route, shape) {
        responses.insert(status.to_string(), problems::response(status));
    }
    let mut operation = json!({
        "tags": [tag(route.path)],
        "operationId": shape.name,
        "summary": route.summary,
        "parameters": parameters::of(route, shape),
        "responses": responses,
    });
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Needs(permission) => {
            operation["security"] = json!([{ "bearer": [] }]);
            operation["x-viworks-permission"] = format!("{permission:?}").into();
        }
    }
    if let Some((body, required)) = &shape.takes {
        operation["requestBody"] = json!({ "required": required, "content": content(body, named) });
    }
    operation
}

fn content(body: &Body, named: &mut Named) -> Value {
    (body.gather)(named);
    json!({ body.media: { "schema": body.schema } })
}

fn response(status: u16, body: Option<&Body>, named: &mut Named) -> Value {
    let (description, location) = match status {
        201 => ("Made.", true),
        202 => ("Accepted; it is not over yet.", true),
        204 => ("Done; there is nothing more to say.", false),
        101 => ("From here on it is a WebSocket.", false),
        304 => ("As the one you have.", false),
        503 => ("Some part is not well.", false),
        _ => ("Done.", false),
    };
    let mut response = json!({ "description": description });
    if let Some(body) = body {
        response["content"] = content(body, named);
    }
    if location {
        let schema = json!({ "type": "string", "format": "uri-reference" });
        response["headers"] = json!({ "Location": { "schema": schema, "description": "Where it is." } });
    }
    response
}

/// Where what was just made can be seen and changed: every route below this one that needs no more than its name.
fn links(made_by: &Route, response: &mut Value) {
    for route in TABLE {
        let below = route.path.strip_prefix(made_by.path).and_then(|rest| rest.strip_prefix("/{"));
        let Some((name, rest)) = below.and_then(|rest| rest.split_once('}')) else { continue };
        let Some(shape) = operations::of(route.method, route.path).filter(|_| !rest.contains('{')) else { continue };
        let key = if name == "group" { "name" } else { "id" };
        response["links"][shape.name] = json!({
            "operationId": shape.name,
            "parameters": { name: format!("$response.body#/{key}") }
        });
    }
}

/// Numbers beyond 2^53 - 1 are neither read nor written.
fn safe_integers(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(safe_integers),
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "int64") && !fields.contains_key("maximum") {
                fields.insert("maximum".to_owned(), json!(9_007_199_254_740_991_u64));
            }
            fields.values_mut().for_each(safe_integers);
        }
        _ => {}
    }
}

/// What a route is about: the first name of its path.
fn tag(path: &str) -> &str {
    let Some(v1) = path.strip_prefix("/api/v1/") else { return if path == "/ws/events" { "events" } else { "system" } };
    match v1.split('/').next().unwrap_or(v1) {
        "me" => "auth",
        area => area,
    }
}

fn tags() -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for route in TABLE {
        let name = tag(route.path);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| json!({ "name": name })).collect()
}
