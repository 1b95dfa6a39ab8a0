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
        self.permit_effect(plan)?;
        for (index, step) in plan.steps.iter().enumerate() {
            self.rule_for(step, &step_at(index))?;
        }
        Ok(())
    }

    /// `plan` as it may run: a step that names no longest run gets that of its rule.
    ///
    /// # Errors
    /// As [`Rules::permit`].
    pub fn bound(&self, mut plan: Plan) -> Result<Plan, Denied> {
        self.permit_effect(&plan)?;
        for (index, step) in plan.steps.iter_mut().enumerate() {
            let limit = self.rule_for(step, &step_at(index))?.max_timeout_ms;
            step.timeout_ms = step.timeout_ms.or(limit);
        }
        Ok(plan)
    }

    /// Says whether `plan`, made earlier, is still what [`Rules::bound`] would make of it.
    ///
    /// # Errors
    /// As [`Rules::permit`], and a step that names no longest run although there is one.
    pub fn cover(&self, plan: &Plan) -> Result<(), Denied> {
        self.permit_effect(plan)?;
        for (index, step) in plan.steps.iter().enumerate() {
            let rule = self.rule_for(step, &step_at(index))?;
            if let (Some(limit), None) = (rule.max_timeout_ms, step.timeout_ms) {
                let message = format!("no longest run is named, and `{}` may run {limit} ms", rule.program);
                return Err(Denied { pointer: format!("{}/timeout_ms", step_at(index)), message });
            }
        }
        Ok(())
    }

    fn permit_effect(&self, plan: &Plan) -> Result<(), Denied> {
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
mod tests {
    use super::*;

    fn step(program: &str, args: &[&str]) -> Step {
        Step { args: args.iter().map(|a| (*a).to_owned()).collect(), ..Step::new(program) }
    }

    fn rule(program: &str, args: &[&[&str]]) -> ProgramRule {
        let args = args.iter().map(|list| list.iter().map(|a| (*a).to_owned()).collect()).collect();
        ProgramRule { args, ..ProgramRule::any_args(program) }
    }

    #[track_caller]
    fn check(rules: &[ProgramRule], step: Step, denied_at: Option<&str>) {
        let rules = Rules { effects: vec![Effect::Read], programs: rules.to_vec() };
        let plan = Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
        let found = rules.permit(&plan).err().map(|denied| denied.pointer);
        assert_eq!(found.as_deref(), denied_at);
    }

    #[test]
    fn empty_rules_allow_nothing() {
        let plan =
            Plan { steps: vec![Step::new("true")], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
        assert_eq!(Rules::default().permit(&plan).err().map(|d| d.pointer), Some("/effect".into()));
        check(&[], Step::new("true"), Some("/steps/0/program"));
        check(&[rule("true", &[])], Step::new("true"), Some("/steps/0/args"));
    }

    #[test]
    fn argument_patterns_match_item_by_item() {
        let docker = [rule("docker", &[&["ps", "**"], &["logs", "--tail=*", "*"]])];
        check(&docker, step("docker", &["ps"]), None);
        check(&docker, step("docker", &["ps", "-a", "--no-trunc"]), None);
        check(&docker, step("docker", &["logs", "--tail=5", "web"]), None);
        check(&docker, step("docker", &["logs", "web"]), Some("/steps/0/args"));
        check(&docker, step("docker", &["rm", "ps"]), Some("/steps/0/args"));
        check(&docker, step("dockerd", &["ps"]), Some("/steps/0/program"));
    }

    #[test]
    fn a_path_is_meant_by_the_rule_that_maps_to_it_and_by_no_other() {
        let uname = ProgramRule { path: Some("/usr/bin/uname".into()), ..ProgramRule::any_args("uname") };
        check(std::slice::from_ref(&uname), step("/usr/bin/uname", &["-a"]), None);
        check(&[uname], step("/tmp/uname", &[]), Some("/steps/0/program"));
    }

    #[test]
    fn env_cwd_stdin_and_time_are_denied_unless_named() {
        let mut rule = ProgramRule::any_args("env");
        let mut step = Step::new("env");
        step.env.insert("LANG".into(), "C".into());
        check(&[rule.clone()], step.clone(), Some("/steps/0/env"));
        rule.env = vec!["LA*".into()];
        step.cwd = Some("/srv/app".into());
        check(&[rule.clone()], step.clone(), Some("/steps/0/cwd"));
        rule.cwd = vec!["/srv".into()];
        step.stdin = Some("x".into());
        check(&[rule.clone()], step.clone(), Some("/steps/0/stdin"));
        rule.stdin = true;
        rule.max_timeout_ms = Some(10);
        step.timeout_ms = Some(11);
        check(&[rule.clone()], step.clone(), Some("/steps/0/timeout_ms"));
        step.timeout_ms = Some(10);
        check(&[rule.clone()], step.clone(), None);
        step.cwd = Some("/srvother".into());
        check(&[rule], step, Some("/steps/0/cwd"));
    }

    #[test]
    fn a_step_that_names_no_longest_run_gets_that_of_the_first_rule_that_allows_all_of_it() {
        let limited = |limit, env: &[&str]| ProgramRule {
            max_timeout_ms: limit,
            env: env.iter().map(|name| (*name).to_owned()).collect(),
            ..ProgramRule::any_args("env")
        };
        let rules =
            Rules { effects: vec![Effect::Read], programs: vec![limited(Some(10), &[]), limited(Some(20), &["LANG"])] };
        let plan = |steps| Plan { steps, effect: Effect::Read, locks: Vec::new(), summary: String::new() };
        let mut other = Step::new("env");
        other.env.insert("LANG".into(), "C".into());
        let short = Step { timeout_ms: Some(3), ..other.clone() };
        let bound = rules.bound(plan(vec![Step::new("env"), other.clone(), short])).expect("allowed");
        let longest: Vec<_> = bound.steps.iter().map(|step| step.timeout_ms).collect();
        assert_eq!(longest, [Some(10), Some(20), Some(3)]);
        assert_eq!(rules.cover(&bound), Ok(()));
        // Made when there was no limit: whoever runs it may bound it, whoever sends it asks for another.
        let loose = plan(vec![other]);
        assert_eq!(rules.permit(&loose), Ok(()));
        assert_eq!(
            rules.cover(&loose).expect_err("unbounded").to_string(),
            "/steps/0/timeout_ms: no longest run is named, and `env` may run 20 ms"
        );
        let long = plan(vec![Step { timeout_ms: Some(21), ..Step::new("env") }]);
        for denied in [rules.permit(&long).err(), rules.bound(long.clone()).err(), rules.cover(&long).err()] {
            assert_eq!(denied.expect("too long").pointer, "/steps/0/timeout_ms");
        }
    }

    #[test]
    fn rules_go_beyond_others_by_what_they_allow_and_no_line_less() {
        let rules = |effects: &[Effect], programs: &[ProgramRule]| Rules {
            effects: effects.to_vec(),
            programs: programs.to_vec(),
        };
        let (read, change) = (Effect::Read, Effect::Change);
        let ps = rule("docker", &[&["ps", "**"]]);
        let held = rules(&[read], std::slice::from_ref(&ps));
        for (asked, wider) in [
            (held.clone(), vec![]),
            (rules(&[], &[]), vec![]),
            (rules(&[read], &[rule("docker", &[&["ps", "-a"]])]), vec![]),
            (rules(&[read], &[rule("docker", &[&["ps", "*", "**"]])]), vec![]),
            (rules(&[read, change], std::slice::from_ref(&ps)), vec!["effect `change`"]),
            (rules(&[read], &[ps.clone(), rule("rm", &[])]), vec!["program `rm`"]),
            (rules(&[read], &[rule("docker", &[&["**"]])]), vec!["program `docker` with other arguments"]),
            (rules(&[read], &[rule("docker", &[&["p*"]])]), vec!["program `docker` with other arguments"]),
            (rules(&[read], &[ProgramRule::any_args("*")]), vec!["program `*`"]),
            (
                rules(&[read], &[ProgramRule { env: vec!["A".into()], stdin: true, ..ps.clone() }]),
                vec!["program `docker` with more variables, standard input"],
            ),
            (
                rules(&[read], &[ProgramRule { cwd: vec!["/srv".into()], max_timeout_ms: Some(5), ..ps.clone() }]),
                vec!["program `docker` with more directories"],
            ),
        ] {
            assert_eq!(asked.beyond(&held), wider);
        }
        let limited = ProgramRule { max_timeout_ms: Some(5), cwd: vec!["/srv".into()], env: vec!["L*".into()], ..ps };
        let held = rules(&[read], std::slice::from_ref(&limited));
        let narrower = ProgramRule {
            max_timeout_ms: Some(4),
            cwd: vec!["/srv/app".into()],
            env: vec!["LANG".into(), "LC_*".into()],
            ..limited.clone()
        };
        assert_eq!(rules(&[read], &[narrower]).beyond(&held), Vec::<String>::new());
        let longer = ProgramRule { max_timeout_ms: None, ..limited };
        assert_eq!(rules(&[read], &[longer]).beyond(&held), ["program `docker` with a longer run"]);
        assert_eq!(rules(&[read], &[ProgramRule::any_args("*")]).beyond(&Rules::default()).len(), 2);
    }

    #[test]
    fn a_denial_says_which_rule_said_no() {
        let read = ProgramRule { cwd: vec!["/srv".into()], ..rule("docker", &[&["ps", "**"]]) };
        let slow = ProgramRule { max_timeout_ms: Some(100), env: vec!["LANG".into()], ..rule("*-compose", &[&["up"]]) };
        let rules = Rules { effects: vec![Effect::Read], programs: vec![rule("uname", &[]), read, slow] };
        let at = |change: fn(&mut Step), program: &str, args: &[&str]| {
            let mut step = step(program, args);
            change(&mut step);
            let plan = Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: String::new() };
            rules.permit(&plan).err().map(|denied| denied.to_string()).unwrap_or_default()
        };
        for (change, program, args, told) in [
            ((|_| ()) as fn(&mut Step), "docker", ["ps"].as_slice(), ""),
            (
                |_| (),
                "docker",
                &["rm", "-f"],
                "/steps/0/args: these arguments are not among those allowed for `docker` (rule 2 of 3)",
            ),
            (
                |s| s.cwd = Some("/etc".into()),
                "docker",
                &["ps"],
                "/steps/0/cwd: directory `/etc` is not allowed for `docker` (rule 2 of 3)",
            ),
            (
                |s| s.cwd = Some("/srv/../etc".into()),
                "docker",
                &["rm"],
                "/steps/0/args: these arguments are not among those allowed for `docker` (rule 2 of 3)",
            ),
            (
                |s| s.stdin = Some(String::new()),
                "docker",
                &["ps"],
                "/steps/0/stdin: standard input is not allowed for `docker` (rule 2 of 3)",
            ),
            (|s| _ = s.env.insert("LANG".into(), "C".into()), "x-compose", &["up"], ""),
            (
                |s| _ = s.env.insert("LD_PRELOAD".into(), "x".into()),
                "x-compose",
                &["up"],
                "/steps/0/env: variable `LD_PRELOAD` is not allowed for `*-compose` (rule 3 of 3)",
            ),
            (
                |s| s.timeout_ms = Some(101),
                "x-compose",
                &["up"],
                "/steps/0/timeout_ms: 101 ms is over the 100 ms allowed for `*-compose` (rule 3 of 3)",
            ),
            (
                |_| (),
                "uname",
                &["-a"],
                "/steps/0/args: these arguments are not among those allowed for `uname` (rule 1 of 3)",
            ),
            (|_| (), "rm", &["-rf", "/"], "/steps/0/program: program `rm` is not in the list of allowed programs"),
        ] {
            assert_eq!(at(change, program, args), told, "{program} {args:?}");
        }
    }

    #[test]
    fn every_step_and_the_effect_of_the_whole_are_judged() {
        let rules = Rules { effects: vec![Effect::Read, Effect::Destroy], programs: vec![rule("uname", &[&["**"]])] };
        let denied = |effect, programs: &[&str]| {
            let steps = programs.iter().map(|program| Step::new(*program)).collect();
            let plan = Plan { steps, effect, locks: Vec::new(), summary: String::new() };
            rules.permit(&plan).err().map(|denied| denied.to_string()).unwrap_or_default()
        };
        assert_eq!(denied(Effect::Destroy, &["uname", "uname"]), "");
        assert!(denied(Effect::Read, &["uname", "sh"]).starts_with("/steps/1/program: program `sh`"));
        for effect in [Effect::Change, Effect::Host] {
            let told = format!("/effect: effect `{effect}` is not allowed (allowed: read, destroy)");
            assert_eq!(denied(effect, &["uname"]), told);
        }
    }

    #[test]
    fn stars_match_any_run_and_nothing_else() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("**", "x", true),
            ("a**b", "ab", true),
            ("", "", true),
            ("", "x", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
