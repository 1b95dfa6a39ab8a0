//! Where a host and an agent for trying things out keep everything, and what is written there for them.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;

/// Programs that do no harm, and the container tools; the policy lists those that are here.
const PROGRAMS: [&str; 10] =
    ["uname", "uptime", "df", "date", "sleep", "echo", "cat", "false", "docker", "docker-compose"];
/// Where plugins lie beside this program, built or installed.
const BUILT_IN: [&str; 3] = ["plugins", "../plugins", "../share/viworks/plugins"];

/// One folder, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    plugins: PathBuf,
    keep: bool,
}

impl Place {
    /// A new folder among the temporary ones, private to this user.
    pub(super) fn make(plugins: Option<&Path>, keep: bool) -> Result<Place, Failure> {
        let dir = std::env::temp_dir().join(format!("viworks-dev-{:016x}", rand::random::<u64>()));
        let fail = |error: std::io::Error| cannot(&dir, &error);
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&dir).map_err(fail)?;
        let own = dir.join("plugins");
        let place = match plugins {
            Some(folder) => {
                let folder = std::fs::canonicalize(folder).map_err(|error| cannot(folder, &error))?;
                Place { dir, plugins: folder, keep }
            }
            None => {
                builder.create(&own).map_err(fail)?;
                let place = Place { dir, plugins: own, keep };
                place.copy_built_in()?;
                place
            }
        };
        Ok(place)
    }

    fn copy_built_in(&self) -> Result<(), Failure> {
        let beside = beside()?;
        let Some(folder) = BUILT_IN.iter().map(|name| beside.join(name)).find(|folder| folder.is_dir()) else {
            return Ok(());
        };
        for name in wasm_files(&folder) {
            let (from, to) = (folder.join(&name), self.plugins.join(&name));
            std::fs::copy(&from, &to).map_err(|error| cannot(&from, &error))?;
        }
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// Names of the plugin files there are.
    pub(super) fn plugin_files(&self) -> Vec<String> {
        wasm_files(&self.plugins)
    }

    pub(super) fn host_config(&self) -> PathBuf {
        self.dir.join("host.toml")
    }

    pub(super) fn contexts(&self) -> PathBuf {
        self.dir.join("contexts.toml")
    }

    pub(super) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub(super) fn policy(&self) -> PathBuf {
        self.dir.join("policy.toml")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The first administrator's credential, which the host writes.
    pub(super) fn credential(&self) -> PathBuf {
        self.data().join("admin.json")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("host")
    }

    /// A program of the same installation.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = beside()?.join(name);
        if path.is_file() {
            return Ok(path);
        }
        let message = format!("{} is missing: `viworks dev` starts the programs beside itself", path.display());
        Err(Failure::new(Exit::Error, message))
    }

    /// What the host is told.
    pub(super) fn write_host_config(&self, port: u16) -> Result<(), Failure> {
        let text = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
        let config = format!(
            "[server]\nbind = \"127.0.0.1:{port}\"\nagents_bind = \"127.0.0.1:0\"\n\
             [database]\nurl = \"sqlite:viworks.db\"\n[data]\ndir = {}\n\
             [plugins]\ndir = {}\ndefault_grants = \"requested\"\n",
            text(&self.data()),
            text(&self.plugins)
        );
        write_private(&self.host_config(), &config)
    }

    /// The addresses of the API and of the agents' door, when the host has said them.
    pub(super) fn listening(&self) -> Option<(String, String)> {
        let text = std::fs::read_to_string(self.data().join("listening.json")).ok()?;
        let said: Value = serde_json::from_str(&text).ok()?;
        self.credential().is_file().then_some((said["api"].as_str()?.to_owned(), said["agents"].as_str()?.to_owned()))
    }

    /// What the agent allows: programs that do no harm.
    pub(super) fn write_policy(&self) -> Result<(), Failure> {
        let mut text = String::from("effects = [\"read\", \"change\", \"destroy\", \"host\"]\n");
        for name in PROGRAMS {
            let found =
                ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| is_safe(path));
            let Some(path) = found else { continue };
            text += &format!("\n[programs.{name}]\npath = {}\n", toml::Value::from(path.display().to_string()));
            match name {
                "cat" => text += "stdin = true\n",
                // What docker.build, docker.exec and compose.up give besides arguments.
                "docker" | "docker-compose" => text += "stdin = true\nenv = [\"DOCKER_BUILDKIT\", \"VIWORKS_VAR_*\"]\n",
                _ => {}
            }
        }
        write_private(&self.policy(), &text)
    }

    /// Ends the agent's supervisor, which would outlive the agent for a minute.
    pub(super) fn end_supervisor(&self) {
        let Ok(text) = std::fs::read_to_string(self.agent().join("supervisor.lock")) else { return };
        let Ok(pid) = text.trim().parse::<u32>() else { return };
        // The number may be somebody else's by now.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let data = self.agent();
        if words.clone().any(|word| word == b"supervise")
            && words.any(|word| word == data.as_os_str().as_encoded_bytes())
        {
            super::children::ask_to_end(pid);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            // Somebody may look into it just now; what is left are temporary files.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The folder this program lies in, whatever links led to it.
fn beside() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().and_then(std::fs::canonicalize);
    let own = own.map_err(|error| Failure::new(Exit::Error, format!("cannot find this program: {error}")))?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

fn wasm_files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".wasm") && !name.starts_with('.')).collect();
    files.sort();
    files
}

/// Whether an agent accepts a policy that names this file: nobody but its owner may write it.
fn is_safe(path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    let private = std::os::unix::fs::MetadataExt::mode(&found) & 0o022 == 0;
    #[cfg(not(unix))]
    let private = true;
    found.is_file() && private
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.write(true).create(true).truncate(true).open(path);
    let written = opened.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Error, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_private_lists_only_what_is_here_and_is_gone_afterwards() {
        let plugins = tempfile::tempdir().unwrap();
        std::fs::write(plugins.path().join("a.wasm"), "x").unwrap();
        std::fs::write(plugins.path().join("a.toml"), "").unwrap();
        let place = Place::make(Some(plugins.path()), false).unwrap();
        assert_eq!(place.plugin_files(), ["a.wasm"]);
        place.write_host_config(0).unwrap();
        place.write_policy().unwrap();
        let policy: toml::Table = std::fs::read_to_string(place.policy()).unwrap().parse().unwrap();
        let uname = policy["programs"]["uname"]["path"].as_str().unwrap();
        assert!(Path::new(uname).is_file() && policy["programs"].get("sh").is_none());
        let config: toml::Table = std::fs::read_to_string(place.host_config()).unwrap().parse().unwrap();
        assert_eq!(config["server"]["bind"].as_str(), Some("127.0.0.1:0"));
        let dir = place.dir().to_owned();
        drop(place);
        assert!(!dir.exists() && plugins.path().exists());
    }
}
