//! JSON Schemas that come from strangers: compiled so that neither compiling nor checking can reach
//! out, run away or blow up.
//!
//! Invariant: draft 2020-12 only, references stay inside the document, patterns match in linear time,
//! and the work of one check is bounded before the first one is made.

mod cost;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use ports::plugins::Violation;
use serde_json::Value;

use crate::refusal::Code;

/// Most bytes of a schema's JSON text.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// Most levels of JSON nesting, of a schema as of a value checked against one.
pub const MAX_DEPTH: usize = 32;
/// Most bytes of one compiled pattern.
const PATTERN_BYTES: usize = 512 * 1024;
/// Most violations told at once.
const MAX_VIOLATIONS: usize = 100;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
}

/// Why a schema is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaFault {
    /// Which rule it breaks.
    pub code: Code,
    /// What is wrong, with the pointer into the schema.
    pub message: String,
}

impl SchemaFault {
    fn new(code: Code, message: impl Into<String>) -> SchemaFault {
        SchemaFault { code, message: message.into() }
    }
}

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// Which rule it breaks and where.
    pub fn compile(schema: &Value) -> Result<Schema, SchemaFault> {
        let size = schema.to_string().len();
        if size > MAX_SCHEMA_BYTES {
            let message = format!("{size} bytes of JSON; a schema has at most {MAX_SCHEMA_BYTES}");
            return Err(SchemaFault::new(Code::SchemaSize, message));
        }
        if depth(schema) > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(SchemaFault::new(Code::SchemaDepth, message));
        }
        cost::check(schema)?;
        plan::secret::check_schema(schema).map_err(|fault| {
            SchemaFault::new(Code::SchemaInvalid, format!("`{}`: {}", fault.pointer, fault.message))
        })?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let options = jsonschema::options().with_draft(Draft::Draft202012).offline().with_pattern_options(patterns);
        match options.build(schema) {
            Ok(validator) => Ok(Schema { validator }),
            Err(error) => {
                let (keyword, at) = (error.kind().keyword().to_owned(), error.instance_path().to_string());
                let pattern = matches!(keyword.as_str(), "pattern" | "format") || at.ends_with("/pattern");
                let code = if pattern || at.contains("/patternProperties") {
                    Code::SchemaPattern
                } else {
                    Code::SchemaInvalid
                };
                Err(SchemaFault::new(code, format!("`{at}`: {error}")))
            }
        }
    }

    /// Checks `value`; all violations at once, at most 100, in document order.
    ///
    /// # Errors
    /// What is wrong with it; never empty.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if depth(value) > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            return Err(vec![Violation { pointer: String::new(), message, keyword: "depth".into() }]);
        }
        let violations: Vec<Violation> =
            self.validator.iter_errors(value).flat_map(|error| told(&error)).take(MAX_VIOLATIONS).collect();
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

/// One error as violations: what is missing or too much is told where it is, or would be, one by one.
fn told(error: &ValidationError<'_>) -> Vec<Violation> {
    let at = error.instance_path().to_string();
    let keyword = error.kind().keyword();
    let violation = |pointer, message| Violation { pointer, message, keyword: keyword.to_owned() };
    let member = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![violation(member(name), shorten(format!("`{name}` is required")))]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let unknown = |name: &String| violation(member(name), shorten(format!("`{name}` is not known here")));
            unexpected.iter().map(unknown).collect()
        }
        _ => vec![violation(at, shorten(error.to_string()))],
    }
}

/// Levels of nesting: 1 for a scalar. The JSON reader already refuses what could overflow a stack.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// A message may quote the whole offending value; people need the beginning.
fn shorten(text: String) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => {
            let tail: String = text.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
            format!("{} … {tail}", &text[..end])
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(schema: Value, code: Code) {
        match Schema::compile(&schema) {
            Ok(_) => panic!("accepted, expected {code:?}"),
            Err(fault) => assert_eq!(fault.code, code, "{fault}"),
        }
    }

    #[test]
    fn all_violations_come_at_once_with_pointers_and_keywords() {
        let schema = json!({
            "type": "object", "required": ["program"], "additionalProperties": false,
            "properties": { "program": { "type": "string", "minLength": 1 }, "args": { "type": "array", "items": { "type": "string" } } }
        });
        let schema = Schema::compile(&schema).expect("a plain schema");
        assert_eq!(schema.check(&json!({ "program": "uname", "args": ["-a"] })), Ok(()));
        let found = schema.check(&json!({ "args": ["-a", 1], "x": 2, "a/b": 3 })).expect_err("four violations");
        let mut short: Vec<(&str, &str)> = found.iter().map(|v| (v.pointer.as_str(), v.keyword.as_str())).collect();
        short.sort_unstable();
        assert_eq!(
            short,
            [
                ("/args/1", "type"),
                ("/a~1b", "additionalProperties"),
                ("/program", "required"),
                ("/x", "additionalProperties")
            ]
        );
    }

    #[test]
    fn nothing_outside_the_document_is_reached() {
        for reference in
            ["https://example.com/s.json", "http://127.0.0.1:1/s", "file:///etc/passwd", "other.json", "//x/y"]
        {
            refused(json!({ "properties": { "a": { "$ref": reference } } }), Code::SchemaRemoteRef);
        }
        refused(json!({ "$schema": "http://json-schema.org/draft-07/schema#" }), Code::SchemaDraft);
    }

    #[test]
    fn patterns_are_linear_or_refused() {
        for pattern in [r"(a)\1", "(?=x)y", "(?<!x)y", "(a{1000}){1000}", "["] {
            refused(json!({ "properties": { "a": { "pattern": pattern } } }), Code::SchemaPattern);
            refused(json!({ "patternProperties": { pattern: {} } }), Code::SchemaPattern);
        }
        let schema = Schema::compile(&json!({ "pattern": "^(a+)+$" })).expect("linear here");
        assert!(schema.check(&json!(format!("{}!", "a".repeat(100_000)))).is_err());
    }

    #[test]
    fn size_and_depth_have_limits() {
        refused(json!({ "description": "x".repeat(MAX_SCHEMA_BYTES) }), Code::SchemaSize);
        let mut deep = json!({});
        for _ in 0..MAX_DEPTH {
            deep = json!({ "not": deep });
        }
        refused(deep, Code::SchemaDepth);
        let mut value = json!(1);
        for _ in 0..MAX_DEPTH {
            value = json!([value]);
        }
        let found = Schema::compile(&json!({})).expect("anything").check(&value).expect_err("too deep");
        assert_eq!(found[0].keyword, "depth");
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        refused(json!({ "type": "strnig" }), Code::SchemaInvalid);
        refused(json!({ "minLength": -1 }), Code::SchemaInvalid);
    }
}
