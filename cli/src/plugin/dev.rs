//! `viworks plugin dev`: a project's every change is built, led through the gates and put into the folder
//! of a running host. What fails is told on one line, and what served before goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use chrono::{Local, Utc};
use clap::Args;
use runtime::minisign::SecretKey;
use runtime::tool::{self, ToolError};
use serde_json::Value;

use super::{build, install, sign};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

/// Which project, and where to.
#[derive(Clone, Debug, Args)]
pub struct DevOptions {
    /// The plugin's project
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// The host's plugin folder [default: that of `.viworks/up.json`, here or above]
    #[arg(long, value_name = "PLUGINS")]
    pub dir: Option<PathBuf>,
    /// A secret key to sign every build with, for a host that asks for signatures
    #[arg(long, value_name = "KEY")]
    pub key: Option<PathBuf>,
    /// Build once, and end
    #[arg(long)]
    pub once: bool,
}

/// From one look at the project to the next.
const LOOK: Duration = Duration::from_millis(300);
/// Folders nobody edits: what is built, what is fetched, what is kept.
const IDLE: &[&str] = &["target", "vendor", "node_modules"];

/// Files of a project, and when they were changed.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

pub(super) fn command(options: &DevOptions, sink: &Sink) -> Result<Exit, Failure> {
    let folder = match &options.dir {
        Some(dir) => dir.clone(),
        None => running().map_err(|error| Failure::usage(escape::line(&format!("{error:#}"))))?,
    };
    let key = options.key.as_deref().map(|file| sign::secret(file, sink)).transpose()?;
    let project = &options.directory;
    let mut seen = look(project);
    loop {
        let begun = Instant::now();
        let round = round(project, &folder, key.as_ref());
        let (word, text) = match &round {
            Ok(said) => ("ok", said.clone()),
            Err(error) => ("FAILED", said(error)),
        };
        let at = Local::now().format("%H:%M:%S");
        sink.say(&escape::line(&format!("{at} {word}: {text} ({:.1} s)", begun.elapsed().as_secs_f32())))?;
        if options.once {
            return Ok(if round.is_ok() { Exit::Ok } else { Exit::Error });
        }
        seen = changed(project, seen);
    }
}

/// Builds, checks and installs.
fn round(project: &Path, folder: &Path, key: Option<&SecretKey>) -> anyhow::Result<String> {
    let built = build::build(project)?;
    let file = format!("{}.wasm", built.manifest.name);
    let placement = tool::place(&built.bytes, &file, folder)?;
    let (name, version) = (&built.manifest.name, &built.manifest.version);
    let same = placement.replaces.as_ref().is_some_and(|old| old.digest.as_ref() == Some(&built.digest));
    let signature = key.map(|key| key.sign(&built.bytes, &sign::comment(&file, Utc::now())));
    if same && signature.is_none() {
        return Ok(format!("{name} {version} is there already, byte for byte"));
    }
    install::put(&folder.join(&file), &built.bytes, signature.as_deref())?;
    let waits = if placement.enabled && !placement.granted { "; no `[grants]` for it there yet" } else { "" };
    Ok(format!("{name} {version} {} is in {}{waits}", &built.digest[..12], folder.join(&file).display()))
}

/// Why a round failed, on one line.
fn said(error: &anyhow::Error) -> String {
    let why = match error.downcast_ref::<ToolError>() {
        Some(ToolError::Refused(refusal)) => {
            format!("gate {}, {}: {}; {}", refusal.gate, refusal.code, refusal.cause, refusal.cure)
        }
        Some(other) => other.to_string(),
        None => format!("{error:#}"),
    };
    format!("{why}; what is in the folder stays as it is")
}

/// Waits until something in the project is another than it was, and nothing changes any more.
fn changed(project: &Path, before: Seen) -> Seen {
    // Nobody ever sends: this is a clock that can be waited on.
    let (_sender, clock) = mpsc::channel::<()>();
    let mut last = before.clone();
    loop {
        _ = clock.recv_timeout(LOOK);
        let now = look(project);
        if now != before && now == last {
            return now;
        }
        last = now;
    }
}

/// What the project's files are like now.
fn look(folder: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // Gone between two looks: the next one will tell.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            let name = name.to_string_lossy();
            if name.starts_with('.') || IDLE.contains(&name.as_ref()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Ok(meta) = entry.metadata() {
                let changed = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                seen.insert(entry.path(), (changed, meta.len()));
            }
        }
    }
    seen
}

/// The plugin folder of the host that `cargo xtask up` started, here or above.
fn running() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("this folder cannot be read")?;
    let found =
        here.ancestors().map(|folder| (folder, folder.join(".viworks/up.json"))).find(|(_, file)| file.is_file());
    let (root, file) = found.context(
        "say where to put it with --dir PLUGINS: no host that `cargo xtask up` started is running here or in a folder above",
    )?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("`{}` cannot be read", file.display()))?;
    let up: Value = serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", file.display()))?;
    let folder = up["plugin_dir"].as_str().with_context(|| format!("`{}` names no plugin_dir", file.display()))?;
    Ok(root.join(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_what_people_edit_and_nothing_that_is_built() {
        let dir = tempfile::tempdir().expect("temp dir");
        for folder in ["src", "target", ".git"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
            std::fs::write(dir.path().join(folder).join("a.rs"), "a").expect("written");
        }
        let before = look(dir.path());
        assert_eq!(before.keys().cloned().collect::<Vec<_>>(), [dir.path().join("src/a.rs")]);
        std::fs::write(dir.path().join("src/a.rs"), "ab").expect("written");
        assert_ne!(look(dir.path()), before);
        assert_eq!(changed(dir.path(), before), look(dir.path()));
    }

    #[test]
    fn a_failure_says_why_on_one_line_and_that_nothing_was_touched() {
        let told = said(&anyhow::anyhow!("cannot read").context("crate `a`"));
        assert_eq!(told, "crate `a`: cannot read; what is in the folder stays as it is");
    }
}
