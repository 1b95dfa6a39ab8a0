//! The description of this door as it is served.
//!
//! Invariant: made once for each generation of the registry, never once for each request; by whom, it is told.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::HeaderValue;
use ports::plugins::{Plugins, Verb};
use serde_json::Value;
use services::digest::sha256_hex;

/// Describes the door with these verbs loaded, at this version of the program.
pub type Describe = fn(&[Arc<dyn Verb>], &str) -> Value;

/// The description as it is served.
#[derive(Debug)]
pub struct Description {
    /// The JSON text.
    pub body: Bytes,
    /// A strong tag: the text's digest.
    pub etag: HeaderValue,
}

/// The latest description, and the generation of the registry it was made of.
#[derive(Debug)]
pub struct Kept {
    describe: Describe,
    latest: Mutex<Option<(u64, Arc<Description>)>>,
}

impl Kept {
    /// None yet.
    pub fn new(describe: Describe) -> Kept {
        Kept { describe, latest: Mutex::new(None) }
    }

    /// The description of the door as it is now.
    pub fn now(&self, plugins: &dyn Plugins, version: &str) -> Arc<Description> {
        // Asked first: verbs that are newer than their number are described once more than needed.
        let generation = plugins.generation();
        let mut kept = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, description)) = kept.as_ref()
            && *of == generation
        {
            return Arc::clone(description);
        }
        let body = Bytes::from((self.describe)(&plugins.verbs(), version).to_string());
        let tag = format!("\"{}\"", sha256_hex(&body));
        let etag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
        let description = Arc::new(Description { body, etag });
        *kept = Some((generation, Arc::clone(&description)));
        description
    }
}
