//! Where the programs under test are, and the plugin they serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A program under test, from the folder that holds this test program.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let found = test.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "`{name}` is not beside {}: run `cargo build -p server -p agent -p cli`, or all tests with `cargo xtask test`",
            test.display()
        )
    })
}

/// The first of the usual folders' files called `name`.
///
/// # Panics
/// When this machine has none.
pub fn tool(name: &str) -> PathBuf {
    let found = ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("this machine has no `{name}` in /usr/bin or /bin, which the tests run"))
}

/// The exec plugin, built once for all tests from the sources as they are.
///
/// # Panics
/// When it cannot be built; the builder's messages are on standard error.
pub fn exec_plugin() -> &'static [u8] {
    plugin("exec")
}

/// The plugin in `plugins/NAME`, built once for all tests from the sources as they are.
///
/// # Panics
/// When it cannot be built; the builder's messages are on standard error.
pub fn plugin(name: &str) -> &'static [u8] {
    static BUILT: Mutex<BTreeMap<String, &'static [u8]>> = Mutex::new(BTreeMap::new());
    // Held while it builds: one build after the other, and whoever waited finds it done.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = built.get(name) {
        return bytes;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("plugin.wasm");
    let mut build = Command::new(program("viworks"));
    build.args(["plugin", "build", &format!("plugins/{name}"), "--out"]).arg(&out).current_dir(root);
    let done = build.stdin(Stdio::null()).output().expect("the plugin builder starts");
    assert!(done.status.success(), "plugins/{name} cannot be built:\n{}", String::from_utf8_lossy(&done.stderr));
    // Kept until the program ends, as a static is.
    let bytes = std::fs::read(&out).expect("the plugin that was just built").leak();
    built.insert(name.to_owned(), bytes);
    bytes
}
