//! Logging the command line tool in, without taking anybody's own login away.
//!
//! The login goes into the usual contexts file, as context `local-up`, so that `viworks …` just works
//! — unless that would disturb: another context is the current one, `local-up` belongs to another
//! host that is still there, the environment says which host is meant, or `--data` was given. Then it
//! goes into a file of its own in the data directory, and the commands that are shown name that file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::http::Api;
use super::place::Place;
use crate::program::read;

const CONTEXT: &str = "local-up";

/// How commands are to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The contexts file they must name; absent when the usual one is meant.
    pub contexts: Option<PathBuf>,
}

/// Logs in.
///
/// # Errors
/// When the tool refuses.
pub fn log_in(place: &Place, tool: &Path, port: u16) -> anyhow::Result<Login> {
    let url = format!("http://127.0.0.1:{port}");
    let usual = !place.is_named() && !environment_decides() && is_free_to_take(&current(tool), &url);
    let contexts = (!usual).then(|| place.contexts());
    let mut login = Command::new(tool);
    login.args(["login", &url, "--name", CONTEXT, "--credential"]).arg(place.admin_credential());
    for name in ["VIWORKS_CONTEXT", "VIWORKS_URL", "VIWORKS_TOKEN"] {
        login.env_remove(name);
    }
    if let Some(path) = &contexts {
        login.env("VIWORKS_CONFIG", path);
    }
    read(&mut login).context("the command line tool cannot log in")?;
    Ok(Login { contexts })
}

fn environment_decides() -> bool {
    ["VIWORKS_CONTEXT", "VIWORKS_URL", "VIWORKS_TOKEN"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The current context as the tool tells it; null when there is none.
fn current(tool: &Path) -> Value {
    let told = read(Command::new(tool).args(["context", "show", "-o", "json"]));
    told.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Whether nobody would miss `current`.
fn is_free_to_take(current: &Value, url: &str) -> bool {
    let Some(name) = current["name"].as_str() else { return true };
    let Some(theirs) = current["url"].as_str() else { return false };
    let port = || theirs.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    name == CONTEXT && (theirs.trim_end_matches('/') == url || !port().is_some_and(|port| Api::at(port).is_ready()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_login_is_never_taken_away() {
        let url = "http://127.0.0.1:8080";
        assert!(is_free_to_take(&Value::Null, url));
        assert!(!is_free_to_take(&json!({ "name": "production", "url": "https://a.test" }), url));
        assert!(is_free_to_take(&json!({ "name": "local-up", "url": "http://127.0.0.1:8080/" }), url));
        // Nobody listens there any more.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        assert!(is_free_to_take(&json!({ "name": "local-up", "url": format!("http://127.0.0.1:{gone}") }), url));
    }
}
