//! The page of limits names the test that tries each of them, and what it names is one.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::Verdict;
use super::files::{files, text_of};

const PAGE: &str = "docs/security.md";
/// What stands instead of a test where there is none.
const NONE: &str = "not at its edge";

/// Every limit of the page is tried by a test that there is, or says that it is not.
pub fn check() -> anyhow::Result<Verdict> {
    let page = text_of(PAGE.as_ref())?.with_context(|| format!("{PAGE} is not there"))?;
    let mut tests = BTreeSet::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
        if let Some(text) = text_of(&path)? {
            tests.extend(functions(&text).map(str::to_owned));
        }
    }
    Ok(Verdict::of(faults(&page, |name| tests.contains(name))))
}

/// Names of functions that a text declares.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (before, after) = line.split_once("fn ")?;
        let name = after.split(['(', '<']).next()?;
        before.chars().all(|c| c.is_ascii_lowercase() || c == ' ').then_some(name)
    })
}

fn faults(page: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let section = page.split("## Limits").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut faults = Vec::new();
    let mut tried = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(what), Some(last)) = (cells.first(), cells.last()) else { continue };
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if names.is_empty() && *last != NONE {
            faults.push(format!("{PAGE}: `{what}` names no test, and does not say `{NONE}`"));
        }
        tried += names.len();
        let gone = names.into_iter().filter(|name| !exists(name));
        faults.extend(gone.map(|name| format!("{PAGE}: `{what}` is said to be tried by `{name}`, which is no test")));
    }
    if tried == 0 {
        faults.push(format!("{PAGE}: there is no table of limits"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_and_a_limit_without_one_are_found() {
        let source = "    async fn holds_at_its_edge<S: Store>(x: S) {}\n// fn in_a_comment()\nfn other(x: u8) {}\n";
        let known: Vec<&str> = functions(source).collect();
        assert_eq!(known, ["holds_at_its_edge", "other"]);
        let page = |rows: &str| {
            format!("# x\n\n## Limits\n\n| what | in | tried by |\n|---|---|---|\n{rows}\n## More\n| a |\n")
        };
        let found = |rows: &str| faults(&page(rows), |name| known.contains(&name)).len();
        assert_eq!(found("| body | `a.rs` | `other`, `holds_at_its_edge` |\n| b | `a.rs` | not at its edge |"), 0);
        assert_eq!(found("| body | `a.rs` | `gone`, `other` |"), 1);
        assert_eq!(found("| body | `a.rs` |  |\n| b | `a.rs` | `other` |"), 1);
        assert_eq!(found(""), 1);
    }
}
