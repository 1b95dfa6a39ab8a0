//! What every file has in common: its length, and words that do not belong into a repository.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Verdict;
use crate::program::{read, root};

/// Longest file of code. The habit is 100 to 400 lines.
const MAX_LINES: usize = 500;
/// Kinds of files that are code.
const CODE: [&str; 5] = ["rs", "ts", "svelte", "sql", "wit"];
/// Files that Cargo and npm write, which must name registries.
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "package-lock.json"];

/// Paths of somebody's machine, in two halves so that this file passes its own check.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/home/", "runner/")];
/// Hosts of package registries, likewise.
const REGISTRIES: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("registry-1.docker", ".io"),
];

/// No file of code is too long.
pub fn check_length() -> anyhow::Result<Verdict> {
    let mut violations = Vec::new();
    for path in files()? {
        let is_code = path.extension().and_then(|kind| kind.to_str()).is_some_and(|kind| CODE.contains(&kind));
        if let Some(text) = is_code.then(|| text_of(&path)).transpose()?.flatten() {
            let lines = text.lines().count();
            if lines > MAX_LINES {
                violations
                    .push(format!("{}: {lines} lines; at most {MAX_LINES}: two rooms may live in it", path.display()));
            }
        }
    }
    Ok(Verdict::of(violations))
}

/// No file names a path of somebody's machine or a registry's host.
pub fn check_words() -> anyhow::Result<Verdict> {
    let mut violations = Vec::new();
    for path in files()? {
        let Some(text) = text_of(&path)? else { continue };
        let may_name_registries = path.file_name().is_some_and(|name| LOCK_FILES.iter().any(|lock| name == *lock));
        violations.extend(
            words_in(&text, may_name_registries).map(|(line, word)| format!("{}:{line}: `{word}`", path.display())),
        );
    }
    Ok(Verdict::of(violations))
}

fn words_in(text: &str, may_name_registries: bool) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines().enumerate().flat_map(move |(index, line)| {
        let path = MACHINE_PATHS.into_iter().filter(move |path| begins_path(line, path));
        let host = REGISTRIES.into_iter().filter(move |host| !may_name_registries && line.contains(host));
        path.chain(host).map(move |word| (index + 1, word))
    })
}

/// Whether `path` stands in `line` as the start of a path, not in the middle of a longer one.
fn begins_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | '~' | '*')))
    })
}

/// Everything git tracks or would track, from the root.
pub fn files() -> anyhow::Result<Vec<PathBuf>> {
    let mut list = std::process::Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let text = read(&mut list).context("the files of the repository cannot be listed")?;
    let mut files: Vec<PathBuf> = text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The text of a file; nothing when it is gone or is no text.
pub fn text_of(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read(root().join(path)) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registries_are_found_where_they_stand() {
        let [work, root, _] = MACHINE_PATHS;
        let registry = REGISTRIES[0];
        let text = format!("fine\ncp {work}main .\nsee https://{registry}/x\n\"{root}.ssh\"\n");
        let found: Vec<_> = words_in(&text, false).collect();
        assert_eq!(found, [(2, work), (3, registry), (4, root)]);
        assert_eq!(words_in(&text, true).count(), 2);
        let fine = format!("data{work} target{root} a.b{work} $HOME{work}");
        assert_eq!(words_in(&fine.replace('$', ""), false).count(), 0);
    }
}
