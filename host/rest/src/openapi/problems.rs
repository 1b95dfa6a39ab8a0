//! Refusals: which statuses a route can answer with, and the codes each stands for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::shape::{Shape, reference};
use crate::authorize::Access;
use crate::problem::CODES;
use crate::routes::Route;

/// Every route can answer with these, whatever it does.
const ALWAYS: [u16; 5] = [400, 403, 429, 500, 503];

/// The statuses of a route's refusals.
pub fn of(route: &Route, shape: &Shape) -> BTreeSet<u16> {
    let mut statuses: BTreeSet<u16> = ALWAYS.into_iter().chain(shape.refuses.iter().copied()).collect();
    if route.access != Access::Public || route.path.contains("/auth/") {
        statuses.insert(401);
    }
    if route.path.contains('{') {
        statuses.insert(404);
    }
    if shape.takes.is_some() {
        statuses.extend([413, 415, 422]);
    }
    // What it says of itself is not a refusal.
    for (given, _) in &shape.gives {
        statuses.remove(given);
    }
    statuses
}

/// A reference to the refusals of this status.
pub fn response(status: u16) -> Value {
    json!({ "$ref": format!("#/components/responses/Problem{status}") })
}

/// Every code, for a page about them.
pub fn codes() -> Vec<Value> {
    CODES.iter().map(|row| json!({ "code": row.name, "status": row.status, "title": row.title })).collect()
}

/// Refusals by status, each with the codes there are.
pub fn responses() -> Map<String, Value> {
    let mut all = Map::new();
    for status in CODES.iter().map(|row| row.status).collect::<BTreeSet<u16>>() {
        let codes = CODES.iter().filter(|row| row.status == status);
        let lines: Vec<String> = codes.map(|row| format!("`{}`: {}", row.name, row.title)).collect();
        let mut response = json!({
            "description": lines.join("; "),
            "content": { "application/problem+json": { "schema": reference("Problem") } }
        });
        if matches!(status, 429 | 503) {
            response["headers"] = json!({ "Retry-After": {
                "schema": { "type": "integer", "minimum": 0 },
                "description": "Seconds until trying again makes sense, where that is known."
            } });
        }
        all.insert(format!("Problem{status}"), response);
    }
    all
}
