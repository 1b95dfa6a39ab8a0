//! Text that is never shown: not by `Debug`, not in an error, not in a log.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A password, or a URL that may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for whoever needs it to open something.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// A derived reader would quote what it could not read.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Secret(text)),
            other => Err(D::Error::custom(format!("expected text in quotes, found {}", kind(&other)))),
        }
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "text",
        toml::Value::Integer(_) | toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        #[expect(dead_code, reason = "only its shape is looked at")]
        password: Secret,
    }

    #[test]
    fn neither_debug_nor_an_error_shows_it() {
        let holder: Holder = toml::from_str("password = \"hunter2\"").expect("text");
        assert_eq!(format!("{holder:?}"), "Holder { password: … }");
        for wrong in ["4711", "[\"hunter2\"]", "{ is = \"hunter2\" }", "2.5"] {
            let error = toml::from_str::<Holder>(&format!("password = {wrong}")).expect_err("no text");
            let said = error.message().to_owned();
            assert!(said.contains("expected text in quotes") && !said.contains("hunter2"), "{said}");
            assert!(!said.contains("4711") && !said.contains("2.5"), "{said}");
        }
    }
}
