//! What a plugin was built from, kept beside it: files are compared by what is in them, for a copied folder or another
//! branch leaves an older plugin with a newer date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::program::write_whole;

/// What went into a plugin and what came out, by SHA-256 in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of the sources.
    pub sources: String,
    /// The compiler that is meant, and the digest of the tool that called it.
    pub maker: String,
    /// Digest of the plugin's file.
    pub component: String,
}

impl Origin {
    /// What is known of the plugin in `file`; nothing when it is not there, or is another one than was built.
    ///
    /// # Errors
    /// When the plugin is there and cannot be read.
    pub fn of(file: &Path) -> anyhow::Result<Option<Origin>> {
        if !file.is_file() {
            return Ok(None);
        }
        let component = digest(file)?;
        let text = std::fs::read_to_string(beside(file)?).unwrap_or_default();
        let kept: Option<Origin> = serde_json::from_str(&text).ok();
        Ok(kept.filter(|origin| origin.component == component))
    }

    /// Keeps it beside `file`, hidden: a watched folder takes no notice of it.
    ///
    /// # Errors
    /// What the file system answered.
    pub fn keep(&self, file: &Path) -> anyhow::Result<()> {
        write_whole(&beside(file)?, &format!("{}\n", serde_json::to_string(self)?))
    }
}

/// Refuses a plugin that was not built from these sources.
///
/// # Errors
/// Why it is none, and what makes it one.
pub fn hold(file: &Path, sources: &str) -> anyhow::Result<()> {
    let why = match Origin::of(file)? {
        Some(origin) if origin.sources == sources => return Ok(()),
        Some(_) => "was built from other sources than these",
        None if file.is_file() => "does not tell what it was built from",
        None => "is not there",
    };
    bail!("{} {why}: `cargo xtask plugins` builds it", file.display())
}

/// Digest of all files in `parts`, which are files or folders of `root`: their names and what is in them.
///
/// # Errors
/// When one cannot be read.
pub fn sources(root: &Path, parts: &[PathBuf]) -> anyhow::Result<String> {
    let mut files = BTreeMap::new();
    for part in parts {
        gather(root, part, &mut files)?;
    }
    let mut hash = Sha256::new();
    for (name, content) in files {
        // Neither name nor digest holds a line's end, so no two lists of files read alike.
        hash.update(format!("{content} {name:?}\n"));
    }
    Ok(HEXLOWER.encode(&hash.finalize()))
}

/// Digest of a file.
///
/// # Errors
/// When it cannot be read.
pub fn digest(file: &Path) -> anyhow::Result<String> {
    let failed = || format!("{} cannot be read", file.display());
    let mut hash = Sha256::new();
    let mut read = std::fs::File::open(file).with_context(failed)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut read, &mut chunk).with_context(failed)? {
            0 => return Ok(HEXLOWER.encode(&hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}

fn gather(root: &Path, path: &Path, files: &mut BTreeMap<PathBuf, String>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.insert(path.strip_prefix(root).unwrap_or(path).to_owned(), digest(path)?);
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Hidden, built, or left by a test that failed: nothing that goes into a plugin.
        let idle = name.starts_with('.') || name == "target" || name.ends_with(".snap.new") || name.ends_with('~');
        if !idle {
            gather(root, &entry.path(), files)?;
        }
    }
    Ok(())
}

fn beside(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file.file_name().context("a plugin's file has a name")?;
    Ok(file.with_file_name(format!(".{}.origin", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_files_and_their_names_decide_and_dates_do_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (root, plugin) = (dir.path(), dir.path().join("plugin"));
        let write = |name: &str, text: &str| {
            let file = plugin.join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, text).expect("written");
        };
        let of = |root: &Path, plugin: &Path| sources(root, &[plugin.to_owned()]).expect("read");
        write("src/lib.rs", "a");
        let first = of(root, &plugin);
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let file = std::fs::File::options().write(true).open(plugin.join("src/lib.rs")).expect("opened");
        file.set_modified(long_ago).expect("dated");
        assert_eq!(of(root, &plugin), first);
        for idle in ["target/x", ".git/x", "src/x.snap.new", "src/lib.rs~"] {
            write(idle, "x");
            assert_eq!(of(root, &plugin), first, "{idle}");
        }
        write("src/lib.rs", "b");
        file.set_modified(long_ago).expect("dated");
        let second = of(root, &plugin);
        assert_ne!(second, first, "with the same date");
        write("src/more.rs", "");
        assert_ne!(of(root, &plugin), second, "an empty file more");
        std::fs::remove_file(plugin.join("src/more.rs")).expect("removed");
        assert_eq!(of(root, &plugin), second);
        assert!(sources(root, &[plugin.join("gone")]).is_err());
        // The same tree in another place is the same.
        let there = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(there.path().join("plugin/src")).expect("made");
        std::fs::write(there.path().join("plugin/src/lib.rs"), "b").expect("written");
        assert_eq!(of(there.path(), &there.path().join("plugin")), second);
    }

    #[test]
    fn a_plugin_of_other_sources_is_refused_however_new_it_is() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("exec.wasm");
        let refused = |sources: &str| hold(&file, sources).expect_err("refused").to_string();
        assert!(refused("s").contains("is not there"));
        std::fs::write(&file, "component").expect("written");
        assert!(refused("s").contains("does not tell"));
        let component = digest(&file).expect("read");
        let origin = Origin { sources: "s".into(), maker: "m".into(), component };
        origin.keep(&file).expect("kept");
        assert_eq!(Origin::of(&file).expect("read"), Some(origin));
        hold(&file, "s").expect("built from these");
        let told = refused("others");
        assert!(told.contains("other sources") && told.contains("cargo xtask plugins"), "{told}");
        // Somebody put another one in its place, with a newer date.
        std::fs::write(&file, "older").expect("written");
        assert!(refused("s").contains("does not tell"));
        assert_eq!(digest(&file).expect("read").len(), 64);
    }
}
