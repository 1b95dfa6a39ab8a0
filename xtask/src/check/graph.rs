//! The workspace as Cargo sees it.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use super::Verdict;
use crate::program::{cargo, read, root};

/// Crates whose lints are their own, with the reason.
const OWN_LINTS: [(&str, &str); 2] = [
    ("runtime", "holds a reviewed use of `unsafe`: machine code"),
    ("viworks-sdk", "holds a reviewed use of `unsafe`: a guest's own memory"),
];

/// The workspace.
#[derive(Debug, Deserialize)]
pub struct Graph {
    /// Its crates.
    pub packages: Vec<Package>,
}

/// One crate.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name, which is its room's.
    pub name: String,
    /// Where its `Cargo.toml` is.
    pub manifest_path: PathBuf,
    /// What it names, direct only.
    pub dependencies: Vec<Dependency>,
}

/// One dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The crate's real name.
    pub name: String,
    /// Absent for an ordinary one, else `dev` or `build`.
    pub kind: Option<String>,
    /// Set for crates of this workspace.
    pub path: Option<PathBuf>,
}

impl Graph {
    /// Asks Cargo.
    ///
    /// # Errors
    /// When Cargo cannot read the workspace.
    pub fn load() -> anyhow::Result<Graph> {
        let text = read(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).context("`cargo metadata` answered something else than expected")
    }
}

impl Package {
    /// The room's folder, from the root, e.g. `host/rest`.
    pub fn folder(&self) -> String {
        let root = root();
        let dir = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        dir.strip_prefix(&root).unwrap_or(dir).display().to_string()
    }
}

/// Every crate takes the workspace's lints.
pub fn check_lints() -> anyhow::Result<Verdict> {
    let mut violations = Vec::new();
    for package in Graph::load()?.packages {
        let path = &package.manifest_path;
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let own = OWN_LINTS.iter().find(|(name, _)| *name == package.name);
        if let Some(fault) = lint_fault(&text, own.is_some())? {
            violations.push(format!("{}/Cargo.toml: {fault}", package.folder()));
        }
    }
    Ok(Verdict::of(violations))
}

fn lint_fault(manifest: &str, may_have_own: bool) -> anyhow::Result<Option<&'static str>> {
    let table: toml::Table = manifest.parse().context("a manifest is not TOML")?;
    let lints = table.get("lints");
    if lints.and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true) {
        return Ok(None);
    }
    if !may_have_own {
        return Ok(Some("no `[lints] workspace = true`"));
    }
    let says_why = manifest
        .lines()
        .zip(manifest.lines().skip(1))
        .any(|(before, line)| before.trim_start().starts_with('#') && line.trim_start().starts_with("[lints"));
    let own = lints.is_some_and(|lints| lints.get("rust").is_some() && lints.get("clippy").is_some());
    Ok((!own || !says_why)
        .then_some("lints of its own need `[lints.rust]`, `[lints.clippy]` and a comment above that says why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_are_inherited_or_explained() {
        assert_eq!(lint_fault("[lints]\nworkspace = true\n", false).expect("toml"), None);
        assert!(lint_fault("[package]\nname = \"x\"\n", false).expect("toml").is_some());
        assert!(lint_fault("[lints.rust]\n[lints.clippy]\n", false).expect("toml").is_some());
        assert!(lint_fault("[lints.rust]\n[lints.clippy]\n", true).expect("toml").is_some());
        assert_eq!(lint_fault("# because\n[lints.rust]\n[lints.clippy]\n", true).expect("toml"), None);
    }
}
