//! What one operation takes and gives, as values to describe it by.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Schemas that a document refers to, by name.
pub type Named = Vec<(String, RefOr<Schema>)>;

/// A body, and what gathers the schemas it refers to.
#[derive(Clone, Debug)]
pub struct Body {
    pub media: &'static str,
    pub schema: Value,
    pub gather: fn(&mut Named),
}

/// One operation, besides what its row in the route table says already.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its name, for generated clients; stable.
    pub name: &'static str,
    /// The body it takes, and whether it must.
    pub takes: Option<(Body, bool)>,
    /// What it answers when it does what was asked.
    pub gives: Vec<(u16, Option<Body>)>,
    /// Request headers it reads.
    pub headers: &'static [&'static str],
    /// Refusals of its own, by status.
    pub refuses: &'static [u16],
}

/// An operation that is called `name` by generated clients.
pub fn op(name: &'static str) -> Shape {
    Shape { name, takes: None, gives: Vec::new(), headers: &[], refuses: &[] }
}

impl Shape {
    /// Takes a JSON body.
    pub fn takes<T: ToSchema>(self) -> Shape {
        Shape { takes: Some((json_of::<T>(), true)), ..self }
    }

    /// Takes nothing, or an empty object.
    pub fn takes_nothing(self) -> Shape {
        let schema = json!({ "type": "object", "additionalProperties": false });
        Shape { takes: Some((Body { media: "application/json", schema, gather: |_| () }, false)), ..self }
    }

    /// Answers `status` with a JSON body.
    pub fn gives<T: ToSchema>(mut self, status: u16) -> Shape {
        self.gives.push((status, Some(json_of::<T>())));
        self
    }

    /// Answers 200 with a page of these.
    pub fn gives_page<T: ToSchema>(mut self) -> Shape {
        let schema = json!({
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": { "type": "array", "items": reference(&T::name()) },
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "Give this as `cursor` to get the next page; null at the end, and only there: a page may be empty and not be the last."
                }
            }
        });
        self.gives.push((200, Some(Body { media: "application/json", schema, gather: gather::<T> })));
        self
    }

    /// Answers 200 with something that is not JSON.
    pub fn gives_raw(mut self, media: &'static str) -> Shape {
        let schema = json!({ "type": if media == "application/json" { "object" } else { "string" } });
        self.gives.push((200, Some(Body { media, schema, gather: |_| () })));
        self
    }

    /// Answers `status` without a body.
    pub fn gives_none(mut self, status: u16) -> Shape {
        self.gives.push((status, None));
        self
    }

    /// Reads these request headers.
    pub fn reads(self, headers: &'static [&'static str]) -> Shape {
        Shape { headers, ..self }
    }

    /// Has refusals of its own.
    pub fn refuses(self, refuses: &'static [u16]) -> Shape {
        Shape { refuses, ..self }
    }
}

fn json_of<T: ToSchema>() -> Body {
    Body { media: "application/json", schema: reference(&T::name()), gather: gather::<T> }
}

/// The schema of `T` and all that it refers to.
pub fn gather<T: ToSchema>(named: &mut Named) {
    named.push((T::name().into_owned(), <T as PartialSchema>::schema()));
    T::schemas(named);
}

/// A reference to a schema by its name.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
