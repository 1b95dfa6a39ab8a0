//! Whether a plan stays within what somebody allowed. The host asks with an operator's grant, the
//! agent asks again with its own policy file; both read the same rules here.
//!
//! Invariant: an empty list allows nothing. Only what a rule names is allowed.

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::step::{Plan, Step};

/// What a plan may do. The default allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Effect classes a plan may have.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// Programs a step may run. A step is allowed where one rule allows all of it; the first that does decides how
    /// long it may run.
    #[serde(default)]
    pub programs: Vec<ProgramRule>,
}

/// One program and how it may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRule {
    /// The name a step uses; `*` stands for any run of characters, so `*` alone is any program.
    pub program: String,
    /// The absolute path behind the name. A step that names this path is meant by the rule too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Accepted argument lists. In each, an item matches one argument (`*` = any run of characters
    /// in it) and a last item `**` matches all that follow, or none. Default: any arguments.
    #[serde(default = "any_arguments")]
    pub args: Vec<Vec<String>>,
    /// Names of environment variables a step may set; a trailing `*` is a prefix. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Directories a step may run in, with all below them. Default: none but the agent's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cwd: Vec<String>,
    /// Whether a step may feed the program standard input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Longest run of one step, in milliseconds. A step that names none gets this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_timeout_ms: Option<u64>,
}

fn any_arguments() -> Vec<Vec<String>> {
    vec![vec!["**".to_owned()]]
}

impl ProgramRule {
    /// A rule that lets `program` run with any arguments and nothing else.
    pub fn any_args(program: impl Into<String>) -> ProgramRule {
        ProgramRule {
            program: program.into(),
            path: None,
            args: any_arguments(),
            env: Vec::new(),
            cwd: Vec::new(),
            stdin: false,
            max_timeout_ms: None,
        }
    }
}

/// A plan asked for something no rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct Denied {
    /// JSON Pointer into the plan, e.g. `/steps/0/program`.
    pub pointer: String,
    /// Which rule said no, with the offending value.
    pub message: String,
}

/// Where a step is in its plan.
fn step_at(index: usize) -> String {
    format!("/steps/{index}")
}

impl Rules {
    /// Says whether every step of `plan` is allowed. One that names no longest run is: whoever runs it bounds it.
    ///
    /// # Errors
    /// The first thing that is not, in document order.
    pub fn permit(&self, plan: &Plan) -> Result<(), Denied> {
        self.rules_of(plan).map(drop)
    }

    /// `plan` as it may run: a step that names no longest run gets that of its rule.
    ///
    /// # Errors
    /// As [`Rules::permit`].
    pub fn bound(&self, mut plan: Plan) -> Result<Plan, Denied> {
        let rules = self.rules_of(&plan)?;
        for (step, rule) in plan.steps.iter_mut().zip(rules) {
            step.timeout_ms = step.timeout_ms.or(rule.max_timeout_ms);
        }
        Ok(plan)
    }

    /// Says whether `plan`, made earlier for a run of `run_timeout_ms` at most, stays within these rules.
    ///
    /// # Errors
    /// As [`Rules::permit`], and a step that may run for longer than its rule says.
    pub fn cover(&self, plan: &Plan, run_timeout_ms: u64) -> Result<(), Denied> {
        for (index, (step, rule)) in plan.steps.iter().zip(self.rules_of(plan)?).enumerate() {
            let longest = step.timeout_ms.unwrap_or(run_timeout_ms).min(run_timeout_ms);
            if let Some(limit) = rule.max_timeout_ms.filter(|limit| longest > *limit) {
                let message = format!("it would run {longest} ms, and `{}` may run {limit} ms", rule.program);
                return Err(Denied { pointer: format!("{}/timeout_ms", step_at(index)), message });
            }
        }
        Ok(())
    }

    /// The rule of each step, if all of the plan is allowed.
    fn rules_of(&self, plan: &Plan) -> Result<Vec<&ProgramRule>, Denied> {
        self.permit_effect(plan)?;
        plan.steps.iter().enumerate().map(|(index, step)| self.rule_for(step, &step_at(index))).collect()
    }

    /// Says whether a plan of this effect is allowed.
    ///
    /// # Errors
    /// It is not.
    pub fn permit_effect(&self, plan: &Plan) -> Result<(), Denied> {
        if !self.effects.contains(&plan.effect) {
            let allowed: Vec<&str> = self.effects.iter().map(|effect| effect.as_str()).collect();
            let list = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            return Err(Denied {
                pointer: "/effect".into(),
                message: format!("effect `{}` is not allowed (allowed: {list})", plan.effect),
            });
        }
        Ok(())
    }

    /// The rule under which `step` may run: the first that allows all of it.
    ///
    /// # Errors
    /// What of the step no rule allows; `at` begins the pointer.
    pub fn rule_for(&self, step: &Step, at: &str) -> Result<&ProgramRule, Denied> {
        let mut nearest: Option<Denied> = None;
        for (index, rule) in self.programs.iter().enumerate().filter(|(_, rule)| rule.names(&step.program)) {
            match rule.permit(step, at) {
                Ok(()) => return Ok(rule),
                Err(Denied { pointer, message }) => {
                    let message = format!("{message} (rule {} of {})", index + 1, self.programs.len());
                    nearest = nearest.or(Some(Denied { pointer, message }));
                }
            }
        }
        Err(nearest.unwrap_or_else(|| Denied {
            pointer: format!("{at}/program"),
            message: format!("program `{}` is not in the list of allowed programs", step.program),
        }))
    }

    /// What these rules allow that `other` does not, one line each. Never too little: where two rules cannot
    /// be compared, this one counts as wider.
    pub fn beyond(&self, other: &Rules) -> Vec<String> {
        let effects = self.effects.iter().filter(|effect| !other.effects.contains(effect));
        let mut wider: Vec<String> = effects.map(|effect| format!("effect `{effect}`")).collect();
        for rule in self.programs.iter().filter(|rule| !other.programs.iter().any(|other| rule.is_within(other))) {
            let named: Vec<&ProgramRule> =
                other.programs.iter().filter(|other| glob(&other.program, &rule.program)).collect();
            wider.push(match named.as_slice() {
                [] => format!("program `{}`", rule.program),
                [only] => format!("program `{}` with {}", rule.program, rule.wider_fields(only).join(", ")),
                _ => format!("program `{}` in another way", rule.program),
            });
        }
        wider
    }
}

impl ProgramRule {
    /// Whether `other` allows whatever this rule does.
    fn is_within(&self, other: &ProgramRule) -> bool {
        glob(&other.program, &self.program) && self.wider_fields(other).is_empty()
    }

    /// Names of the fields in which this rule allows more than `other`.
    fn wider_fields(&self, other: &ProgramRule) -> Vec<&'static str> {
        let path = self.path.is_some() && self.path != other.path;
        let args = !self.args.iter().all(|list| other.args.iter().any(|wide| args_within(list, wide)));
        let env = !self.env.iter().all(|name| other.env.iter().any(|wide| env_match(wide, name)));
        let cwd = !self.cwd.iter().all(|path| other.cwd.iter().any(|wide| is_within(wide, path)));
        let time = match (self.max_timeout_ms, other.max_timeout_ms) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(asked), Some(limit)) => asked > limit,
        };
        let fields = [
            (path, "another path"),
            (args, "other arguments"),
            (env, "more variables"),
            (cwd, "more directories"),
            (self.stdin && !other.stdin, "standard input"),
            (time, "a longer run"),
        ];
        fields.into_iter().filter_map(|(wider, name)| wider.then_some(name)).collect()
    }

    fn names(&self, program: &str) -> bool {
        self.path.as_deref() == Some(program) || glob(&self.program, program)
    }

    fn permit(&self, step: &Step, at: &str) -> Result<(), Denied> {
        let deny = |field: &str, message: String| Err(Denied { pointer: format!("{at}/{field}"), message });
        if !self.args.iter().any(|pattern| args_match(pattern, &step.args)) {
            return deny("args", format!("these arguments are not among those allowed for `{}`", self.program));
        }
        if let Some(name) = step.env.keys().find(|name| !self.env.iter().any(|allowed| env_match(allowed, name))) {
            return deny("env", format!("variable `{name}` is not allowed for `{}`", self.program));
        }
        if let Some(cwd) = &step.cwd
            && !self.cwd.iter().any(|allowed| is_within(allowed, cwd))
        {
            return deny("cwd", format!("directory `{cwd}` is not allowed for `{}`", self.program));
        }
        if step.stdin.is_some() && !self.stdin {
            return deny("stdin", format!("standard input is not allowed for `{}`", self.program));
        }
        if let (Some(limit), Some(asked)) = (self.max_timeout_ms, step.timeout_ms)
            && asked > limit
        {
            return deny("timeout_ms", format!("{asked} ms is over the {limit} ms allowed for `{}`", self.program));
        }
        Ok(())
    }
}

fn args_match(pattern: &[String], args: &[String]) -> bool {
    match pattern.split_last() {
        Some((last, fixed)) if last == "**" => {
            args.len() >= fixed.len() && fixed.iter().zip(args).all(|(item, arg)| glob(item, arg))
        }
        _ => pattern.len() == args.len() && pattern.iter().zip(args).all(|(item, arg)| glob(item, arg)),
    }
}

/// Whether `wide` accepts every argument list that `list` does. A pattern matches another's text like any other
/// text: a star in `list` is met by a star in `wide` or not at all.
fn args_within(list: &[String], wide: &[String]) -> bool {
    match (list.split_last(), wide.split_last()) {
        (Some((rest, list)), Some((all, fixed))) if rest == "**" => {
            all == "**" && list.len() >= fixed.len() && fixed.iter().zip(list).all(|(wide, item)| glob(wide, item))
        }
        (_, _) => args_match(wide, list),
    }
}

fn env_match(allowed: &str, name: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => allowed == name,
    }
}

/// Whether `path` is `root` or below it. Both are clean absolute paths, checked when they were read.
fn is_within(root: &str, path: &str) -> bool {
    let root = root.trim_end_matches('/');
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `*` stands for any run of characters, everything else for itself. Linear in practice: it
/// remembers one star to come back to.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests;
