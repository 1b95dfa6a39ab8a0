//! What may be in the dependency tree, and what is known against it: both told by cargo-deny, which is installed into
//! Cargo's target directory where it is missing.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Verdict;
use super::tools::said;
use crate::program::{cargo, find, read, root, run, target_dir, write_whole};

/// The version of cargo-deny that is taken. Others read the settings and keep databases otherwise.
const VERSION: &str = "0.20.2";
/// Names a folder with an advisory database, a clone or a copy of one. Where it is set, nothing is fetched.
const ADVISORY_DB: &str = "VIWORKS_ADVISORY_DB";
/// What cargo-deny calls the folder of its usual database: the name, and a hash of the address.
const DATABASE: &str = "advisory-db-3157b0e258782691";
/// Longest that fetching the database may take. A machine that may not reach it often hears nothing at all.
const FETCHED_WITHIN: Duration = Duration::from_secs(120);

/// `deny.toml` holds.
pub fn rules() -> anyhow::Result<Verdict> {
    match ready() {
        Ok(deny) => {
            said(asked(&deny, &["--offline", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))
        }
        Err(error) => Ok(Verdict::Skipped(format!("{error:#}"))),
    }
}

/// No dependency has a known hole.
pub fn advisories() -> anyhow::Result<Verdict> {
    let deny = match ready() {
        Ok(deny) => deny,
        Err(error) => return Ok(Verdict::Skipped(format!("{error:#}"))),
    };
    let place = target_dir()?.join("advisories");
    let named = std::env::var_os(ADVISORY_DB).filter(|db| !db.is_empty()).map(PathBuf::from);
    let databases = place.join(if named.is_some() { "named" } else { "fetched" });
    // From nothing each time. cargo-deny mends an older clone with `git reset --hard`, and what is left of one that
    // is no repository any more would have Git take ours.
    let made = || match std::fs::remove_dir_all(&databases) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(&databases),
    };
    made().with_context(|| format!("{} cannot be made anew", databases.display()))?;
    let settings = place.join("deny.toml");
    let text = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml cannot be read")?;
    write_whole(&settings, &with_databases(&text, &databases)?)?;
    let settings = settings.display().to_string();
    if let Some(named) = named {
        stand_in(&databases.join(DATABASE), &named)?;
    } else if let Err(error) = fetch(asked(&deny, &["--config", &settings, "fetch", "db"]), &databases) {
        let why = format!("the advisory database cannot be fetched, and {ADVISORY_DB} names none: {error:#}");
        return Ok(Verdict::Skipped(why));
    }
    said(asked(&deny, &["--offline", "--config", &settings, "check", "advisories"]))
}

/// cargo-deny of the right version, with all that it looks at. It looks at crates of other systems, too, which no
/// build has downloaded.
fn ready() -> anyhow::Result<PathBuf> {
    let deny = tool().with_context(|| format!("cargo-deny {VERSION} is not installed and was not to be had"))?;
    run(&mut cargo(&["fetch", "--quiet", "--locked"])).context("not all crates of the lock file are to be had")?;
    Ok(deny)
}

/// The tool itself: installed before, anybody's, or installed now.
fn tool() -> anyhow::Result<PathBuf> {
    let place = target_dir()?.join("tools").join(format!("cargo-deny-{VERSION}"));
    let ours = place.join("bin/cargo-deny");
    if ours.is_file() {
        return Ok(ours);
    }
    if let Some(found) = find("cargo-deny").or_else(|| in_cargo_home("cargo-deny"))
        && read(Command::new(&found).arg("--version")).is_ok_and(|text| text.trim().ends_with(&format!(" {VERSION}")))
    {
        return Ok(found);
    }
    // Unoptimised: it is built in a fraction of the time, and what it has to do takes seconds.
    let build = place.join("build");
    let mut install = cargo(&["install", "--quiet", "--locked", "--debug", "cargo-deny", "--version", VERSION]);
    install.arg("--root").arg(&place).arg("--target-dir").arg(&build);
    install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    let installed = run(&mut install);
    // What it was built from is wanted no more. What cannot be removed only takes room.
    let _ = std::fs::remove_dir_all(&build);
    installed.map(|()| ours)
}

fn in_cargo_home(tool: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    home.map(|home| home.join("bin").join(tool)).filter(|file| file.is_file())
}

/// The tool with these words, in the root.
fn asked(deny: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(deny);
    command.args(words).current_dir(root());
    command
}

/// The settings, with another folder of databases.
fn with_databases(text: &str, databases: &Path) -> anyhow::Result<String> {
    let mut settings: toml::Table = text.parse().context("deny.toml is no TOML")?;
    let advisories = settings.entry("advisories").or_insert_with(|| toml::Table::new().into());
    let advisories = advisories.as_table_mut().context("`advisories` in deny.toml is no table")?;
    advisories.insert("db-path".to_owned(), databases.display().to_string().into());
    toml::to_string(&settings).context("deny.toml cannot be written anew")
}

/// Makes `named` look like a database that was fetched just now.
fn stand_in(database: &Path, named: &Path) -> anyhow::Result<()> {
    let crates = std::path::absolute(named.join("crates")).context("the current directory is gone")?;
    anyhow::ensure!(
        crates.is_dir(),
        "{ADVISORY_DB} is {}, which holds no folder `crates`: name a folder with an advisory database, or unset it",
        named.display()
    );
    let made = || {
        std::fs::create_dir_all(database.join(".git"))?;
        std::fs::write(database.join(".git/FETCH_HEAD"), "")?;
        symlink(&crates, database.join("crates"))
    };
    made().with_context(|| format!("{} cannot be made", database.display()))
}

/// Fetches into `databases`.
fn fetch(mut command: Command, databases: &Path) -> anyhow::Result<()> {
    // Nobody is asked for a password, and no repository above is ever meant.
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CEILING_DIRECTORIES", databases);
    within(command, FETCHED_WITHIN)
}

/// Runs to the end; what takes longer is ended, with all that it started.
fn within(mut command: Command, longest: Duration) -> anyhow::Result<()> {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().context("cargo-deny cannot be started")?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).context("a process has such an id")?;
    let (told, ends) = channel();
    // Nobody listens any more to one that took too long.
    thread::spawn(move || drop(told.send(child.wait_with_output())));
    let Ok(ended) = ends.recv_timeout(longest) else {
        // Gone meanwhile is as good as ended.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = ends.recv();
        anyhow::bail!("not within {} s", longest.as_secs());
    };
    let ended = ended.context("it cannot be waited for")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    // What went wrong in the end; how it came to that is before it.
    let said = said.trim().lines().last().unwrap_or_default();
    anyhow::ensure!(ended.status.success(), "it ended with {}: {said}", ended.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_stay_but_for_where_databases_are() {
        let text = "[bans]\nwildcards = \"deny\"\n[advisories]\nyanked = \"deny\"\n";
        let made: toml::Table = with_databases(text, Path::new("/x")).expect("made").parse().expect("TOML");
        assert_eq!(made["bans"]["wildcards"].as_str(), Some("deny"));
        assert_eq!(made["advisories"]["yanked"].as_str(), Some("deny"));
        assert_eq!(made["advisories"]["db-path"].as_str(), Some("/x"));
        let made: toml::Table = with_databases("", Path::new("/x")).expect("made").parse().expect("TOML");
        assert_eq!(made["advisories"]["db-path"].as_str(), Some("/x"));
        assert!(with_databases("advisories = 1", Path::new("/x")).is_err());
    }

    #[test]
    fn a_named_folder_stands_for_a_database_and_one_that_is_none_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (named, database) = (dir.path().join("named"), dir.path().join("made/db"));
        let refused = stand_in(&database, &named).expect_err("nothing there").to_string();
        assert!(refused.contains(ADVISORY_DB) && refused.contains("crates"), "{refused}");
        std::fs::create_dir_all(named.join("crates/x")).expect("made");
        std::fs::write(named.join("crates/x/a.md"), "a").expect("written");
        stand_in(&database, &named).expect("made");
        assert_eq!(std::fs::read_to_string(database.join("crates/x/a.md")).expect("through the link"), "a");
        assert!(database.join(".git/FETCH_HEAD").is_file());
    }

    #[test]
    fn a_fetch_that_fails_or_hangs_is_told_and_nothing_of_it_is_left() {
        let dir = tempfile::tempdir().expect("temp dir");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let seen = format!("test \"$GIT_CEILING_DIRECTORIES\" = '{}'", dir.path().display());
        fetch(shell(&seen), dir.path()).expect("Git is told where to stop");
        let failed = fetch(shell("echo no way there >&2; exit 3"), dir.path()).expect_err("failed").to_string();
        assert!(failed.contains('3') && failed.contains("no way there"), "{failed}");
        // The pipe is open until the last of them is gone.
        let hung = within(shell("sleep 600 & sleep 600"), Duration::ZERO).expect_err("ended").to_string();
        assert!(hung.contains("not within"), "{hung}");
    }
}
