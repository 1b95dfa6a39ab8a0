//! Configuration: defaults, then a TOML file, then `VIWORKS__SECTION__KEY` from the environment, then
//! flags. Parsed once; nobody else reads the environment. Every error names the place it comes from:
//! file and line, or the variable.

mod auth;
mod database;
mod host;
mod redis;
mod secret;
mod source;
mod tls;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use self::tls::{AgentCertificates, Tls};
pub use auth::{Algorithm, Auth, Oidc};
pub use database::{Database, Store};
pub use host::{Audit, Data, LogFormat, Logging, Security, Server};
pub use redis::Redis;
pub use secret::Secret;
use source::Source;
pub use work::{AgentManagement, Approval, Command, DefaultGrants, Notifications, Plugins, Signatures, Telemetry};

/// Everything that can be configured. `config/viworks-host.toml` explains each key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listeners.
    pub server: Server,
    /// The certificate of both.
    pub tls: Tls,
    /// The store.
    pub database: Database,
    /// How hosts call each other.
    pub redis: Redis,
    /// Keys and credentials on disk.
    pub data: Data,
    /// The plugin folder.
    pub plugins: Plugins,
    /// Who may ask and how.
    pub security: Security,
    /// Whose tokens count.
    pub auth: Auth,
    /// Agents and their sessions.
    pub agent_management: AgentManagement,
    /// Commands.
    pub command: Command,
    /// Telemetry.
    pub telemetry: Telemetry,
    /// Telling people of alerts.
    pub notifications: Notifications,
    /// The audit log.
    pub audit: Audit,
    /// Logs.
    pub logging: Logging,
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
    #[error("{place}: {key}: {message}")]
    Invalid {
        /// File and line, the environment variable, or what else decides it.
        place: String,
        /// The key, e.g. `server.bind`.
        key: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// A value that cannot work, before anybody looked where it was said.
struct Wrong {
    key: &'static str,
    message: String,
}

fn wrong<T>(key: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { key, message: message.into() })
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
        let source = Source::read(file, env)?;
        let mut config = source.parse()?;
        flags(&mut config);
        match config.check() {
            Ok(()) => Ok(config),
            Err(Wrong { key, message }) => {
                let place = source.place(key).unwrap_or_else(|| "flags and defaults".to_owned());
                Err(ConfigError::Invalid { place, key, message })
            }
        }
    }

    fn check(&self) -> Result<(), Wrong> {
        host::check(self)?;
        auth::check(self)?;
        self::tls::check(self)?;
        let store = self.database.store(&self.data.dir)?;
        self.redis.check(&store)?;
        work::check(self)
    }

    /// Where plugins are dropped.
    pub fn plugin_dir(&self) -> PathBuf {
        self.plugins.dir.clone().unwrap_or_else(|| self.data.dir.join("plugins"))
    }

    /// The store that was chosen. A password file is read anew, so that it may have been exchanged.
    ///
    /// # Errors
    /// A file that was there when the configuration was checked is not any more.
    pub fn store(&self) -> Result<Store, ConfigError> {
        let placed = |Wrong { key, message }| ConfigError::Invalid { place: "configuration".to_owned(), key, message };
        self.database.store(&self.data.dir).map_err(placed)
    }

    /// How long a balancer has to notice that this host leaves.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.server.drain_ms)
    }

    /// How long a graceful stop may take.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.server.shutdown_timeout_ms)
    }
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

    #[track_caller]
    fn refused(text: &str, env: &[(&str, &str)]) -> String {
        load(text, env).expect_err("refused").to_string()
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
    fn the_production_example_is_taken_as_it_stands_once_its_files_are_there() {
        let folder = tempfile::tempdir().expect("temp dir");
        let made = rcgen::generate_simple_self_signed(["viworks.example.com".to_owned()]).expect("a certificate");
        let key = made.signing_key.serialize_pem();
        let certificate = made.cert.pem();
        for (name, text) in
            [("host.crt", &*certificate), ("host.key", &*key), ("database-ca.pem", &*certificate), ("trust.toml", "")]
        {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, private).expect("private");
        }
        let text = include_str!("../../../config/viworks-host.production.toml");
        let text = text.replace("/etc/viworks/", &format!("{}/", folder.path().display()));
        let secrets =
            [("VIWORKS__DATABASE__PASSWORD", "p"), ("VIWORKS__REDIS__URL", "rediss://viworks:p@redis.internal:6379/0")];
        let config = load(&text, &secrets).expect("valid");
        assert!(config.tls.is_on() && config.redis.url.is_some() && config.drain() > Duration::ZERO);
    }

    #[test]
    fn an_unknown_key_names_file_and_line() {
        let error = refused("[server]\n\nbnid = \"127.0.0.1:1\"\n", &[]);
        assert!(error.contains("host.toml:3") && error.contains("bnid"), "{error}");
        let error = refused("", &[("VIWORKS__SERVER__BNID", "1")]);
        assert!(error.contains("VIWORKS__SERVER__BNID") && error.contains("bnid"), "{error}");
    }

    #[test]
    fn a_value_that_cannot_work_names_its_place_too() {
        let file = "[database]\n# the store\nurl = \"mysql://a@b/c\"\n";
        let error = refused(file, &[]);
        assert!(error.contains("host.toml:3: database.url: expected sqlite:PATH or postgres://"), "{error}");
        let error = refused("[command]\n\n\nagent_concurrency = 0\n", &[]);
        assert!(error.contains("host.toml:4: command.agent_concurrency: 1 to 1000"), "{error}");
        let error = refused("[telemetry]\njitter_pct = 51\n", &[]);
        assert!(error.contains("host.toml:2: telemetry.jitter_pct: 0 to 50"), "{error}");
        let error = refused("", &[("VIWORKS__DATABASE__URL", "mysql://a@b/c")]);
        assert!(error.starts_with("environment variable VIWORKS__DATABASE__URL: database.url: "), "{error}");
    }

    #[test]
    fn a_trust_file_is_read_before_anything_starts() {
        let error = refused("[plugins]\nsignatures = \"enforce\"\n", &[]);
        assert!(error.contains("host.toml:2: plugins.signatures: needs plugins.trust_file"), "{error}");
        let dir = tempfile::tempdir().expect("temp dir");
        let trust = dir.path().join("trust.toml");
        let text = format!("[plugins]\nsignatures = \"enforce\"\ntrust_file = {:?}\n", trust.display().to_string());
        let error = refused(&text, &[]);
        assert!(error.contains("host.toml:3: plugins.trust_file: ") && error.contains("cannot be read"), "{error}");
        std::fs::write(&trust, "[deny]\n\nsigners = [\"nobody\"]\n").expect("written");
        let error = refused(&text, &[]);
        assert!(error.contains("trust.toml:3: expected the name of a key"), "{error}");
        std::fs::write(&trust, "").expect("written");
        assert_eq!(load(&text, &[]).expect("valid").plugins.signatures, Signatures::Enforce);
        let error = refused("[plugins]\nsignatures = \"on\"\n", &[]);
        assert!(error.contains("host.toml:2") && error.contains("`off`, `warn`, `enforce`"), "{error}");
    }

    #[test]
    fn a_password_comes_from_the_environment_whatever_it_looks_like_and_is_not_shown() {
        let url = "[database]\nurl = \"postgres://ops@localhost/viworks\"\n";
        for password in ["4711", "true", "hunter2", "[1]", "a\"b"] {
            let config = load(url, &[("VIWORKS__DATABASE__PASSWORD", password)]).expect(password);
            assert_eq!(config.database.password, Some(Secret::new(password)));
            let debugged = format!("{config:?}");
            assert!(
                !debugged.contains(&format!("{password:?}")) && debugged.contains("password: Some(…)"),
                "{debugged}"
            );
        }
        let error = refused("[database]\nurl = 4711\n", &[]);
        assert!(error.contains("host.toml:2") && !error.contains("4711"), "{error}");
        let twice = "[database]\nurl = \"postgres://ops:hunter2@localhost/viworks\"\n";
        let error = refused(twice, &[("VIWORKS__DATABASE__PASSWORD", "hunter3")]);
        assert!(error.contains("database.password") && !error.contains("hunter"), "{error}");
    }

    #[test]
    fn listening_to_the_world_without_tls_is_refused_unless_told() {
        let error = refused("[server]\nbind = \"0.0.0.0:80\"\n", &[]);
        assert!(error.contains("insecure_plaintext"), "{error}");
        assert!(load("[server]\nbind = \"0.0.0.0:80\"\ninsecure_plaintext = true\n", &[]).is_ok());
        let anywhere = "[server]\nagents_bind = \"0.0.0.0:90\"\ninsecure_plaintext = true\n";
        let error = refused(anywhere, &[]);
        assert!(error.contains("agents_url"), "{error}");
        assert!(load(&format!("{anywhere}agents_url = \"ws://ops:90/ws/agent\"\n"), &[]).is_ok());
    }
}
