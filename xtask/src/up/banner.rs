//! What `up` says when everything is ready, to people and to scripts.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::Identity;
use super::cli::Login;
use super::database::Database;
use super::place::{Place, Ports};

/// One host: where it listens, and its process id.
#[derive(Clone, Copy, Debug)]
pub struct Hosted {
    /// Where it listens.
    pub ports: Ports,
    /// Its process.
    pub pid: u32,
}

/// What there is.
pub struct Facts<'a> {
    /// The first host.
    pub host: Hosted,
    /// Those beside it.
    pub beside: &'a [Hosted],
    /// The agent.
    pub identity: &'a Identity,
    /// Its process.
    pub agent: u32,
    /// Where the programs are.
    pub bin_dir: &'a Path,
    /// How the tool was logged in.
    pub login: &'a Login,
    /// Where rows are kept.
    pub database: &'a Database,
    /// By what hosts call each other.
    pub redis: Option<&'a str>,
}

/// The facts for scripts.
pub fn up_json(place: &Place, facts: &Facts<'_>) -> Value {
    let Facts { host, beside, identity, agent, bin_dir, login: _, database, redis } = facts;
    let api = |ports: Ports| format!("http://127.0.0.1:{}", ports.api);
    let agents = |ports: Ports| format!("ws://127.0.0.1:{}/ws/agent", ports.agents);
    let beside =
        beside.iter().map(|Hosted { ports, pid }| json!({ "api": api(*ports), "agents": agents(*ports), "pid": pid }));
    json!({
        "api": api(host.ports),
        "agents": agents(host.ports),
        "hosts_beside": beside.collect::<Vec<_>>(),
        "dashboard": null,
        "admin_credential": place.shown(&place.admin_credential()),
        "plugin_dir": place.shown(&place.plugins()),
        "store": database.name(),
        "redis": redis,
        "data_dir": place.shown(place.dir()),
        "agent": { "id": identity.id, "name": identity.name },
        "pids": { "host": host.pid, "agent": agent },
        "bin_dir": place.shown(bin_dir),
    })
}

/// The facts for people.
pub fn text(place: &Place, facts: &Facts<'_>, took: Duration) -> String {
    let Facts { host, beside, identity, agent, bin_dir, login, database, redis } = facts;
    let shown = |path: &Path| quoted(&place.shown(path).display().to_string());
    let tool = shown(&bin_dir.join("viworks"));
    let prefix = login.contexts.as_ref().map(|path| format!("VIWORKS_CONFIG={} ", shown(path))).unwrap_or_default();
    let login_line = match &login.contexts {
        None => "context `local-up` of your command line tool".to_owned(),
        Some(path) => format!("{}: your own contexts stay as they are", place.shown(path).display()),
    };
    let mut text = String::new();
    let api = |host: &Hosted| format!("http://127.0.0.1:{} (host, process {})", host.ports.api, host.pid);
    let mut rows = vec![("API", api(host))];
    rows.extend(beside.iter().map(|host| ("", api(host))));
    rows.extend([
        (
            "Agents",
            format!("ws://127.0.0.1:{}/ws/agent (agent `{}`, process {agent})", host.ports.agents, identity.name),
        ),
        (
            "Admin",
            format!("{} is the body of POST /api/v1/auth/login", place.shown(&place.admin_credential()).display()),
        ),
        ("Login", login_line),
        ("Store", database.describe(place)),
    ]);
    rows.extend(redis.map(|url| ("Redis", url.to_owned())));
    rows.extend([
        ("Plugins", format!("{} (drop a .wasm file there)", place.shown(&place.plugins()).display())),
        ("Policy", format!("{} (what the agent may run)", place.shown(&place.agent_policy()).display())),
        ("Logs", place.shown(&place.dir().join("logs")).display().to_string()),
    ]);
    let _ = writeln!(text, "\nViWorkS for development: loopback only, no TLS, not for production\n");
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<8} {value}");
    }
    let _ = writeln!(text, "\nTry in another terminal, in the repository's root:\n");
    for command in commands(&identity.name) {
        let _ = writeln!(text, "  {prefix}{tool} {command}");
    }
    let _ = writeln!(text, "\nready in {:.1} s – Ctrl-C to stop", took.as_secs_f64());
    text
}

/// What a newcomer would try first.
fn commands(agent: &str) -> [String; 3] {
    ["agent list".to_owned(), "verb list".to_owned(), format!("run exec.run -a {agent} -- uname -a")]
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_ready_and_commands_name_the_contexts_they_need() {
        let dir = tempfile::tempdir().expect("temp dir");
        let place = Place::open(&dir.path().join("with space")).expect("taken");
        let identity = Identity { id: "i".into(), name: "local-2".into() };
        let login = Login { contexts: Some(place.contexts()) };
        let bin = crate::program::root().join("target/debug");
        let facts = Facts {
            host: Hosted { ports: Ports { api: 1, agents: 2 }, pid: 3 },
            beside: &[Hosted { ports: Ports { api: 5, agents: 6 }, pid: 7 }],
            identity: &identity,
            agent: 4,
            bin_dir: &bin,
            login: &login,
            database: &Database::Sqlite,
            redis: Some("redis://127.0.0.1:8/"),
        };
        let text = text(&place, &facts, Duration::from_millis(1234));
        assert!(text.ends_with("\nready in 1.2 s – Ctrl-C to stop\n"), "{text}");
        let store = text.lines().find(|line| line.contains("Store")).expect("which store");
        assert!(store.contains("SQLite, /") && store.ends_with("/with space/viworks.db"), "{store}");
        let run = text.lines().find(|line| line.contains(" run ")).expect("a command");
        assert!(
            run.starts_with("  VIWORKS_CONFIG='/")
                && run.ends_with("target/debug/viworks run exec.run -a local-2 -- uname -a"),
            "{run}"
        );
        assert!(
            text.contains("http://127.0.0.1:5 (host, process 7)") && text.contains("redis://127.0.0.1:8/"),
            "{text}"
        );
        let facts = up_json(&place, &facts);
        assert_eq!(
            (&facts["api"], &facts["hosts_beside"][0]["api"]),
            (&json!("http://127.0.0.1:1"), &json!("http://127.0.0.1:5"))
        );
        assert_eq!(facts["store"], "sqlite");
        assert_eq!(
            (&facts["bin_dir"], &facts["dashboard"], &facts["pids"]["agent"]),
            (&json!("target/debug"), &Value::Null, &json!(4))
        );
    }
}
