//! Circles between the top-level modules of a crate, which Cargo does not see.
//!
//! Reads text, not syntax trees: comments and test modules are taken out, then every `crate::a` and
//! every `super::a` that reaches the root is an arrow from the module it stands in to `a`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Verdict;
use super::graph::Graph;

/// Arrows of one crate: from, to, and the first place that draws each.
type Arrows = BTreeMap<String, BTreeMap<String, String>>;

/// Looks into every crate.
pub fn check() -> anyhow::Result<Verdict> {
    let mut violations = Vec::new();
    for package in Graph::load()?.packages {
        let src = package.manifest_path.with_file_name("src");
        let mut files = Vec::new();
        collect(&src, &src, &mut files)?;
        for circle in circles(&arrows(&files)) {
            violations.push(format!("{}: {circle}", package.folder()));
        }
    }
    Ok(Verdict::of(violations))
}

/// Paths from `src` and texts of all source files.
fn collect(src: &Path, dir: &Path, files: &mut Vec<(PathBuf, String)>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(src, &path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            files.push((path.strip_prefix(src).unwrap_or(&path).to_owned(), text));
        }
    }
    files.sort();
    Ok(())
}

/// Where a file stands: its modules from the root; empty for the root, nothing for what is none of it.
fn module_path(file: &Path) -> Option<Vec<String>> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.iter().any(|part| part == "tests") || parts.first().is_some_and(|part| part == "bin") {
        return None;
    }
    if parts.last().is_some_and(|part| part == "mod") || (parts.len() == 1 && matches!(&*parts[0], "lib" | "main")) {
        parts.pop();
    }
    Some(parts)
}

fn arrows(files: &[(PathBuf, String)]) -> Arrows {
    let modules: Vec<(Vec<String>, &Path, String)> = files
        .iter()
        .filter_map(|(file, text)| Some((module_path(file)?, file.as_path(), without_tests_and_comments(text))))
        .collect();
    let names: BTreeSet<&str> = modules.iter().filter_map(|(path, ..)| path.first().map(String::as_str)).collect();
    // What the root hands on under its own name, e.g. `pub use value::Value`.
    let mut handed_on = BTreeMap::new();
    for (_, _, text) in modules.iter().filter(|(path, ..)| path.is_empty()) {
        for (module, leaf) in re_exports(text) {
            if names.contains(module.as_str()) {
                handed_on.insert(leaf, module);
            }
        }
    }
    let mut arrows = Arrows::new();
    for (path, file, text) in modules.iter().filter(|(path, ..)| !path.is_empty()) {
        for (line, target) in references(text, path.len()) {
            let target = handed_on.get(&target).cloned().unwrap_or(target);
            if target != path[0] && names.contains(target.as_str()) {
                let place = format!("{}:{line}", file.display());
                arrows.entry(path[0].clone()).or_default().entry(target).or_insert(place);
            }
        }
    }
    arrows
}

/// The text with line comments and `#[cfg(test)] mod … { … }` blanked; lines keep their numbers.
fn without_tests_and_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens = lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if line.trim_start().starts_with("#[cfg(") && line.contains("test") && opens {
            kept.push('\n');
            let end = format!("{indent}}}");
            for skipped in lines.by_ref() {
                kept.push('\n');
                if skipped == end {
                    break;
                }
            }
            continue;
        }
        kept.push_str(line.split("//").next().unwrap_or_default());
        kept.push('\n');
    }
    kept
}

/// Line numbers and names of everything a module at `depth` takes from the crate's root.
fn references(text: &str, depth: usize) -> Vec<(usize, String)> {
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                continue;
            }
            let line = text[..at].matches('\n').count() + 1;
            for (name, _) in tree(&text[at + prefix.len()..]) {
                found.push((line, name));
            }
        }
    }
    found
}

/// Of `a::b::{c, d as e}` or `{a::b, c}`: the first and the last name of each branch.
fn tree(text: &str) -> Vec<(String, String)> {
    let text = text.trim_start();
    if let Some(inside) = text.strip_prefix('{') {
        return branches(inside).into_iter().flat_map(|branch| tree(&branch)).collect();
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name == "self" {
        return Vec::new();
    }
    let Some(rest) = rest.strip_prefix("::") else {
        let renamed = rest.trim_start().strip_prefix("as ").map(|alias| alias.trim_start());
        let leaf = renamed
            .map_or(name, |alias| alias.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or(name));
        return vec![(name.to_owned(), leaf.to_owned())];
    };
    let below = tree(rest);
    if below.is_empty() {
        return vec![(name.to_owned(), name.to_owned())];
    }
    below.into_iter().map(|(_, leaf)| (name.to_owned(), leaf)).collect()
}

/// The parts between commas up to the closing brace.
fn branches(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Module and name of everything the root re-exports.
fn re_exports(text: &str) -> Vec<(String, String)> {
    let uses = text.match_indices("use ").map(|(at, found)| &text[at + found.len()..]);
    uses.flat_map(|rest| tree(rest.trim_start_matches("crate::").trim_start_matches("self::"))).collect()
}

/// Every circle once, told from its first module in alphabetical order.
fn circles(arrows: &Arrows) -> Vec<String> {
    let mut found = BTreeSet::new();
    for start in arrows.keys() {
        if let Some(circle) = way_back(arrows, start) {
            let first = (0..circle.len()).min_by_key(|index| &circle[*index]).unwrap_or(0);
            let turned = circle[first..].iter().chain(&circle[..first]).cloned().collect::<Vec<_>>();
            found.insert(turned);
        }
    }
    found.into_iter().map(|circle| told(arrows, &circle)).collect()
}

/// The shortest way from `start` over other modules back to it.
fn way_back(arrows: &Arrows, start: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways = std::collections::VecDeque::from([vec![start.to_owned()]]);
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| arrows.get(last)).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                ways.push_back(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

fn told(arrows: &Arrows, circle: &[String]) -> String {
    let steps = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(from, to)| {
        let place = arrows.get(from).and_then(|to_place| to_place.get(to)).map_or("", String::as_str);
        format!("{from} -> {to} ({place})")
    });
    steps.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        circles(&arrows(&files))
    }

    #[test]
    fn a_circle_is_told_with_the_places_that_draw_it() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b::B;\n"),
            ("b/mod.rs", "mod inner;\n"),
            ("b/inner.rs", "\nuse crate::{c::C, d};\n"),
            ("c.rs", "fn f(x: crate::a::A) {}\n"),
        ];
        assert_eq!(found(&files), ["a -> b (a.rs:1), b -> c (b/inner.rs:2), c -> a (c.rs:1)"]);
    }

    #[test]
    fn ways_through_super_and_through_the_root_count() {
        assert_eq!(found(&[("a.rs", "use super::b::B;\n"), ("b.rs", "use crate::a;\n")]).len(), 1);
        assert_eq!(found(&[("a/x.rs", "use super::super::b::B;\n"), ("b.rs", "use crate::a;\n")]).len(), 1);
        let root = "mod a;\nmod b;\npub use b::{B, Other as Name};\n";
        assert_eq!(found(&[("lib.rs", root), ("a.rs", "use crate::Name;\n"), ("b.rs", "use crate::a;\n")]).len(), 1);
    }

    #[test]
    fn what_is_no_circle_is_let_be() {
        assert!(found(&[("a.rs", "use crate::b;\n"), ("b.rs", "use crate::c;\n"), ("c.rs", "")]).is_empty());
        // Inside one top-level module, in comments, in other crates and in tests.
        assert!(found(&[("a/x.rs", "use super::y;\n"), ("a/y.rs", "use super::x;\nuse crate::a::x;\n")]).is_empty());
        assert!(found(&[("a.rs", "// crate::b\n/// [`crate::b::B`]\n"), ("b.rs", "use crate::a;\n")]).is_empty());
        assert!(found(&[("a.rs", "use other_crate::b;\n"), ("b.rs", "use crate::a;\n")]).is_empty());
        let tests = "use x::Y;\n\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n";
        assert!(found(&[("a.rs", tests), ("b.rs", "use crate::a;\n")]).is_empty());
        assert!(found(&[("a/tests.rs", "use crate::b;\n"), ("b.rs", "use crate::a;\n")]).is_empty());
        assert_eq!(found(&[("a.rs", &format!("{tests}use crate::b;\n")), ("b.rs", "use crate::a;\n")]).len(), 1);
    }
}
