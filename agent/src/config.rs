//! `agent.toml`: what the operator of one machine says about it. Every key has a default.
//!
//! ```toml
//! capabilities = ["exec"]          # instead of what the agent finds out by itself
//! [labels]
//! site = "eu-1"
//! [container_engine]
//! endpoint = "unix:///run/docker.sock"   # DOCKER_HOST of docker and docker-compose
//! config = "/etc/viworks/docker"   # DOCKER_CONFIG: registry logins, and compose as docker's plugin
//! [telemetry]
//! services = ["nginx.service"]     # units whose state is part of each sample, 64 at most
//! [spool]
//! max_bytes = 268435456            # no new work is taken while more output than this waits
//! stream_bytes = 16777216          # most bytes kept of one stream, whatever a command asks for
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use plan::step::is_clean_absolute;
use serde::Deserialize;
use toml::Spanned;
use wire::limits::MAX_FACTS;

use crate::document::{Document, DocumentError};

/// The agent's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Labels this machine claims; labels set at the host win.
    pub labels: BTreeMap<String, String>,
    /// Replaces the capabilities the agent would claim by itself.
    pub capabilities: Option<Vec<String>>,
    /// Where the engine is: `DOCKER_HOST` and `DOCKER_CONFIG` of container steps, as far as configured.
    pub engine_env: BTreeMap<String, String>,
    /// Units of the service manager whose state is part of each sample.
    pub services: Vec<String>,
    /// Limits on kept output.
    pub spool: SpoolLimits,
}

/// Limits on kept output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// While more than this waits to be acknowledged, new work is refused as busy.
    pub max_bytes: u64,
    /// Most bytes kept of one stream.
    pub stream_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> SpoolLimits {
        SpoolLimits { max_bytes: 256 << 20, stream_bytes: 16 << 20 }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    labels: BTreeMap<String, Spanned<String>>,
    capabilities: Option<Vec<Spanned<String>>>,
    container_engine: Engine,
    telemetry: Telemetry,
    spool: Spool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Engine {
    endpoint: Option<Spanned<String>>,
    config: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Telemetry {
    services: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Spool {
    max_bytes: Option<Spanned<u64>>,
    stream_bytes: Option<Spanned<u64>>,
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`DocumentError`], with file and line.
    pub fn load(path: &Path) -> Result<Config, DocumentError> {
        let document = Document::open(path)?;
        let file: File = document.parse()?;
        let mut config = Config::default();
        for (name, value) in file.labels {
            if let Err(message) = check_label(&name, value.get_ref()) {
                return Err(document.fault(value.span().start, message));
            }
            config.labels.insert(name, value.into_inner());
        }
        if config.labels.len() > MAX_FACTS {
            return Err(document.fault(0, format!("{} labels; at most {MAX_FACTS}", config.labels.len())));
        }
        if let Some(names) = file.capabilities {
            let mut list = Vec::with_capacity(names.len());
            for name in names {
                if !is_word(name.get_ref()) {
                    let message = format!("capability `{}` is not 1 to 63 of a-z, 0-9, - _ and .", name.get_ref());
                    return Err(document.fault(name.span().start, message));
                }
                list.push(name.into_inner());
            }
            if list.len() > MAX_FACTS {
                return Err(document.fault(0, format!("{} capabilities; at most {MAX_FACTS}", list.len())));
            }
            list.sort();
            list.dedup();
            config.capabilities = Some(list);
        }
        if let Some(endpoint) = file.container_engine.endpoint {
            let known = ["unix://", "tcp://", "ssh://", "npipe://", "http://", "https://"];
            if !known.iter().any(|scheme| endpoint.get_ref().starts_with(scheme)) {
                let message = format!(
                    "container_engine.endpoint `{}` is no engine address; write it like unix:///run/docker.sock",
                    endpoint.get_ref()
                );
                return Err(document.fault(endpoint.span().start, message));
            }
            config.engine_env.insert("DOCKER_HOST".to_owned(), endpoint.into_inner());
        }
        if let Some(folder) = file.container_engine.config {
            if !is_clean_absolute(folder.get_ref()) {
                let message = format!(
                    "container_engine.config `{}` is not an absolute path without empty, . or .. parts",
                    folder.get_ref()
                );
                return Err(document.fault(folder.span().start, message));
            }
            config.engine_env.insert("DOCKER_CONFIG".to_owned(), folder.into_inner());
        }
        for unit in file.telemetry.services {
            if !is_unit(unit.get_ref()) {
                let message = format!("`{}` is no name of a unit; write it like nginx.service", unit.get_ref());
                return Err(document.fault(unit.span().start, message));
            }
            config.services.push(unit.into_inner());
        }
        config.services.sort();
        config.services.dedup();
        if config.services.len() > MAX_FACTS {
            let message = format!("{} units in telemetry.services; at most {MAX_FACTS}", config.services.len());
            return Err(document.fault(0, message));
        }
        let positive = |value: Option<Spanned<u64>>, default: u64, key: &str| match value {
            None => Ok(default),
            Some(value) if *value.get_ref() == 0 => {
                Err(document.fault(value.span().start, format!("spool.{key} is 0; give it at least 1 byte")))
            }
            Some(value) => Ok(value.into_inner()),
        };
        let default = SpoolLimits::default();
        config.spool = SpoolLimits {
            max_bytes: positive(file.spool.max_bytes, default.max_bytes, "max_bytes")?,
            stream_bytes: positive(file.spool.stream_bytes, default.stream_bytes, "stream_bytes")?,
        };
        Ok(config)
    }
}

/// Checks one label of a machine.
///
/// # Errors
/// A sentence saying what a label looks like.
pub fn check_label(name: &str, value: &str) -> Result<(), String> {
    if !is_word(name) {
        return Err(format!("label name `{name}` is not 1 to 63 of a-z, 0-9, - _ and ."));
    }
    if !is_value(value) {
        return Err(format!("the value of label `{name}` is not 1 to 63 of A-Z, a-z, 0-9, - _ . and /"));
    }
    Ok(())
}

/// What a host takes as the value of a label; anything else would keep the agent from ever having a session.
fn is_value(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}

/// What systemd allows in the name of a unit, with its kind at the end and no dash in front.
fn is_unit(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':' | b'\\');
    (3..=128).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && text.contains('.')
}

fn is_word(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len()) && text.bytes().all(allowed)
}
