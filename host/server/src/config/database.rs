//! Which store, and how it is used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::secret::Secret;
use super::{Wrong, wrong};

/// Parameters of a PostgreSQL URL that are taken. Others are refused: the library would ignore them,
/// or take a password from them.
const PARAMETERS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "host"];
/// Values of `sslmode` that never fall back to plain text.
const SURE: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// `[database]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH` (a relative path is taken from the data directory) or
    /// `postgres://USER@HOST:PORT/DATABASE?sslmode=…`.
    pub url: Secret,
    /// PostgreSQL: the password, when the URL does not hold it.
    pub password: Option<Secret>,
    /// PostgreSQL: a file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: a PEM file with the authority that signed the server's certificate.
    pub root_certificate: Option<PathBuf>,
    /// PostgreSQL: connections this host holds at most.
    pub max_connections: u32,
    /// PostgreSQL: longest wait for a connection, a new one or a free one.
    pub connect_timeout_ms: u64,
    /// PostgreSQL: longest that one statement may run.
    pub statement_timeout_ms: u64,
    /// PostgreSQL: start although the server may lose what it said was committed.
    pub allow_unsafe_durability: bool,
    /// SQLite: connections that read.
    pub readers: u32,
    /// SQLite: longest wait for a lock that another program holds on the file.
    pub busy_timeout_ms: u64,
}

impl Default for Database {
    fn default() -> Database {
        Database {
            url: Secret::new("sqlite:viworks.db"),
            password: None,
            password_file: None,
            root_certificate: None,
            max_connections: 20,
            connect_timeout_ms: 2_000,
            statement_timeout_ms: 10_000,
            allow_unsafe_durability: false,
            readers: 4,
            busy_timeout_ms: 1_000,
        }
    }
}

/// The store that was chosen, with what it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Embedded.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Connections that read.
        readers: u32,
        /// Longest wait for a lock.
        busy_timeout: Duration,
    },
    /// A server.
    Postgres {
        /// With password and certificate, for the library.
        url: Secret,
        /// Without the password, for people.
        shown: String,
        /// Connections at most.
        connections: u32,
        /// Longest wait for one.
        connect_timeout: Duration,
        /// Longest statement.
        statement_timeout: Duration,
        /// Start although commits may be lost.
        allow_unsafe_durability: bool,
    },
}

impl Database {
    /// The store these settings choose; a relative path is taken from `data`.
    pub(super) fn store(&self, data: &Path) -> Result<Store, Wrong> {
        let url = self.url.reveal();
        if let Some(path) = url.strip_prefix("sqlite:") {
            return self.sqlite(data, path.trim_start_matches("//"));
        }
        match ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme)) {
            Some(rest) => self.postgres(rest),
            None => wrong("database.url", "expected sqlite:PATH or postgres://USER@HOST:PORT/DATABASE"),
        }
    }

    fn sqlite(&self, data: &Path, path: &str) -> Result<Store, Wrong> {
        if path.is_empty() || path.contains('?') {
            return wrong("database.url", "expected sqlite:PATH, the path of a file, without parameters");
        }
        let ours = [
            ("database.password", self.password.is_some()),
            ("database.password_file", self.password_file.is_some()),
            ("database.root_certificate", self.root_certificate.is_some()),
        ];
        if let Some((key, _)) = ours.into_iter().find(|(_, said)| *said) {
            return wrong(key, "is for PostgreSQL, and database.url names an SQLite file");
        }
        if !(1..=64).contains(&self.readers) {
            return wrong("database.readers", format!("{} is out of range: 1 to 64", self.readers));
        }
        Ok(Store::Sqlite {
            path: data.join(path),
            readers: self.readers,
            busy_timeout: span("database.busy_timeout_ms", self.busy_timeout_ms, 0, 60_000)?,
        })
    }

    fn postgres(&self, rest: &str) -> Result<Store, Wrong> {
        let parts = Parts::of(rest)?;
        if !(10..=50).contains(&self.max_connections) {
            return wrong("database.max_connections", format!("{} is out of range: 10 to 50", self.max_connections));
        }
        let password = self.the_password(&parts)?;
        let mut parameters: Vec<String> =
            parts.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if let Some(file) = &self.root_certificate {
            if parts.parameter("sslrootcert").is_some() {
                return wrong("database.root_certificate", "the URL has sslrootcert already; say it in one place");
            }
            if let Err(cause) = std::fs::metadata(file) {
                return wrong("database.root_certificate", format!("{} cannot be read: {cause}", file.display()));
            }
            parameters.push(format!("sslrootcert={}", escaped(&file.display().to_string())));
        }
        let tail = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let Parts { user, server, database, .. } = &parts;
        let secret = password.map(|password| format!(":{password}")).unwrap_or_default();
        Ok(Store::Postgres {
            url: Secret::new(format!("postgres://{user}{secret}@{server}/{database}{tail}")),
            shown: format!("postgres://{user}@{server}/{database}"),
            connections: self.max_connections,
            connect_timeout: span("database.connect_timeout_ms", self.connect_timeout_ms, 100, 60_000)?,
            statement_timeout: span("database.statement_timeout_ms", self.statement_timeout_ms, 100, 600_000)?,
            allow_unsafe_durability: self.allow_unsafe_durability,
        })
    }

    /// The password as a URL holds it, from the one place that has it.
    fn the_password(&self, parts: &Parts<'_>) -> Result<Option<String>, Wrong> {
        let mut found: Vec<String> = Vec::new();
        found.extend(parts.password.map(str::to_owned));
        found.extend(self.password.as_ref().map(|password| escaped(password.reveal())));
        if let Some(file) = &self.password_file {
            match std::fs::read_to_string(file) {
                Ok(text) => found.push(escaped(text.trim_end_matches(['\r', '\n']))),
                Err(cause) => {
                    return wrong("database.password_file", format!("{} cannot be read: {cause}", file.display()));
                }
            }
        }
        if found.len() > 1 {
            return wrong("database.password", "the password is said more than once: in the URL, here or in a file");
        }
        Ok(found.pop())
    }
}

/// A PostgreSQL URL after its scheme, escaped as it was.
struct Parts<'a> {
    user: &'a str,
    password: Option<&'a str>,
    server: &'a str,
    database: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    /// Nothing of what cannot be read is repeated: any of it might be the password.
    fn of(rest: &'a str) -> Result<Parts<'a>, Wrong> {
        if rest.contains('#') || rest.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return wrong("database.url", "holds #, a space or a control character; write # as %23 and a space as %20");
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before.split_once('/').unwrap_or((before, ""));
        let Some((login, server)) = authority.rsplit_once('@') else {
            let message = "expected postgres://USER@HOST:PORT/DATABASE; \
                           in a user or password write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25";
            return wrong("database.url", message);
        };
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        if user.is_empty() || server.is_empty() || database.is_empty() || database.contains(['/', '#', '@']) {
            return wrong("database.url", "expected postgres://USER@HOST:PORT/DATABASE, none of them empty");
        }
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(known) = PARAMETERS.into_iter().find(|known| *known == key) else {
                let message = format!("takes these parameters and no others: {}", PARAMETERS.join(", "));
                return wrong("database.url", message);
            };
            parameters.push((known, value));
        }
        let parts = Parts { user, password, server, database, parameters };
        parts.check_tls()?;
        Ok(parts)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Beyond this machine nothing falls back to plain text without a word.
    fn check_tls(&self) -> Result<(), Wrong> {
        let mode = self.parameter("sslmode").unwrap_or("prefer");
        if !SURE.contains(&mode) && !["disable", "allow", "prefer"].contains(&mode) {
            return wrong("database.url", "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full");
        }
        let decided = SURE.contains(&mode) || self.parameter("sslmode") == Some("disable");
        if decided || self.is_local() {
            return Ok(());
        }
        let message = "the server is on another machine, and this sslmode may fall back to plain text; \
                       say sslmode=verify-full, or sslmode=disable if the network is trusted";
        wrong("database.url", message)
    }

    fn is_local(&self) -> bool {
        let socket = |text: &str| text.starts_with('/') || text.to_lowercase().starts_with("%2f");
        let is_loopback = |name: &str| {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let name = match self.server.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => self.server,
        };
        let here = |text: &str| socket(text) || is_loopback(text);
        here(self.parameter("host").unwrap_or(name))
    }
}

fn span(key: &'static str, ms: u64, least: u64, most: u64) -> Result<Duration, Wrong> {
    if (least..=most).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    wrong(key, format!("{ms} is out of range: {least} to {most}"))
}

/// Text as a part of a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: &str) -> Database {
        Database { url: Secret::new(url), ..Database::default() }
    }

    fn chosen(database: &Database) -> Result<Store, (&'static str, String)> {
        database.store(Path::new("/data")).map_err(|wrong| (wrong.key, wrong.message))
    }

    #[track_caller]
    fn url_of(database: &Database) -> (String, String) {
        match chosen(database) {
            Ok(Store::Postgres { url, shown, .. }) => (url.reveal().to_owned(), shown),
            other => panic!("no PostgreSQL: {other:?}"),
        }
    }

    #[test]
    fn a_relative_file_is_taken_from_the_data_directory() {
        for (url, path) in [
            ("sqlite:viworks.db", "/data/viworks.db"),
            ("sqlite://viworks.db", "/data/viworks.db"),
            ("sqlite:/srv/viworks.db", "/srv/viworks.db"),
        ] {
            let Ok(Store::Sqlite { path: found, .. }) = chosen(&database(url)) else { panic!("{url}") };
            assert_eq!(found, Path::new(path));
        }
        for bad in ["sqlite:", "mysql://a@b/c", "viworks.db", "", "sqlite:x?mode=ro"] {
            assert_eq!(chosen(&database(bad)).expect_err(bad).0, "database.url");
        }
    }

    #[test]
    fn the_password_comes_from_one_place_and_is_never_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "p@ss/word\n").expect("written");
        let plain = database("postgres://ops@localhost:5433/viworks");
        assert_eq!(url_of(&plain).0, "postgres://ops@localhost:5433/viworks");
        let in_file = Database { password_file: Some(file.path().to_owned()), ..plain.clone() };
        let by_key = Database { password: Some(Secret::new("p@ss/word")), ..plain };
        let in_url = database("postgresql://ops:p%40ss%2Fword@localhost:5433/viworks");
        for database in [&in_file, &by_key, &in_url] {
            let (url, shown) = url_of(database);
            assert_eq!(url, "postgres://ops:p%40ss%2Fword@localhost:5433/viworks");
            assert_eq!(shown, "postgres://ops@localhost:5433/viworks");
            let debugged = format!("{database:?} {:?}", chosen(database));
            assert!(!debugged.contains("p%40ss") && !debugged.contains("p@ss"), "{debugged}");
        }
        let twice = Database { password: by_key.password.clone(), ..in_url };
        assert_eq!(chosen(&twice).expect_err("twice").0, "database.password");
        let nowhere = Database { password_file: Some("/nowhere/at/all".into()), ..by_key };
        let (key, message) = chosen(&nowhere).expect_err("no file");
        assert!(key == "database.password_file" && message.contains("/nowhere/at/all"), "{message}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_repeating_it() {
        for bad in [
            "postgres://localhost/viworks",
            "postgres://ops:hunter2/x@localhost/viworks",
            "postgres://ops:hunter2@localhost",
            "postgres://:hunter2@localhost/viworks",
            "postgres://ops:hunter2@/viworks",
            "postgres://ops@localhost/viworks?password=hunter2",
            "postgres://ops:hunter2@localhost/viworks?sslmode=hunter2",
            "postgres://ops:hunter2#@localhost/viworks",
        ] {
            match chosen(&database(bad)) {
                Ok(store) => assert!(!format!("{store:?}").contains("hunter2"), "{store:?}"),
                Err((key, message)) => assert!(key == "database.url" && !message.contains("hunter2"), "{message}"),
            }
        }
    }

    #[test]
    fn another_machine_is_spoken_to_with_tls_unless_it_is_said_otherwise() {
        for good in [
            "postgres://ops@127.0.0.1/db",
            "postgres://ops@[::1]:5432/db?sslmode=prefer",
            "postgres://ops@localhost/db?host=/run/postgresql",
            "postgres://ops@%2Frun%2Fpostgresql/db",
            "postgres://ops@db.internal/db?sslmode=verify-full",
            "postgres://ops@db.internal:5432/db?sslmode=disable",
        ] {
            assert!(chosen(&database(good)).is_ok(), "{good}");
        }
        for bad in [
            "postgres://ops@db.internal/db",
            "postgres://ops@10.0.0.5:5432/db?sslmode=prefer",
            "postgres://ops@localhost.evil.example/db?sslmode=allow",
            "postgres://ops@localhost/db?host=db.internal",
        ] {
            let (key, message) = chosen(&database(bad)).expect_err(bad);
            assert!(key == "database.url" && message.contains("sslmode"), "{message}");
        }
    }

    #[test]
    fn numbers_have_ranges_and_keys_their_store() {
        let postgres = database("postgres://ops@localhost/db");
        for (wrong, key) in [
            (Database { max_connections: 9, ..postgres.clone() }, "database.max_connections"),
            (Database { max_connections: 51, ..postgres.clone() }, "database.max_connections"),
            (Database { connect_timeout_ms: 0, ..postgres.clone() }, "database.connect_timeout_ms"),
            (Database { statement_timeout_ms: 0, ..postgres.clone() }, "database.statement_timeout_ms"),
            (Database { root_certificate: Some("/nowhere".into()), ..postgres.clone() }, "database.root_certificate"),
            (Database { readers: 0, ..Database::default() }, "database.readers"),
            (Database { busy_timeout_ms: 60_001, ..Database::default() }, "database.busy_timeout_ms"),
            (Database { password: Some(Secret::new("x")), ..Database::default() }, "database.password"),
        ] {
            assert_eq!(chosen(&wrong).expect_err(key).0, key);
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        let trusted = Database { root_certificate: Some(file.path().to_owned()), ..postgres };
        let (url, _) = url_of(&trusted);
        assert!(url.starts_with("postgres://ops@localhost/db?sslrootcert=%2F"), "{url}");
    }
}
