//! Programs that are made of Python packages: `cargo xtask test` puts them into `target/python`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use servers::need;

/// The program called `name` from the tests' own Python folder. `None`, said aloud, when it is not there.
///
/// # Panics
/// With `CI=true`, when it is not there.
pub fn python_tool(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("target/python/bin");
    let program = folder.join(name);
    if program.is_file() {
        return Some(program);
    }
    need::skipped(&format!("no `{name}` in target/python: `cargo xtask test` installs it"));
    None
}

/// Runs it to its end; what it printed.
///
/// # Panics
/// When it fails.
pub fn ran(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{command:?}: {}\n{}{}", done.status, text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}
