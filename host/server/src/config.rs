//! Configuration: defaults, then a TOML file, then `VIWORKS__SECTION__KEY` from the environment, then
//! flags. Parsed once; nobody else reads the environment. An unknown key is an error that names
//! file and line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Prefix of environment overrides, e.g. `VIWORKS__SERVER__BIND`.
const ENV_PREFIX: &str = "VIWORKS__";

/// Everything that can be configured. `config/viworks-host.toml` explains each key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listeners.
    pub server: Server,
    /// The store.
    pub database: Database,
    /// Keys and credentials on disk.
    pub data: Data,
    /// The plugin folder.
    pub plugins: Plugins,
    /// Who may ask and how.
    pub security: Security,
    /// Agents and their sessions.
    pub agent_management: AgentManagement,
    /// Commands.
    pub command: Command,
    /// Telemetry.
    pub telemetry: Telemetry,
    /// Logs.
    pub logging: Logging,
}

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

/// `[database]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH`. A relative path is taken from the data directory.
    pub url: String,
}

impl Default for Database {
    fn default() -> Database {
        Database { url: "sqlite:viworks.db".to_owned() }
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

/// `[plugins]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// The folder that is watched; `plugins` in the data directory when absent.
    pub dir: Option<PathBuf>,
    /// What a plugin without an operator's file may plan: `none`, or what it `requested`.
    pub default_grants: DefaultGrants,
    /// Threads that run plugins; 0 = one for each core.
    pub threads: usize,
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins { dir: None, default_grants: DefaultGrants::None, threads: 0 }
    }
}

/// What a plugin without an operator's file may plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultGrants {
    /// Nothing, until approved.
    None,
    /// What its manifest requests.
    Requested,
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

/// `[agent_management]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentManagement {
    /// Sessions this host holds at once.
    pub max_agents: usize,
    /// Sockets that have not said HELLO yet.
    pub max_unauthenticated: usize,
    /// Between an agent's heartbeats.
    pub heartbeat_ms: u64,
    /// Without a session for this long, what an agent had is lost.
    pub lost_after_ms: u64,
}

impl Default for AgentManagement {
    fn default() -> AgentManagement {
        AgentManagement { max_agents: 20_000, max_unauthenticated: 256, heartbeat_ms: 15_000, lost_after_ms: 900_000 }
    }
}

/// `[command]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// Attempts one agent runs at once.
    pub agent_concurrency: u32,
}

impl Default for Command {
    fn default() -> Command {
        Command { agent_concurrency: 4 }
    }
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Between an agent's samples; 0 = none.
    pub interval_ms: u64,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { interval_ms: 30_000 }
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

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("{path}: cannot be read: {cause}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{place}: {message}")]
    Parse {
        /// File and line, or the environment variable.
        place: String,
        /// What is wrong there and what would be right.
        message: String,
    },
    /// A value that fits its key but cannot work.
    #[error("{key}: {message}")]
    Invalid {
        /// The key, e.g. `server.bind`.
        key: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl Config {
    /// Reads `file` if there is one, then the overrides in `env`, then those of `flags`, and checks
    /// the whole.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: impl FnOnce(&mut Config),
    ) -> Result<Config, ConfigError> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| ConfigError::Read { path: path.display().to_string(), cause })?;
                parse_file(path, &text)?
            }
        };
        let overrides: BTreeMap<String, String> =
            env.into_iter().filter(|(key, _)| key.starts_with(ENV_PREFIX)).collect();
        for (name, value) in overrides {
            apply(&mut table, &name, &value)?;
        }
        let mut config: Config = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            ConfigError::Parse { place: "environment".into(), message: error.message().to_owned() }
        })?;
        flags(&mut config);
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key, message: &str| Err(ConfigError::Invalid { key, message: message.to_owned() });
        if !self.database.url.starts_with("sqlite:") {
            return invalid("database.url", "this version speaks `sqlite:PATH`");
        }
        let exposed = |address: SocketAddr| !address.ip().is_loopback() && !self.server.insecure_plaintext;
        if exposed(self.server.bind) || exposed(self.server.agents_bind) {
            let message = "listening beyond loopback without TLS would send tokens in the clear; \
                           put a TLS proxy in front, or set server.insecure_plaintext = true (--insecure-plaintext)";
            return invalid("server.bind", message);
        }
        if self.server.agents_bind.ip().is_unspecified() && self.server.agents_url.is_none() {
            return invalid(
                "server.agents_url",
                "agents cannot connect to an unspecified address; say ws://NAME:PORT/ws/agent",
            );
        }
        if self.server.max_connections == 0 || self.agent_management.max_agents == 0 {
            return invalid("server.max_connections", "and agent_management.max_agents: at least 1");
        }
        if self.agent_management.max_unauthenticated == 0 {
            return invalid("agent_management.max_unauthenticated", "at least 1");
        }
        if self.telemetry.interval_ms != 0 && self.telemetry.interval_ms < 1_000 {
            return invalid("telemetry.interval_ms", "0 for none, else at least 1000");
        }
        if self.command.agent_concurrency == 0 || self.command.agent_concurrency > 1_000 {
            return invalid("command.agent_concurrency", "1 to 1000");
        }
        if !(1_000..=300_000).contains(&self.agent_management.heartbeat_ms) {
            return invalid("agent_management.heartbeat_ms", "1000 to 300000");
        }
        if !(60..=600).contains(&self.security.access_token_s) {
            return invalid("security.access_token_s", "60 to 600");
        }
        Ok(())
    }

    /// Where plugins are dropped.
    pub fn plugin_dir(&self) -> PathBuf {
        self.plugins.dir.clone().unwrap_or_else(|| self.data.dir.join("plugins"))
    }

    /// Where the embedded store is.
    pub fn sqlite_path(&self) -> PathBuf {
        let path = self.database.url.trim_start_matches("sqlite:").trim_start_matches("//");
        self.data.dir.join(path)
    }

    /// How long a graceful stop may take.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.server.shutdown_timeout_ms)
    }
}

/// Reads the file alone first, so that errors carry its lines.
fn parse_file(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let located = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ConfigError::Parse { place: format!("{}:{line}", path.display()), message: error.message().to_owned() }
    };
    toml::from_str::<Config>(text).map_err(located)?;
    toml::from_str(text).map_err(located)
}

/// `VIWORKS__SERVER__BIND=…` sets `server.bind`.
fn apply(table: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let path = name.trim_start_matches(ENV_PREFIX).to_lowercase();
    let parse = |message: String| ConfigError::Parse { place: format!("environment variable {name}"), message };
    let Some((section, key)) = path.split_once("__") else {
        return Err(parse("expected VIWORKS__SECTION__KEY".to_owned()));
    };
    // What reads as a TOML value is one; anything else is text.
    let parsed: toml::Value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut wrapped| wrapped.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let Some(section) = section.as_table_mut() else { return Err(parse("its section is no table".to_owned())) };
    section.insert(key.to_owned(), parsed);
    let alone = toml::Value::Table(table.clone());
    let checked: Result<Config, toml::de::Error> = alone.try_into();
    checked.map(|_| ()).map_err(|error| parse(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("host.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), |_| ())
    }

    #[test]
    fn file_then_environment() {
        let config = load(
            "[server]\nbind = \"127.0.0.1:1\"\n",
            &[("VIWORKS__SERVER__AGENTS_BIND", "127.0.0.1:2"), ("HOME", "/")],
        );
        let config = config.expect("valid");
        assert_eq!((config.server.bind.port(), config.server.agents_bind.port()), (1, 2));
    }

    #[test]
    fn the_commented_example_says_the_defaults() {
        let example = load(include_str!("../../../config/viworks-host.toml"), &[]).expect("valid");
        assert_eq!(example, Config::default());
    }

    #[test]
    fn an_unknown_key_names_file_and_line() {
        let error = load("[server]\n\nbnid = \"127.0.0.1:1\"\n", &[]).expect_err("unknown key").to_string();
        assert!(error.contains("host.toml:3") && error.contains("bnid"), "{error}");
        let error = load("", &[("VIWORKS__SERVER__BNID", "1")]).expect_err("unknown key").to_string();
        assert!(error.contains("VIWORKS__SERVER__BNID") && error.contains("bnid"), "{error}");
    }

    #[test]
    fn listening_to_the_world_without_tls_is_refused_unless_told() {
        let error = load("[server]\nbind = \"0.0.0.0:80\"\n", &[]).expect_err("refused").to_string();
        assert!(error.contains("insecure_plaintext"), "{error}");
        assert!(load("[server]\nbind = \"0.0.0.0:80\"\ninsecure_plaintext = true\n", &[]).is_ok());
        let anywhere = "[server]\nagents_bind = \"0.0.0.0:90\"\ninsecure_plaintext = true\n";
        let error = load(anywhere, &[]).expect_err("agents need a name to dial").to_string();
        assert!(error.contains("agents_url"), "{error}");
        assert!(load(&format!("{anywhere}agents_url = \"ws://ops:90/ws/agent\"\n"), &[]).is_ok());
    }
}
