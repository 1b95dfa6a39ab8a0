//! What concerns the host as a program: where it listens, who may call, what it keeps on disk, its logs.

use std::net::SocketAddr;
use std::path::PathBuf;

use rest::proxies::{NoNetwork, Proxies};
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
    /// Of one address; 0 = as many as there is room for.
    pub max_connections_per_address: usize,
    /// Networks of proxies that may say on whose behalf they call.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it.
    pub forwarded_by: ForwardedBy,
    /// How long a graceful stop may take.
    pub shutdown_timeout_ms: u64,
    /// Before that: how long whoever comes is still served while `/readyz` says that this host leaves.
    pub drain_ms: u64,
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
            max_connections_per_address: 256,
            trusted_proxies: Vec::new(),
            forwarded_by: ForwardedBy::XForwardedFor,
            shutdown_timeout_ms: 10_000,
            drain_ms: 0,
        }
    }
}

/// How a proxy names its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ForwardedBy {
    /// `X-Forwarded-For`
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded`
    #[serde(rename = "forwarded")]
    Forwarded,
}

impl Server {
    /// The proxies that are believed.
    ///
    /// # Errors
    /// A text that is no network.
    pub fn proxies(&self) -> Result<Proxies, NoNetwork> {
        let networks = self.trusted_proxies.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let by = match self.forwarded_by {
            ForwardedBy::XForwardedFor => rest::proxies::ForwardedBy::XForwardedFor,
            ForwardedBy::Forwarded => rest::proxies::ForwardedBy::Forwarded,
        };
        Ok(Proxies { networks, by })
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
    /// Requests of one principal a second, in the long run; 0 = any number.
    pub requests_per_second: u32,
    /// At once.
    pub request_burst: u32,
    /// Requests of one address that name no principal, a second; 0 = any number.
    pub anonymous_per_second: u32,
    /// At once.
    pub anonymous_burst: u32,
    /// Live streams of one principal; 0 = any number.
    pub streams_per_principal: u32,
}

impl Default for Security {
    fn default() -> Security {
        Security {
            access_token_s: 600,
            cors_origins: Vec::new(),
            requests_per_second: 1_000,
            request_burst: 2_000,
            anonymous_per_second: 50,
            anonymous_burst: 200,
            streams_per_principal: 100,
        }
    }
}

/// `[audit]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// How long entries are kept; 0 = for ever.
    pub keep_days: u32,
}

impl Audit {
    /// How many days entries are kept; for ever when absent.
    pub fn kept(&self) -> Option<u32> {
        Some(self.keep_days).filter(|days| *days > 0)
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
    let plain = !config.tls.is_on() && !config.server.insecure_plaintext;
    let exposed = |address: SocketAddr| plain && !address.ip().is_loopback();
    let message = "listening beyond loopback without TLS would send tokens in the clear; \
                   name tls.certificate and tls.key, say tls.self_signed = true, put a TLS proxy in front, or set server.insecure_plaintext = true (--insecure-plaintext)";
    if config.server.drain_ms > 60_000 {
        return wrong("server.drain_ms", "at most 60000");
    }
    if exposed(config.server.bind) {
        return wrong("server.bind", message);
    }
    if exposed(config.server.agents_bind) {
        return wrong("server.agents_bind", message);
    }
    if config.server.agents_bind.ip().is_unspecified() && config.server.agents_url.is_none() {
        let message = "agents cannot connect to an unspecified address; say ws://NAME:PORT/ws/agent, with TLS wss://";
        return wrong("server.agents_url", message);
    }
    if config.server.max_connections == 0 {
        return wrong("server.max_connections", "at least 1");
    }
    if let Some(url) = &config.server.agents_url {
        let scheme = if config.tls.is_on() { "wss://" } else { "ws" };
        if !url.starts_with(scheme) {
            return wrong("server.agents_url", format!("begins with {scheme}, as the listener speaks"));
        }
    }
    if let Err(error) = config.server.proxies() {
        return wrong("server.trusted_proxies", error.to_string());
    }
    let security = &config.security;
    if security.requests_per_second > 0 && security.request_burst == 0 {
        return wrong("security.request_burst", "at least 1");
    }
    if security.anonymous_per_second > 0 && security.anonymous_burst == 0 {
        return wrong("security.anonymous_burst", "at least 1");
    }
    if config.audit.keep_days > 36_500 {
        return wrong("audit.keep_days", "0 to keep them for ever, or 1 to 36500");
    }
    if !(60..=600).contains(&config.security.access_token_s) {
        return wrong("security.access_token_s", "60 to 600");
    }
    Ok(())
}
