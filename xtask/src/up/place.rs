//! The data directory of one `up`: who may use it, which ports it had, what is written where.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::program::{root, say, write_whole};

/// One data directory, held by this process alone.
pub struct Place {
    root: PathBuf,
    /// What says where everything is, in the repository if nobody named another.
    state: PathBuf,
    dir: PathBuf,
    own: bool,
    /// Released when this process ends, however it ends.
    _lock: File,
}

impl Place {
    /// Takes `data` for this process, which tells nobody outside of it.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made.
    #[cfg(test)]
    pub fn open(data: &Path) -> anyhow::Result<Place> {
        Place::open_or(Some(data), Some(&data.join("state")), "local")
    }

    /// Takes `data`, or the folder `usual` of `state`, for this process. Where everything is stands in `state`, which
    /// is `.viworks` in the repository if it is not named.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made.
    pub fn open_or(data: Option<&Path>, state: Option<&Path>, usual: &str) -> anyhow::Result<Place> {
        let root = root();
        let absolute = |path: &Path| std::path::absolute(path).context("the current directory is gone");
        let state_is_named = state.is_some();
        let state = state.map_or_else(|| Ok(root.join(".viworks")), absolute)?;
        let dir = data.map_or_else(|| Ok(state.join(usual)), absolute)?;
        let make = |dir: &Path| {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.with_context(|| format!("{} cannot be made", dir.display()))
        };
        make(&state)?;
        for part in [dir.clone(), dir.join("plugins"), dir.join("agent"), dir.join("logs")] {
            make(&part)?;
        }
        let own = data.is_some() || state_is_named;
        let lock = File::create(dir.join("up.lock")).with_context(|| format!("{} cannot be locked", dir.display()))?;
        if lock.try_lock().is_err() {
            let known = if own { dir.join("up.json") } else { state.join("up.json") };
            bail!("another `cargo xtask up` uses {}; {} says where it is", dir.display(), known.display());
        }
        Ok(Place { root, state, dir, own, _lock: lock })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it was named with `--data`, or is of a state that was named.
    pub fn is_named(&self) -> bool {
        self.own
    }

    /// The folder the host watches.
    pub fn plugins(&self) -> PathBuf {
        self.dir.join("plugins")
    }

    /// The agent's identity and journal.
    pub fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// What the agent allows.
    pub fn agent_policy(&self) -> PathBuf {
        self.dir.join("policy.toml")
    }

    /// Contexts of the command line tool, when they are not kept in the usual place.
    pub fn contexts(&self) -> PathBuf {
        self.dir.join("contexts.toml")
    }

    /// The embedded store.
    pub fn sqlite_file(&self) -> PathBuf {
        self.dir.join("viworks.db")
    }

    /// The folder of a PostgreSQL of our own.
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The folder that says where everything is.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What the host wrote at its first start.
    pub fn admin_credential(&self) -> PathBuf {
        self.dir.join("admin.json")
    }

    /// The data directory of host `number`: the first one's is the directory itself.
    pub fn host_dir(&self, number: u8) -> PathBuf {
        if number == 1 { self.dir.clone() } else { self.dir.join(format!("host-{number}")) }
    }

    /// Its configuration.
    pub fn host_config(&self, number: u8) -> PathBuf {
        self.host_dir(number).join("host.toml")
    }

    /// Makes the data directory of another host, with the keys of the first, which must have made them.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn prepare_beside(&self, number: u8) -> anyhow::Result<()> {
        let (from, to) = (self.dir.join("keys"), self.host_dir(number).join("keys"));
        let copied = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
            for file in std::fs::read_dir(&from)? {
                let file = file?;
                std::fs::copy(file.path(), to.join(file.file_name()))?;
            }
            Ok(())
        };
        copied().with_context(|| format!("keys cannot be copied to {}", to.display()))
    }

    /// What `host` or `agent` prints.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// A path as somebody in the repository's root would write it.
    pub fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Writes a host's configuration, and takes away what an earlier one said of its ports.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn write_host_config(&self, number: u8, ports: Ports, servers: &Servers) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Config {
            server: Server,
            database: Url,
            #[serde(skip_serializing_if = "Option::is_none")]
            redis: Option<Url>,
            data: Dir,
            plugins: Plugins,
            logging: Logging,
        }
        #[derive(Serialize)]
        struct Server {
            bind: String,
            agents_bind: String,
        }
        #[derive(Serialize)]
        struct Url {
            url: String,
        }
        #[derive(Serialize)]
        struct Dir {
            dir: PathBuf,
        }
        #[derive(Serialize)]
        struct Plugins {
            dir: PathBuf,
            default_grants: &'static str,
        }
        #[derive(Serialize)]
        struct Logging {
            format: &'static str,
            level: &'static str,
        }
        let config = Config {
            server: Server {
                bind: format!("127.0.0.1:{}", ports.api),
                agents_bind: format!("127.0.0.1:{}", ports.agents),
            },
            database: Url { url: servers.database.clone() },
            redis: servers.redis.clone().map(|url| Url { url }),
            data: Dir { dir: self.host_dir(number) },
            plugins: Plugins { dir: self.plugins(), default_grants: "requested" },
            logging: Logging { format: "text", level: "info" },
        };
        let text = toml::to_string(&config).context("the host's configuration is no TOML")?;
        let listening = self.host_dir(number).join("listening.json");
        if listening.exists() {
            std::fs::remove_file(&listening).with_context(|| format!("{} cannot be removed", listening.display()))?;
        }
        write_whole(&self.host_config(number), &format!("# Written by `cargo xtask up` at every start.\n{text}"))
    }

    /// Where a host says it listens, once it does.
    pub fn listening(&self, number: u8) -> Option<Ports> {
        let text = std::fs::read_to_string(self.host_dir(number).join("listening.json")).ok()?;
        let said: Value = serde_json::from_str(&text).ok()?;
        let port = |key: &str| said[key].as_str()?.rsplit_once(':')?.1.parse().ok();
        Some(Ports { api: port("api")?, agents: port("agents")? })
    }

    /// Tells scripts that everything is ready.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn publish(&self, facts: &Value) -> anyhow::Result<()> {
        let text = format!("{facts:#}\n");
        for path in self.announcements() {
            write_whole(&path, &text)?;
        }
        Ok(())
    }

    /// Takes back what [`publish`](Self::publish) told, unless somebody else told something since.
    pub fn withdraw(&self) {
        let ours = self.shown(&self.dir).display().to_string();
        for path in self.announcements() {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let told: Value = serde_json::from_str(&text).unwrap_or_default();
            if told["data_dir"] == *ours {
                // Gone already is what was wanted.
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    fn announcements(&self) -> Vec<PathBuf> {
        let everywhere = self.state.join("up.json");
        if self.own { vec![self.dir.join("up.json"), everywhere] } else { vec![everywhere] }
    }
}

/// What hosts work with.
pub struct Servers {
    /// Their `database.url`.
    pub database: String,
    /// Their `redis.url`.
    pub redis: Option<String>,
}

/// A host's two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Of the API.
    pub api: u16,
    /// Of the agents' listener.
    pub agents: u16,
}

impl Ports {
    const DEFAULT: Ports = Ports { api: 8080, agents: 9090 };
    /// Any free ones.
    pub const ANY: Ports = Ports { api: 0, agents: 0 };

    /// The ports asked for, else those of the last time, else the usual ones; taken ones are replaced
    /// by free ones unless somebody asked for them.
    ///
    /// # Errors
    /// When a port that was asked for is taken.
    pub fn choose(place: &Place, api: Option<u16>, agents: Option<u16>) -> anyhow::Result<Ports> {
        let text = std::fs::read_to_string(place.dir.join("ports.json")).unwrap_or_default();
        let last: Ports = serde_json::from_str(&text).unwrap_or(Ports::DEFAULT);
        Ok(Ports { api: free("--api-port", api, last.api)?, agents: free("--agent-port", agents, last.agents)? })
    }

    /// Keeps them for the next time.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn remember(self, place: &Place) -> anyhow::Result<()> {
        write_whole(&place.dir.join("ports.json"), &format!("{}\n", serde_json::to_string(&self)?))
    }
}

fn free(flag: &str, asked: Option<u16>, usual: u16) -> anyhow::Result<u16> {
    let wanted = asked.unwrap_or(usual);
    if wanted == 0 || TcpListener::bind(("127.0.0.1", wanted)).is_ok() {
        return Ok(wanted);
    }
    if asked.is_some() {
        bail!("port {wanted} is taken: name another one with {flag}, or 0 for any free one");
    }
    say(format_args!("      port {wanted} is taken; any free one will do"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_unless_it_was_asked_for() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert_eq!(free("--api-port", None, port).expect("another"), 0);
        let error = free("--api-port", Some(port), 1).expect_err("taken").to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--api-port"), "{error}");
        assert_eq!(free("--api-port", Some(0), port).expect("any"), 0);
    }

    #[test]
    fn a_directory_serves_one_process_and_what_it_told_is_taken_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let place = Place::open(dir.path()).expect("taken");
        let error = Place::open(dir.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("another `cargo xtask up` uses"), "{error}");
        let told = dir.path().join("up.json");
        std::fs::write(&told, serde_json::json!({ "data_dir": dir.path() }).to_string()).expect("written");
        place.withdraw();
        assert!(!told.exists());
        drop(place);
        assert!(Place::open(dir.path()).is_ok());
        // With a state alone, all is kept in it, and the repository's folder is told nothing.
        let place = Place::open_or(None, Some(dir.path()), "usual").expect("taken");
        assert_eq!((place.dir(), place.is_named()), (&*dir.path().join("usual"), true));
        assert_eq!(place.announcements(), [dir.path().join("usual/up.json"), dir.path().join("up.json")]);
        let place = Place::open_or(Some(&dir.path().join("data")), Some(dir.path()), "usual").expect("taken");
        assert_eq!(place.announcements(), [dir.path().join("data/up.json"), dir.path().join("up.json")]);
    }

    #[test]
    fn the_host_is_told_everything_in_toml() {
        let dir = tempfile::tempdir().expect("temp dir");
        let place = Place::open(dir.path()).expect("taken");
        std::fs::write(dir.path().join("listening.json"), "{\"api\":\"127.0.0.1:1\",\"agents\":\"127.0.0.1:2\"}")
            .expect("written");
        assert_eq!(place.listening(1), Some(Ports { api: 1, agents: 2 }));
        let servers = Servers { database: "sqlite:/x.db".to_owned(), redis: None };
        place.write_host_config(1, Ports { api: 0, agents: 9 }, &servers).expect("written");
        assert_eq!(place.listening(1), None, "what an earlier host said is gone");
        let read = |number| std::fs::read_to_string(place.host_config(number)).expect("read");
        let config: toml::Table = read(1).parse().expect("TOML");
        assert!(!config.contains_key("redis"));
        assert_eq!(config["server"]["bind"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(config["database"]["url"].as_str(), Some("sqlite:/x.db"));
        assert_eq!(config["plugins"]["default_grants"].as_str(), Some("requested"));
        std::fs::create_dir(dir.path().join("keys")).expect("made");
        std::fs::write(dir.path().join("keys/cluster.key"), "k").expect("written");
        place.prepare_beside(2).expect("made");
        let servers = Servers { redis: Some("redis://127.0.0.1:1/".to_owned()), ..servers };
        place.write_host_config(2, Ports::ANY, &servers).expect("written");
        let config: toml::Table = read(2).parse().expect("TOML");
        assert_eq!(config["redis"]["url"].as_str(), Some("redis://127.0.0.1:1/"));
        let data = config["data"]["dir"].as_str().expect("a folder");
        assert_eq!(std::fs::read_to_string(std::path::Path::new(data).join("keys/cluster.key")).expect("copied"), "k");
    }
}
