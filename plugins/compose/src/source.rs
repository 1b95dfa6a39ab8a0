//! Where a project's file comes from: in the arguments, or on the agent's machine.

use viworks_sdk::builder::Draft;
use viworks_sdk::failure::{Issues, pointer};
use viworks_sdk::prelude::*;
use viworks_sdk::step::is_clean_absolute;

use crate::file::{Node, read, variables, write};
use crate::rules::{self, Raise};

/// Most bytes of a variable's value.
const VALUE_MAX: usize = 32_768;

/// A project's file.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Given as text, read and judged.
    Given {
        /// What compose gets on its standard input.
        text: String,
        /// Compose's environment.
        env: BTreeMap<String, String>,
        /// What raises the effect of starting it.
        raises: Vec<Raise>,
    },
    /// A file of the agent's machine, which nobody here has seen.
    Path {
        /// Where it is.
        path: String,
        /// Compose's environment.
        env: BTreeMap<String, String>,
    },
}

impl Source {
    /// Reads what the caller gave; `None` when that is neither text nor path.
    ///
    /// # Errors
    /// Issues at `/file`, `/path`, `/env` or `/secret_env`.
    pub fn of(
        file: &Option<String>,
        path: &Option<String>,
        env: &BTreeMap<String, String>,
        secret_env: &BTreeMap<String, String>,
    ) -> Result<Option<Source>> {
        check_values("env", env)?;
        check_values("secret_env", secret_env)?;
        // What a file may do is judged without any values, so it makes no difference that these are not known here.
        let all = &together(env, secret_env)?;
        match (file, path) {
            (Some(_), Some(_)) => Err(Failure::issue("/path", "conflict", "give `file` or `path`, not both")),
            (None, None) if !all.is_empty() => {
                let place = if env.is_empty() { "/secret_env" } else { "/env" };
                Err(Failure::issue(place, "conflict", "variables are for a file; give `file` or `path` too"))
            }
            (None, None) => Ok(None),
            (Some(text), None) => given(text, all).map(Some),
            (None, Some(path)) => on_agent(path, all, secret_env).map(Some),
        }
    }

    /// Adds to a step where compose finds the file and its variables.
    pub fn feed(&self, step: Draft) -> Draft {
        match self {
            Source::Given { text, env, .. } => step.arg("--file=-").stdin(text).envs(env),
            Source::Path { path, env } => step.opt("--file", path).envs(env),
        }
    }

    /// What raises the effect, and the words for it. `unseen_only`: of a given file, only what matters
    /// when nothing is started.
    pub fn raised(&self, unseen_only: bool) -> Option<String> {
        match self {
            Source::Path { .. } => Some("nobody here sees what is in it".to_owned()),
            Source::Given { raises, .. } => {
                let mut raises = raises.iter().filter(|raise| raise.unseen || !unseen_only);
                let first = raises.next()?;
                let more = match raises.count() {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                Some(format!("{} {}{more}", first.pointer, first.reason))
            }
        }
    }

    /// What it is called in a sentence.
    pub fn words(&self) -> &str {
        match self {
            Source::Given { .. } => "the given file",
            Source::Path { path, .. } => path,
        }
    }
}

fn given(text: &str, env: &BTreeMap<String, String>) -> Result<Source> {
    let mut tree = read::read(text)?;
    if !matches!(tree.get("services"), Some(Node::Map(services)) if !services.is_empty()) {
        return Err(Failure::issue("/file", "services", "the file has no `services:` with at least one service"));
    }
    let raises = rules::findings(&tree);
    variables::rename(&mut tree, env);
    Ok(Source::Given { text: write::write(&tree), env: variables::prefixed(env), raises })
}

fn on_agent(path: &str, env: &BTreeMap<String, String>, secret_env: &BTreeMap<String, String>) -> Result<Source> {
    if !is_clean_absolute(path) {
        let rule = "is no absolute path without empty, . or .. parts";
        return Err(Failure::issue("/path", "path", format!("`{path}` {rule}")));
    }
    let mut issues = Issues::default();
    for name in env.keys() {
        let families = ["DOCKER_", "COMPOSE_", "LD_", "PYTHON", "VIWORKS_"];
        if families.iter().any(|family| name.starts_with(family)) || ["PATH", "HOME"].contains(&name.as_str()) {
            let message = format!("`{name}` steers compose itself and is the agent's to set");
            let place = if secret_env.contains_key(name) { "secret_env" } else { "env" };
            issues.add(pointer(&[place, name]), "name", message);
        }
    }
    issues.finish()?;
    Ok(Source::Path { path: path.to_owned(), env: env.clone() })
}

/// All variables; one that is given twice has no value that could be told.
fn together(env: &BTreeMap<String, String>, secret_env: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut issues = Issues::default();
    let mut all = env.clone();
    for (name, value) in secret_env {
        if all.insert(name.clone(), value.clone()).is_some() {
            issues.add(pointer(&["secret_env", name]), "conflict", format!("`{name}` is in `env`, too"));
        }
    }
    issues.finish()?;
    Ok(all)
}

/// What no process can carry, told where the caller wrote it and not where it stands in the plan.
fn check_values(place: &str, env: &BTreeMap<String, String>) -> Result<()> {
    let mut issues = Issues::default();
    for (name, value) in env {
        if value.contains('\0') {
            issues.add(pointer(&[place, name]), "nul", "holds a NUL byte, which no variable can carry");
        }
        if value.len() > VALUE_MAX {
            issues.add(pointer(&[place, name]), "length", format!("{} bytes; at most {VALUE_MAX}", value.len()));
        }
    }
    issues.finish()
}
