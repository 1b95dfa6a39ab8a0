//! Lines for whoever runs the host. At most 100 lines or 64 KiB of a call are kept.
//!
//! ```
//! use viworks_sdk::{json::json, log};
//!
//! log::warn("a row has more columns than known");
//! log::with("debug", "row", &json!({ "columns": 7 }));
//! ```

use serde_json::Value;

use crate::text::text_of;

/// Something that should not be.
///
/// ```
/// viworks_sdk::log::error("the table has no header");
/// ```
pub fn error(message: &str) {
    write("error", message, "{}");
}

/// Something unexpected that does not stop the work.
///
/// ```
/// viworks_sdk::log::warn("a row has more columns than known");
/// ```
pub fn warn(message: &str) {
    write("warn", message, "{}");
}

/// Something worth knowing.
///
/// ```
/// viworks_sdk::log::info("the daemon is older than 20.10");
/// ```
pub fn info(message: &str) {
    write("info", message, "{}");
}

/// Something for whoever develops the plugin.
///
/// ```
/// viworks_sdk::log::debug("7 columns");
/// ```
pub fn debug(message: &str) {
    write("debug", message, "{}");
}

/// A line with fields, an object. `level` is `error`, `warn`, `info` or `debug`.
///
/// ```
/// viworks_sdk::log::with("debug", "row", &viworks_sdk::json::json!({ "columns": 7 }));
/// ```
pub fn with(level: &str, message: &str, fields: &Value) {
    write(level, message, &text_of(fields));
}

#[cfg(target_family = "wasm")]
fn write(level: &str, message: &str, fields: &str) {
    crate::bindings::viworks::plugin::log::write(level, message, fields);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: &str, message: &str, fields: &str) {
    eprintln!("{level}: {message} {fields}");
}
