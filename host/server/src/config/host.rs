//! What concerns the host as a program: where it listens, who may call, what it keeps on disk, its logs.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Wrong, wrong};

/// `[server]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where the API listens.
    pub bind: SocketAddr,
    /// Where agents connect.
    pub agents_bind: SocketAddr,
    /// What agents are told to connect to; made from `agents_bind` when absent.
    pub agents_url: Option<String>,
    /// Listen on other than loopback without TLS.
    pub insecure_plaintext: bool,
    /// Names besides loopback's that the `Host` header may hold.
    pub allowed_hosts: Vec<String>,
    /// Connections the API holds at once.
    pub max_connections: usize,
    /// How long a graceful stop may take.
    pub shutdown_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            agents_bind: SocketAddr::from(([127, 0, 0, 1], 9090)),
            agents_url: None,
            insecure_plaintext: false,
            allowed_hosts: Vec::new(),
            max_connections: 1_000,
            shutdown_timeout_ms: 10_000,
        }
    }
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Where keys, the first credential and the embedded store are kept; 0700.
    pub dir: PathBuf,
}

impl Default for Data {
    fn default() -> Data {
        Data { dir: PathBuf::from("viworks-data") }
    }
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Life of an access token.
    pub access_token_s: u64,
    /// Origins that browsers may call from.
    pub cors_origins: Vec<String>,
}

impl Default for Security {
    fn default() -> Security {
        Security { access_token_s: 600, cors_origins: Vec::new() }
    }
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `json` or `text`.
    pub format: LogFormat,
    /// A level, or a filter such as `info,storage=debug`.
    pub level: String,
}

impl Default for Logging {
    fn default() -> Logging {
        Logging { format: LogFormat::Json, level: "info".to_owned() }
    }
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Says what could never work.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    let exposed = |address: SocketAddr| !address.ip().is_loopback() && !config.server.insecure_plaintext;
    let message = "listening beyond loopback without TLS would send tokens in the clear; \
                   put a TLS proxy in front, or set server.insecure_plaintext = true (--insecure-plaintext)";
    if exposed(config.server.bind) {
        return wrong("server.bind", message);
    }
    if exposed(config.server.agents_bind) {
        return wrong("server.agents_bind", message);
    }
    if config.server.agents_bind.ip().is_unspecified() && config.server.agents_url.is_none() {
        let message = "agents cannot connect to an unspecified address; say ws://NAME:PORT/ws/agent";
        return wrong("server.agents_url", message);
    }
    if config.server.max_connections == 0 {
        return wrong("server.max_connections", "at least 1");
    }
    if !(60..=600).contains(&config.security.access_token_s) {
        return wrong("security.access_token_s", "60 to 600");
    }
    Ok(())
}
