//! How the names of docker's things are written: by callers, in patterns, and in what is told to them.

use viworks_sdk::outputs::one_line;

/// A container's name or id. It cannot begin with `-`, hold a blank, or look like another name.
pub const NAME: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$";
/// An image: `registry.example:5000/team/web:1.2`, `web@sha256:…`, or an id.
pub const IMAGE: &str = "^[a-zA-Z0-9][a-zA-Z0-9_.:/@-]*$";
/// An environment variable's or build argument's name.
pub const KEY: &str = "^[a-zA-Z_][a-zA-Z0-9_.-]*$";
/// An environment variable that a process of the machine can be given, too.
pub const VARIABLE: &str = "^[a-zA-Z_][a-zA-Z0-9_]*$";
/// A label's name.
pub const LABEL: &str = "^[a-zA-Z0-9][a-zA-Z0-9_./-]*$";
/// A user by name or number, perhaps with a group.
pub const USER: &str = "^[a-zA-Z0-9_][a-zA-Z0-9_.-]*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$";
/// An operating system, architecture, variant.
pub const PLATFORM: &str = "^[a-z0-9]+(/[a-z0-9_]+){0,2}$";

/// A full id as people write it.
pub fn short(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id).get(..12).unwrap_or(id)
}

/// A caller's text in a message: on one line, and not for ever.
pub fn shown(text: &str) -> String {
    one_line(text, 200)
}

/// `1 container`, `2 containers`.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
