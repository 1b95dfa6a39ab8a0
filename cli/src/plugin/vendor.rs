//! The SDK as a project carries it: the sources this program was built with, in a small workspace of
//! their own, and the versions of outside crates they were tested with. So a project builds wherever
//! there is a `viworks` and a cargo, and goes on building when it is copied elsewhere.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};

use super::embedded::{SDK, WORKSPACE, text};

/// Where the copy lies in a project.
pub const FOLDER: &str = "vendor/viworks-sdk";
/// The crates of the copy, from its folder.
const CRATES: [&str; 3] = ["sdk", "sdk/macros", "schemas/plan"];
/// The crate a project names.
pub const CRATE: &str = "sdk";

const README: &str = "# The ViWorkS SDK

Written by `viworks`; changes here are lost when `viworks plugin sdk` writes it anew. Keep it in version control.
";

/// Writes the copy into `project`, in place of the one there is.
///
/// # Errors
/// When a file cannot be written.
pub fn write(project: &Path) -> anyhow::Result<()> {
    let folder = project.join(FOLDER);
    let beside = project.join(format!("{FOLDER}.new"));
    let made = || -> std::io::Result<()> {
        match std::fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        for (path, text) in files() {
            let file = beside.join(path);
            std::fs::create_dir_all(file.parent().unwrap_or(&beside))?;
            std::fs::write(file, text)?;
        }
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        std::fs::rename(&beside, &folder)
    };
    made().with_context(|| format!("cannot write the SDK to `{}`", folder.display()))
}

/// Everything in the copy, by path from its folder.
pub fn files() -> Vec<(String, String)> {
    let mut files = vec![("Cargo.toml".to_owned(), workspace()), ("README.md".to_owned(), README.to_owned())];
    for (path, text) in SDK {
        let text = if path.ends_with("Cargo.toml") { manifest(text).to_string() } else { (*text).to_owned() };
        files.push(((*path).to_owned(), text));
    }
    files
}

/// A crate's manifest without what only its own tests need.
fn manifest(text: &str) -> Table {
    let mut manifest: Table = text.parse().expect("the manifest was read by cargo when this was built");
    manifest.remove("dev-dependencies");
    manifest
}

/// The compiler that the SDK needs at least.
pub fn rust_version() -> String {
    let workspace = root();
    let version = workspace["workspace"]["package"]["rust-version"].as_str();
    version.expect("the workspace says which compiler it needs").to_owned()
}

fn root() -> Table {
    let text = text(WORKSPACE, "Cargo.toml").expect("it is embedded");
    text.parse().expect("the manifest was read by cargo when this was built")
}

/// The manifest of the small workspace: the repository's, with what its crates use.
fn workspace() -> String {
    let mut used = BTreeSet::new();
    for name in CRATES {
        let text = text(SDK, &format!("{name}/Cargo.toml")).expect("it is embedded");
        dependencies(&manifest(text), &mut used);
    }
    let mut root = root();
    let mut workspace = match root.remove("workspace") {
        Some(Value::Table(workspace)) => workspace,
        _ => unreachable!("cargo read it as a workspace when this was built"),
    };
    workspace.insert("members".into(), CRATES.iter().copied().map(Value::from).collect::<Vec<_>>().into());
    if let Some(known) = workspace.get_mut("dependencies").and_then(Value::as_table_mut) {
        known.retain(|name, _| used.contains(name));
    }
    let mut small = Table::new();
    small.insert("workspace".into(), workspace.into());
    small.to_string()
}

/// Names of all dependencies in `table`, for any target.
fn dependencies(table: &Table, used: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "build-dependencies" => used.extend(inner.keys().cloned()),
            _ => dependencies(inner, used),
        }
    }
}

/// A `Cargo.lock` with the versions that the SDK was tested with, and no more.
pub fn lock() -> String {
    let text = text(WORKSPACE, "Cargo.lock").expect("it is embedded");
    let mut lock: Table = text.parse().expect("the lock file was read by cargo when this was built");
    let Some(Value::Array(packages)) = lock.remove("package") else { return String::new() };
    let of = |package: &Value, key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut wanted = vec!["viworks-sdk".to_owned()];
    let mut kept = vec![false; packages.len()];
    while let Some(next) = wanted.pop() {
        // `name`, or `name version` where there are several.
        let (name, version) = next.split_once(' ').unwrap_or((&next, ""));
        let version = version.split(' ').next().unwrap_or_default();
        for (index, package) in packages.iter().enumerate() {
            let fits = of(package, "name") == name && (version.is_empty() || of(package, "version") == version);
            if fits && !std::mem::replace(&mut kept[index], true) {
                let needs = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
                wanted.extend(needs.filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    let packages: Vec<Value> = packages.into_iter().zip(kept).filter(|(_, keep)| *keep).map(|(one, _)| one).collect();
    lock.insert("package".into(), packages.into());
    lock.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_a_workspace_that_knows_everything_its_crates_name() {
        let small: Table = workspace().parse().expect("TOML");
        let known = small["workspace"]["dependencies"].as_table().expect("dependencies");
        assert!(known.contains_key("serde_json") && !known.contains_key("wasmtime") && !known.contains_key("tokio"));
        for (path, text) in files().iter().filter(|(path, _)| path.ends_with("Cargo.toml") && path.contains('/')) {
            let mut used = BTreeSet::new();
            dependencies(&text.parse().expect("TOML"), &mut used);
            assert!(!used.is_empty() && used.iter().all(|name| known.contains_key(name)), "{path}: {used:?}");
        }
        let paths: Vec<String> = files().into_iter().map(|(path, _)| path).collect();
        for needed in ["sdk/src/lib.rs", "sdk/wit/1.0/plugin.wit", "sdk/macros/src/lib.rs", "schemas/plan/src/step.rs"]
        {
            assert!(paths.iter().any(|path| path == needed), "{needed} is missing from {paths:?}");
        }
        assert!(!paths.iter().any(|path| path.starts_with("sdk/tests")), "{paths:?}");
    }

    #[test]
    fn the_lock_file_holds_what_the_sdk_needs_and_nothing_of_the_hosts() {
        let lock: Table = lock().parse().expect("TOML");
        let names: BTreeSet<&str> = lock["package"]
            .as_array()
            .expect("packages")
            .iter()
            .filter_map(|package| package["name"].as_str())
            .collect();
        for needed in ["viworks-sdk", "viworks-sdk-macros", "plan", "serde_json", "syn", "wit-bindgen"] {
            assert!(names.contains(needed), "{needed} is missing from {names:?}");
        }
        for other in ["wasmtime", "sqlx", "axum", "cli"] {
            assert!(!names.contains(other), "{other}");
        }
        for package in lock["package"].as_array().expect("packages") {
            for need in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
                let name = need.as_str().and_then(|need| need.split(' ').next()).unwrap_or_default();
                assert!(names.contains(name), "{name} is needed and not locked");
            }
        }
    }
}
