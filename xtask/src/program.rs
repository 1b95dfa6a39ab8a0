//! Running other programs: where the repository is, which Cargo, what they inherit.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    // Asked at run time first: the folder may have been moved since this was compiled.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

/// Cargo, in the root, without what the outer `cargo run` set for this program alone: build scripts
/// that look at it would be built again.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix));
        if ours || matches!(&*text, "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "OUT_DIR") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs to the end; what it prints goes where ours goes.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("`{line}` cannot be started"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs to the end; `Ok` holds what it wrote to standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the text holds what it wrote to standard error.
pub fn read(command: &mut Command) -> anyhow::Result<String> {
    let line = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{line}` cannot be started"))?;
    if !output.status.success() {
        bail!("`{line}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    words.collect::<Vec<_>>().join(" ")
}

/// Where Cargo puts what it builds.
///
/// # Errors
/// When Cargo cannot be asked.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    let text = read(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("`cargo metadata` did not answer with JSON")?;
    let dir = metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
    Ok(PathBuf::from(dir))
}

/// The program called `name` in the folders where systems keep them, then in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let fixed = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = fixed.into_iter().chain(versioned()).chain(std::env::split_paths(&path));
    folders.map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Where Debian keeps PostgreSQL's programs: a folder for each version, in no `PATH`.
fn versioned() -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Writes beside, then renames: whoever reads sees all of it or nothing.
///
/// # Errors
/// What the file system answered.
pub fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.file_name().context("a file has a name")?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    std::fs::write(&beside, text).with_context(|| format!("{} cannot be written", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("{} cannot be put in place", path.display()))
}

/// Prints one line. Nobody left to read it is no reason to stop half-way.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
