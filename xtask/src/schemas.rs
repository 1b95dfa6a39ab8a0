//! `cargo xtask schemas`: what lies in `schemas/json`, for people who build against this house.
//!
//! The schemas of frames are written by hand and held against the Rust types, both ways, by a test of
//! the room `wire`; only their layout is made here. Those of verbs are what the crates in `plugins/` say
//! natively, written by a test of this crate, `tests/verbs.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::program::{cargo, root, run as run_program, say};

/// How to run it.
#[derive(clap::Args)]
pub struct Options {
    /// Change nothing; fail when something is not as it would be made
    #[arg(long)]
    check: bool,
}

/// Brings verbs and layout up to date, or checks them, and holds schemas and types together.
///
/// # Errors
/// When a file is not JSON, out of date under `--check`, or does not agree with the types.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut verbs = cargo(&["test", "--quiet", "-p", "xtask", "--test", "verbs"]);
    if !options.check {
        verbs.env("VIWORKS_WRITE_SCHEMAS", "1");
    }
    run_program(&mut verbs)?;
    let stale = relayout(&root().join("schemas/json"), !options.check)?;
    for path in &stale {
        let what = if options.check { "is out of date: run `cargo xtask schemas`" } else { "laid out anew" };
        say(format_args!("{} {what}", path.display()));
    }
    run_program(&mut cargo(&["test", "--quiet", "-p", "wire", "--test", "schemas", "--test", "page"]))?;
    Ok(if options.check && !stale.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Files below `dir` whose text is not the one form a JSON file has here; written anew if `write`.
fn relayout(dir: &Path, write: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            stale.extend(relayout(&path, write)?);
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let mut wanted = serde_json::to_string_pretty(&value)?;
        wanted.push('\n');
        if wanted != text {
            if write {
                crate::program::write_whole(&path, &wanted)?;
            }
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_another_layout_is_found_and_mended() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("a.json");
        std::fs::write(&file, "{\"b\":1}").expect("written");
        assert_eq!(relayout(dir.path(), false).expect("read"), std::slice::from_ref(&file));
        assert_eq!(relayout(dir.path(), true).expect("written"), std::slice::from_ref(&file));
        assert!(relayout(dir.path(), false).expect("read").is_empty());
        std::fs::write(&file, "{").expect("written");
        assert!(relayout(dir.path(), false).is_err());
    }
}
