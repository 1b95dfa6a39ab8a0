//! `viworks plugin diff`: what changed between two versions of a plugin, and which version that needs.

mod manifest;
mod schema;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use domain::verb::VerbName;
use plan::golden;
use runtime::tool::{Loaded, ToolError};
use serde_json::{Value, json};

use super::check;
use super::run::profile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

pub use version::Step;

/// Which two files.
#[derive(Clone, Debug, Args)]
pub struct DiffOptions {
    /// The component that callers know
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The component that is to take its place
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The step it needs.
    pub step: Step,
    /// Of what, e.g. ``docker.ps args `limit` ``.
    pub place: String,
    /// What.
    pub what: String,
    /// The operator has to agree: an update that asks for more waits for approval.
    pub widens_grant: bool,
}

pub(super) fn command(options: &DiffOptions, sink: &Sink) -> Result<Exit, Failure> {
    let (old, new) = (open(&options.old)?, open(&options.new)?);
    let (before, after) = (old.manifest(), new.manifest());
    let mut changes = manifest::changes(before, after);
    changes.extend(plans(&old, &new)?);
    if changes.is_empty() && old.digest() != new.digest() {
        let what = "the bytes are others, and nothing else is".to_owned();
        changes.push(Change { step: Step::Patch, place: "file".to_owned(), what, widens_grant: false });
    }
    // The largest first; within one step as they were found.
    changes.sort_by_key(|change| std::cmp::Reverse(change.step));
    let needed = changes.iter().map(|change| change.step).max().unwrap_or(Step::None);
    let made = Step::between(&before.version, &after.version);
    let enough = made >= needed;
    let listed: Vec<Value> = changes
        .iter()
        .map(|Change { step, place, what, widens_grant }| {
            json!({ "step": step.as_str(), "place": place, "what": what, "widens_grant": widens_grant })
        })
        .collect();
    let answer = json!({
        "ok": enough, "old": before.version, "new": after.version, "needs": needed.as_str(), "makes": made.as_str(),
        "widens_grants": changes.iter().any(|change| change.widens_grant), "changes": listed,
    });
    sink.one(&answer, needed.as_str(), || {
        let mut page = page(&changes);
        let line = format!(
            "{} {} to {} is a {made} step; the changes need {}: {}",
            after.name,
            before.version,
            after.version,
            needed,
            if enough { "enough" } else { "TOO SMALL" },
        );
        page.push_str(&(escape::line(&line) + "\n"));
        page
    })?;
    Ok(if enough { Exit::Ok } else { Exit::Error })
}

fn page(changes: &[Change]) -> String {
    let lines = changes.iter().map(|Change { step, place, what, widens_grant }| {
        let flag = if *widens_grant { " (asks for more: waits for approval)" } else { "" };
        escape::line(&format!("{step:<5}  {place}: {what}{flag}")) + "\n"
    });
    lines.collect()
}

fn open(file: &Path) -> Result<Loaded, Failure> {
    let bytes = super::read(file)?;
    Loaded::open(&bytes, &super::file_name(file)).map_err(|error| failed(file, error))
}

pub(super) fn failed(file: &Path, error: ToolError) -> Failure {
    match error {
        ToolError::Refused(refusal) => {
            let page = check::page(&refusal);
            Failure::new(Exit::Error, format!("{}\n{}", escape::line(&file.display().to_string()), page.trim_end()))
        }
        error => Failure::new(Exit::Error, escape::line(&error.to_string())),
    }
}

/// What examples of the old version are planned as now, on a Linux machine with Docker.
fn plans(old: &Loaded, new: &Loaded) -> Result<Vec<Change>, Failure> {
    let machine = profile("")?;
    let kept: BTreeMap<&str, ()> = new.manifest().verbs.iter().map(|verb| (verb.name.as_str(), ())).collect();
    let mut changes = Vec::new();
    for verb in old.manifest().verbs.iter().filter(|verb| kept.contains_key(verb.name.as_str())) {
        let Some(name) = VerbName::parse(&verb.name) else { continue };
        for (number, example) in verb.examples.iter().enumerate() {
            let planned = |loaded: &Loaded| {
                let planned = loaded.plan(&name, &machine, &example.args, None);
                planned.map(|planned| planned.answer).map_err(|error| Failure::new(Exit::Error, error.to_string()))
            };
            // An example that had no plan has nothing to lose.
            let Ok(before) = planned(old)? else { continue };
            let place = format!("{} plan of example {}", verb.name, number + 1);
            let change = |step, what| Change { step, place: place.clone(), what, widens_grant: false };
            match planned(new)? {
                Err(error) => changes.push(change(Step::Major, format!("is refused now: {error}"))),
                Ok(after) => {
                    let value = |plan| serde_json::to_value(plan).unwrap_or_default();
                    let lines = golden::differences("plan", &value(before), &value(after));
                    if !lines.is_empty() {
                        changes.push(change(Step::Minor, lines.join("; ")));
                    }
                }
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_step_the_place_and_what_the_operator_must_agree_to() {
        let change = |step, what: &str, widens_grant| Change {
            step,
            place: "docker.ps args `limit`".into(),
            what: what.into(),
            widens_grant,
        };
        insta::assert_snapshot!(page(&[change(Step::Major, "is gone\u{1b}[2J", false), change(Step::Minor, "more", true)]), @r"
        major  docker.ps args `limit`: is gone\x1b[2J
        minor  docker.ps args `limit`: more (asks for more: waits for approval)
        ");
    }
}
