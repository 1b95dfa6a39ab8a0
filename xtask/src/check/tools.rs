//! Checks that other tools make.

use super::Verdict;
use crate::program::{cargo, find, root};

/// Names the folder of an advisory database, which is never fetched.
const ADVISORY_DB: &str = "VIWORKS_ADVISORY_DB";

/// Every file is formatted.
pub fn format() -> anyhow::Result<Verdict> {
    said(cargo(&["fmt", "--all", "--", "--check", "-l"]))
}

/// No lint speaks.
pub fn clippy() -> anyhow::Result<Verdict> {
    said(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The documentation builds and every link in it leads somewhere.
pub fn docs() -> anyhow::Result<Verdict> {
    let mut doc = cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    said(doc)
}

/// Schemas agree with the types, and their files with what would be made now.
pub fn schemas() -> anyhow::Result<Verdict> {
    said(cargo(&["run", "--quiet", "--package", "xtask", "--", "schemas", "--check"]))
}

/// `deny.toml` holds, if its tool is here.
pub fn deny() -> anyhow::Result<Verdict> {
    if find("cargo-deny").is_none() && !in_cargo_home("cargo-deny") {
        return Ok(Verdict::Skipped("cargo-deny is not installed".to_owned()));
    }
    said(cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

/// No dependency has a known hole, as far as a local database knows.
pub fn advisories() -> anyhow::Result<Verdict> {
    if find("cargo-audit").is_none() && !in_cargo_home("cargo-audit") {
        return Ok(Verdict::Skipped("cargo-audit is not installed".to_owned()));
    }
    match std::env::var(ADVISORY_DB) {
        Ok(db) if !db.is_empty() => said(cargo(&["audit", "--db", &db, "--no-fetch", "--stale"])),
        _ => Ok(Verdict::Skipped(format!("{ADVISORY_DB} names no advisory database"))),
    }
}

/// `Cargo.lock` says what the manifests need.
pub fn lock_file() -> anyhow::Result<Verdict> {
    said(cargo(&["tree", "--locked", "--workspace", "--depth", "0", "--quiet"]))
}

fn said(mut tool: std::process::Command) -> anyhow::Result<Verdict> {
    let line = crate::program::shown(&tool);
    let output = tool.stdin(std::process::Stdio::null()).output()?;
    if output.status.success() {
        return Ok(Verdict::Holds);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().replace(&format!("{}/", root().display()), "");
    Ok(Verdict::Broken(vec![format!("`{line}` ended with {}\n{text}", output.status)]))
}

fn in_cargo_home(tool: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    home.is_some_and(|home| home.join("bin").join(tool).is_file())
}
