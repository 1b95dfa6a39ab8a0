//! Building plugins with the tool their authors use, `viworks plugin build`.

mod origin;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use self::origin::Origin;
use crate::program::{self, cargo, root, say, target_dir};
use crate::toolchain::{self, Wasm};

/// Most bytes of a plugin's file.
const MOST_BYTES: u64 = 200 * 1024;

/// `cargo xtask plugins`.
///
/// # Errors
/// When a plugin, or the tool that builds them, cannot be built.
pub fn run() -> anyhow::Result<ExitCode> {
    let wasm = toolchain::wasm()?;
    program::run(&mut cargo(&["build", "-p", "cli"]))?;
    let target = target_dir()?;
    let out = target.join("plugins");
    for built in build_all(&target.join("debug/viworks"), &out, &wasm)? {
        say(built);
    }
    small(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Holds every plugin in `out` to its size.
///
/// # Errors
/// All that are too big.
pub fn small(out: &Path) -> anyhow::Result<()> {
    let mut sizes = Vec::new();
    for (name, _) in sources()? {
        let file = out.join(format!("{name}.wasm"));
        let found = std::fs::metadata(&file).with_context(|| format!("{} is not there", file.display()))?;
        sizes.push((name, found.len()));
    }
    let faults = oversized(&sizes);
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn oversized(sizes: &[(String, u64)]) -> Vec<String> {
    let over = sizes.iter().filter(|(_, size)| *size > MOST_BYTES);
    over.map(|(name, size)| format!("{name}.wasm has {size} bytes; at most {MOST_BYTES}")).collect()
}

/// Builds every folder in `plugins/` into `out`, but for what was built from these very sources by this very tool;
/// answers with one line for each.
///
/// # Errors
/// The first that cannot be built.
pub fn build_all(tool: &Path, out: &Path, wasm: &Wasm) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let mut lines = Vec::new();
    let maker = format!("{}, by {}", wasm.describe(), origin::digest(tool)?);
    for (name, dir) in sources()? {
        let file = out.join(format!("{name}.wasm"));
        let sources = made_of(&dir)?;
        if Origin::of(&file)?.is_some_and(|known| known.sources == sources && known.maker == maker) {
            lines.push(format!("{name}.wasm is up to date"));
            continue;
        }
        // A watched folder never sees half a file: a hidden folder first, then a rename.
        let hidden = out.join(".new");
        std::fs::create_dir_all(&hidden).with_context(|| format!("{} cannot be made", hidden.display()))?;
        let beside = hidden.join(format!("{name}.wasm"));
        let mut build = Command::new(tool);
        build.args(["plugin", "build"]).arg(&dir).arg("--out").arg(&beside).current_dir(root());
        wasm.prepare(&mut build);
        program::run(&mut build).with_context(|| format!("plugin `{name}` cannot be built"))?;
        let component = origin::digest(&beside)?;
        std::fs::rename(&beside, &file).with_context(|| format!("{} cannot be put in place", file.display()))?;
        // Empty again; if not, somebody else's build is in it.
        let _ = std::fs::remove_dir(&hidden);
        Origin { sources, maker: maker.clone(), component }.keep(&file)?;
        let size = std::fs::metadata(&file).map_or(0, |found| found.len());
        lines.push(format!("{name}.wasm built, {} KiB", size.div_ceil(1024)));
    }
    Ok(lines)
}

/// Puts every plugin that was built into `from` into the watched folder `out`, too.
///
/// # Errors
/// When one is missing, was not built from the sources as they are, or cannot be copied.
pub fn copy_all(from: &Path, out: &Path) -> anyhow::Result<()> {
    for (name, dir) in sources()? {
        let file = format!("{name}.wasm");
        let built = from.join(&file);
        origin::hold(&built, &made_of(&dir)?)?;
        let bytes = std::fs::read(&built).with_context(|| format!("{} cannot be read", built.display()))?;
        // A watched folder never sees half a file.
        let beside = out.join(format!(".{file}"));
        std::fs::write(&beside, bytes)
            .and_then(|()| std::fs::rename(&beside, out.join(&file)))
            .with_context(|| format!("{} cannot be put in place", out.join(&file).display()))?;
    }
    Ok(())
}

/// Names and folders of the plugins there are, in alphabetical order.
///
/// # Errors
/// When `plugins/` cannot be read.
pub fn sources() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let dir = root().join("plugins");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("{} cannot be read", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if let Some(name) = name.filter(|_| path.join("Cargo.toml").is_file()) {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Digest of all that goes into a plugin.
fn made_of(plugin: &Path) -> anyhow::Result<String> {
    let root = root();
    let shared = ["sdk", "schemas/plan", "Cargo.toml", "Cargo.lock"].map(|part| root.join(part));
    let parts: Vec<PathBuf> = std::iter::once(plugin.to_owned()).chain(shared).collect();
    origin::sources(&root, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_has_grown_too_big_is_named_with_its_bound() {
        let sizes = |docker, compose| [("docker".to_owned(), docker), ("compose".to_owned(), compose)];
        assert!(oversized(&sizes(MOST_BYTES, MOST_BYTES)).is_empty());
        assert_eq!(oversized(&sizes(204_801, 1)), ["docker.wasm has 204801 bytes; at most 204800"]);
        assert_eq!(oversized(&sizes(1_000_000, 1_000_000)).len(), 2);
    }
}
