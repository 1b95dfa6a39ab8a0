//! The description of this door, OpenAPI 3.1: made of the route table, of the bodies' own schemas and of
//! the verbs that are loaded. A route is described by its row in `routes` and its line in `operations`.
//!
//! Invariant: made once for each generation of the registry, never once for each request.

mod document;
mod operations;
mod parameters;
mod problems;
mod shape;
mod verbs;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::HeaderValue;
use services::digest::sha256_hex;

use crate::app::App;

/// The description as it is served.
#[derive(Debug)]
pub struct Description {
    /// The JSON text.
    pub body: Bytes,
    /// A strong tag: the text's digest.
    pub etag: HeaderValue,
}

/// The latest description, and the generation of the registry it was made of.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Option<(u64, Arc<Description>)>>);

impl Kept {
    /// The description of the door as it is now.
    pub fn now(&self, app: &App) -> Arc<Description> {
        // Asked first: verbs that are newer than their number are described once more than needed.
        let generation = app.plugins.generation();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, description)) = kept.as_ref()
            && *of == generation
        {
            return Arc::clone(description);
        }
        let document = document::document(&app.plugins.verbs(), &app.options.version);
        let body = Bytes::from(document.to_string());
        let tag = format!("\"{}\"", sha256_hex(&body));
        let etag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
        let description = Arc::new(Description { body, etag });
        *kept = Some((generation, Arc::clone(&description)));
        description
    }
}
