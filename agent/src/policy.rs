//! `policy.toml`: what this machine lets anybody do with it. The last word, whatever the host says.
//!
//! ```toml
//! effects = ["read", "change"]     # effect classes a plan may have; none when absent
//! max_concurrency = 4              # attempts at once
//! [programs.uname]
//! path = "/usr/bin/uname"          # PATH is never read
//! args = [["-a"], ["-r", "**"]]    # accepted argument lists; any when absent
//! env = ["LANG", "LC_*"]           # variables a step may set; none when absent
//! cwd = ["/srv"]                   # directories a step may run in; none but the agent's own when absent
//! stdin = false
//! max_timeout_ms = 60000
//! ```
//!
//! Invariant: nothing is allowed that no line names; a program runs from the file that was found when
//! the policy was loaded.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use plan::effect::Effect;
use plan::policy::{Denied, ProgramRule, Rules};
use plan::step::{Plan, Step, is_clean_absolute, is_program};
use serde::Deserialize;
use toml::Spanned;

use crate::document::{Document, DocumentError, others_may_write};
use crate::supervisor::protocol::LaunchStep;

/// Attempts at once, unless the policy says otherwise.
pub const DEFAULT_CONCURRENCY: u32 = 4;
/// Most attempts at once a policy may allow.
pub const MAX_CONCURRENCY: u32 = 1024;

/// What one machine allows. The default allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rules every plan is held against.
    pub rules: Rules,
    /// Attempts at once.
    pub max_concurrency: u32,
    /// Environment of every container step, over what its plan says: where the engine is.
    pub engine_env: BTreeMap<String, String>,
    /// The real file behind each configured path.
    files: BTreeMap<String, String>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            rules: Rules::default(),
            max_concurrency: DEFAULT_CONCURRENCY,
            engine_env: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    effects: Vec<Spanned<String>>,
    max_concurrency: Option<Spanned<u32>>,
    programs: BTreeMap<String, Program>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    path: Spanned<String>,
    args: Option<Vec<Vec<String>>>,
    #[serde(default)]
    env: Vec<Spanned<String>>,
    #[serde(default)]
    cwd: Vec<Spanned<String>>,
    #[serde(default)]
    stdin: bool,
    max_timeout_ms: Option<Spanned<u64>>,
}

impl Policy {
    /// Reads `path` and finds every program it names.
    ///
    /// # Errors
    /// [`DocumentError`], with file and line; a program that is missing, or that others may overwrite,
    /// is such an error.
    pub fn load(path: &Path) -> Result<Policy, DocumentError> {
        let document = Document::open(path)?;
        let file: File = document.parse()?;
        let mut policy = Policy::default();
        for name in file.effects {
            let effect = Effect::parse(name.get_ref()).ok_or_else(|| {
                let message = format!("effect `{}` is none of read, change, destroy, host", name.get_ref());
                document.fault(name.span().start, message)
            })?;
            policy.rules.effects.push(effect);
        }
        if let Some(count) = file.max_concurrency {
            if !(1..=MAX_CONCURRENCY).contains(count.get_ref()) {
                let message = format!("max_concurrency {} is not 1 to {MAX_CONCURRENCY}", count.get_ref());
                return Err(document.fault(count.span().start, message));
            }
            policy.max_concurrency = count.into_inner();
        }
        for (name, program) in file.programs {
            let at = program.path.span().start;
            let fault = |offset, message: String| document.fault(offset, format!("programs.{name}: {message}"));
            if name.starts_with('/') || !is_program(&name) {
                let rule = "a program's name is letters, digits and . _ + -, not starting with - or .";
                return Err(fault(at, rule.to_owned()));
            }
            let real = find_program(program.path.get_ref()).map_err(|message| fault(at, message))?;
            if let Some(bad) = program.cwd.iter().find(|cwd| !is_clean_absolute(cwd.get_ref())) {
                let message = format!("cwd `{}` is not an absolute path without empty, . or .. parts", bad.get_ref());
                return Err(fault(bad.span().start, message));
            }
            if let Some(bad) = program.env.iter().find(|name| !is_env_pattern(name.get_ref())) {
                let message =
                    format!("env `{}` is not a variable's name, with or without a * at its end", bad.get_ref());
                return Err(fault(bad.span().start, message));
            }
            if let Some(limit) = program.max_timeout_ms.as_ref().filter(|limit| *limit.get_ref() == 0) {
                return Err(fault(limit.span().start, "max_timeout_ms is 0; give it at least 1 ms".to_owned()));
            }
            let path = program.path.into_inner();
            policy.files.insert(path.clone(), real);
            let any = ProgramRule::any_args(name);
            policy.rules.programs.push(ProgramRule {
                path: Some(path),
                args: program.args.unwrap_or_else(|| any.args.clone()),
                env: program.env.into_iter().map(Spanned::into_inner).collect(),
                cwd: program.cwd.into_iter().map(Spanned::into_inner).collect(),
                stdin: program.stdin,
                max_timeout_ms: program.max_timeout_ms.map(Spanned::into_inner),
                ..any
            });
        }
        Ok(policy)
    }

    /// Turns a plan into processes, if every step is allowed.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn resolve(&self, plan: &Plan) -> Result<Vec<LaunchStep>, Denied> {
        self.rules.permit_effect(plan)?;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, step) in plan.steps.iter().enumerate() {
            let at = format!("/steps/{index}");
            let rule = self.rule_for(step, &at)?;
            let path = rule.path.as_deref().unwrap_or_default();
            let Some(program) = self.files.get(path) else {
                let message = format!("program `{}` is not mapped to a file", step.program);
                return Err(Denied { pointer: format!("{at}/program"), message });
            };
            let mut env = step.env.clone();
            if is_container_program(&rule.program) {
                env.extend(self.engine_env.clone());
            }
            steps.push(LaunchStep {
                program: program.clone(),
                name: path.to_owned(),
                args: step.args.clone(),
                env,
                cwd: step.cwd.clone(),
                stdin: step.stdin.clone(),
                timeout_ms: [step.timeout_ms, rule.max_timeout_ms].into_iter().flatten().min(),
            });
        }
        Ok(steps)
    }

    /// The line by which `step` may run. For how long it wants to is nothing to refuse: it is ended when it may no longer.
    ///
    /// # Errors
    /// What of the step no line allows.
    pub fn rule_for(&self, step: &Step, at: &str) -> Result<&ProgramRule, Denied> {
        self.rules.rule_for(&Step { timeout_ms: None, ..step.clone() }, at)
    }

    /// The real file behind a program's name, for probing what it can do.
    pub fn file(&self, name: &str) -> Option<&str> {
        let rule = self.rules.programs.iter().find(|rule| rule.program == name)?;
        self.files.get(rule.path.as_deref()?).map(String::as_str)
    }

    /// Whether any program besides the container tools may run.
    pub fn allows_exec(&self) -> bool {
        self.rules.programs.iter().any(|rule| !is_container_program(&rule.program))
    }

    /// A policy that allows `effects` and runs `programs`, given as name and path.
    ///
    /// # Errors
    /// A sentence naming the program that cannot be used.
    pub fn of(effects: &[Effect], programs: &[(&str, &str)]) -> Result<Policy, String> {
        let mut policy = Policy::default();
        policy.rules.effects = effects.to_vec();
        for (name, path) in programs {
            policy.files.insert((*path).to_owned(), find_program(path)?);
            let rule = ProgramRule { path: Some((*path).to_owned()), ..ProgramRule::any_args(*name) };
            policy.rules.programs.push(rule);
        }
        Ok(policy)
    }
}

fn is_container_program(name: &str) -> bool {
    matches!(name, "docker" | "docker-compose")
}

fn is_env_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    (text.ends_with('*') && name.is_empty()) || plan::step::is_env_name(name)
}

/// Follows links to the file that will run, and refuses one that somebody else could replace.
fn find_program(path: &str) -> Result<String, String> {
    if !is_clean_absolute(path) || path == "/" {
        return Err(format!("path `{path}` is not an absolute path without empty, . or .. parts"));
    }
    let real = std::fs::canonicalize(path).map_err(|error| format!("cannot find `{path}`: {error}"))?;
    let metadata = std::fs::metadata(&real).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!("`{path}` is not an executable file"));
    }
    if others_may_write(&metadata) {
        let mode = metadata.mode() & 0o7777;
        return Err(format!("`{}` may be written by others (mode {mode:04o}); chmod go-w it", real.display()));
    }
    for folder in real.ancestors().skip(1) {
        let mode = std::fs::metadata(folder).map_err(|error| format!("cannot read `{}`: {error}", folder.display()))?;
        // The sticky bit keeps people from replacing each other's files, as in /tmp.
        if mode.mode() & 0o002 != 0 && mode.mode() & 0o1000 == 0 {
            return Err(format!("`{path}` lies in `{}`, where everybody may replace files", folder.display()));
        }
    }
    real.into_os_string().into_string().map_err(|_| format!("the file behind `{path}` has a name that is not UTF-8"))
}
