//! Compiled plugins, handed from one host of a test run to the next, as a host hands them to itself over
//! a restart: compiling the larger plugins takes more time than the tests that use them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A folder of compiled plugins with the key that seals them: names and contents.
type Folder = BTreeMap<String, Vec<u8>>;

/// One folder for each set of plugins.
static KEPT: Mutex<BTreeMap<String, Folder>> = Mutex::new(BTreeMap::new());

/// Gives a host that was never started what an earlier one with the same plugins compiled, if there was one.
///
/// # Panics
/// When its data folder cannot be written.
pub fn give(data: &Path, plugins: &[&str]) {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(folder) = kept.get(&plugins.join(" ")) else { return };
    let compiled = data.join("compiled");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&compiled).expect("a private folder");
    for (name, bytes) in folder {
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(compiled.join(name));
        file.expect("a private file").write_all(bytes).expect("it is written");
    }
}

/// Keeps what a host that serves these plugins has compiled.
///
/// # Panics
/// When it compiled nothing.
pub fn keep(data: &Path, plugins: &[&str]) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.entry(plugins.join(" ")).or_insert_with(|| {
        let entries = std::fs::read_dir(data.join("compiled")).expect("compiled plugins").filter_map(Result::ok);
        let folder: Folder = entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).ok()?)))
            .collect();
        assert!(folder.len() > plugins.len(), "a file for each plugin, and the key: {:?}", folder.keys());
        folder
    });
}
