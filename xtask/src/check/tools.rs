//! Checks that other tools make.

use super::Verdict;
use crate::program::{cargo, root};

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

/// `Cargo.lock` says what the manifests need.
pub fn lock_file() -> anyhow::Result<Verdict> {
    said(cargo(&["tree", "--locked", "--workspace", "--depth", "0", "--quiet"]))
}

/// What a tool found: nothing when it ends with 0.
pub(super) fn said(mut tool: std::process::Command) -> anyhow::Result<Verdict> {
    let line = crate::program::shown(&tool);
    let output = tool.stdin(std::process::Stdio::null()).output()?;
    if output.status.success() {
        return Ok(Verdict::Holds);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().replace(&format!("{}/", root().display()), "");
    Ok(Verdict::Broken(vec![format!("`{line}` ended with {}\n{text}", output.status)]))
}
