//! What a test does when the machine lacks what it needs: with `CI=true` it fails, else it is skipped by name.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Says that the running test is skipped, and why.
///
/// # Panics
/// With `CI=true`: there a test that cannot run is a failure.
#[track_caller]
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run here, and CI is true: {why}");
    // Written past the test harness, which swallows what tests that pass print.
    let _ = std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes());
}

/// The program called `name`, from the folders where systems keep them, then from `PATH`.
///
/// # Errors
/// When there is none; the text names the Debian package that has it.
pub fn find(name: &str, package: &str) -> Result<PathBuf, String> {
    let fixed = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = fixed.into_iter().chain(std::env::split_paths(&path)).map(|dir| dir.join(name));
    files.find(|file| is_executable(file)).ok_or_else(|| format!("no `{name}` here: apt-get install {package}"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
