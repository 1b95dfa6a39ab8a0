//! What a plugin says of itself, and the grants it asks for.

use plan::manifest::{ABI, Manifest};
use plan::policy::{ProgramRule, Rules};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::verb::Entry;
use crate::{Effect, schema};

pub use plan::manifest::{Example, Golden, VerbManifest};

/// A whole plugin. Made by `plugin!` as `PLUGIN`.
#[derive(Clone, Copy)]
pub struct Plugin {
    /// Identity: `[a-z][a-z0-9_-]{0,62}`.
    pub name: &'static str,
    /// Semantic version.
    pub version: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Its verbs.
    pub verbs: &'static [Entry],
    /// The programs its plans run.
    pub grants: fn() -> Vec<ProgramRule>,
    /// Effects that its plans may raise to, besides its verbs' own.
    pub effects: &'static [Effect],
    /// The schema of its configuration, if it takes one.
    pub config_schema: Option<fn() -> Value>,
}

impl Plugin {
    /// The manifest that `describe` answers.
    pub fn manifest(&self) -> Manifest {
        let named = |effect: &Effect| self.effects.contains(effect) || self.verbs.iter().any(|v| v.effect == *effect);
        Manifest {
            abi: ABI.to_owned(),
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            summary: self.summary.to_owned(),
            verbs: self.verbs.iter().map(Entry::manifest).collect(),
            grants: Rules { effects: Effect::ALL.into_iter().filter(named).collect(), programs: (self.grants)() },
            config_schema: self.config_schema.map(|config| {
                let mut config = config();
                if let Value::Object(object) = &mut config {
                    object.insert("$schema".into(), schema::DIALECT.into());
                }
                config
            }),
        }
    }

    /// The verb called `name`.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn verb(&self, name: &str) -> Result<&Entry> {
        self.verbs.iter().find(|verb| verb.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.verbs.iter().map(|verb| verb.name).collect();
            Failure::unsupported(format!("no verb `{name}` here; there are: {}", names.join(", ")))
        })
    }
}

/// Asks the operator to allow a program, with any arguments unless [`Grant::args`] says which.
///
/// ```
/// use viworks_sdk::manifest::{Grant, allow};
/// use viworks_sdk::prelude::*;
///
/// let rule: Grant = allow("docker").args(["ps", "**"]).args(["logs", "**"]).env("DOCKER_*");
/// ```
pub fn allow(program: impl Into<String>) -> Grant {
    let mut rule = ProgramRule::any_args(program);
    rule.args.clear();
    Grant { rule }
}

/// One program that the plugin's plans run, for `plugin!(grants: […])`.
#[derive(Clone, Debug)]
pub struct Grant {
    rule: ProgramRule,
}

impl Grant {
    /// One accepted argument list: `*` stands for any run of characters within an argument, a last
    /// `**` for all that follow. Call it again for a further list.
    pub fn args<const N: usize>(mut self, pattern: [&str; N]) -> Grant {
        self.rule.args.push(pattern.map(str::to_owned).to_vec());
        self
    }

    /// A variable a step may set; a trailing `*` is a prefix.
    pub fn env(mut self, name: &str) -> Grant {
        self.rule.env.push(name.to_owned());
        self
    }

    /// A directory a step may run in, with all below it.
    pub fn cwd(mut self, directory: &str) -> Grant {
        self.rule.cwd.push(directory.to_owned());
        self
    }

    /// Steps may feed the program standard input.
    pub fn stdin(mut self) -> Grant {
        self.rule.stdin = true;
        self
    }
}

impl From<Grant> for ProgramRule {
    fn from(Grant { mut rule }: Grant) -> ProgramRule {
        if rule.args.is_empty() {
            rule.args.push(vec!["**".to_owned()]);
        }
        rule
    }
}
