//! A plan: ordered steps of program and argv. Never a shell string.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::effect::Effect;

/// Most steps one plan may hold.
pub const MAX_STEPS: usize = 8;
/// Most bytes of one plan's JSON text.
pub const MAX_PLAN_BYTES: usize = 256 * 1024;
/// Most arguments of one step.
pub const MAX_ARGS: usize = 256;
/// Most bytes of one argument, environment value or directory.
pub const MAX_ARG_BYTES: usize = 32 * 1024;
/// Most bytes of all arguments of one step together.
pub const MAX_ARGV_BYTES: usize = 128 * 1024;
/// Most environment variables of one step.
pub const MAX_ENV: usize = 64;
/// Most bytes of one step's standard input.
pub const MAX_STDIN_BYTES: usize = 128 * 1024;
/// Most lock keys of one plan, and most bytes of each.
pub const MAX_LOCKS: usize = 8;
/// Most bytes of one lock key.
pub const MAX_LOCK_BYTES: usize = 128;
/// Most bytes of a plan's sentence.
pub const MAX_SUMMARY_BYTES: usize = 512;

/// What one agent is to do: steps run in order until one does not exit with 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// At least one, at most [`MAX_STEPS`].
    pub steps: Vec<Step>,
    /// The highest effect of any step.
    pub effect: Effect,
    /// Only one command at a time may hold each of these on one agent, e.g. `compose:shop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// One sentence for a person: what this does.
    pub summary: String,
}

/// One process to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A bare name (`docker`), which the agent's policy maps to one absolute path, or an absolute
    /// path that the policy lists. `PATH` is never read.
    pub program: String,
    /// Passed to the process as they are, after the program's own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The child's whole environment besides what the agent's policy adds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Absolute working directory; the agent's own work directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Text written to the child's standard input, which is then closed. Closed at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Ends this step earlier than the command's run timeout would. Milliseconds, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Step {
    /// A step that runs `program` with no arguments.
    pub fn new(program: impl Into<String>) -> Step {
        Step {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stdin: None,
            timeout_ms: None,
        }
    }
}

/// Why a plan cannot be accepted by anybody, whatever they would allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct PlanFault {
    /// JSON Pointer into the plan, e.g. `/steps/0/args/2`.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl Plan {
    /// Checks everything that holds for every plan: counts, sizes, names, no NUL.
    ///
    /// # Errors
    /// All faults, in document order; the list is never empty.
    pub fn check(&self) -> Result<(), Vec<PlanFault>> {
        let mut faults = Faults(Vec::new());
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            faults.add("/steps", format!("{} steps; a plan has 1 to {MAX_STEPS}", self.steps.len()));
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check(index, &mut faults);
        }
        if self.locks.len() > MAX_LOCKS {
            faults.add("/locks", format!("{} lock keys; at most {MAX_LOCKS}", self.locks.len()));
        }
        for (index, lock) in self.locks.iter().enumerate() {
            let printable = lock.bytes().all(|b| b.is_ascii_graphic());
            if lock.is_empty() || lock.len() > MAX_LOCK_BYTES || !printable {
                let rule = format!("a lock key is 1 to {MAX_LOCK_BYTES} printable ASCII bytes without spaces");
                faults.add(&format!("/locks/{index}"), rule);
            }
        }
        if self.summary.len() > MAX_SUMMARY_BYTES || self.summary.chars().any(char::is_control) {
            faults.add("/summary", format!("at most {MAX_SUMMARY_BYTES} bytes on one line, no control characters"));
        }
        if faults.0.is_empty() {
            let size = self.json_bytes();
            if size > MAX_PLAN_BYTES {
                faults.add("", format!("{size} bytes of JSON; a plan has at most {MAX_PLAN_BYTES}"));
            }
        }
        if faults.0.is_empty() { Ok(()) } else { Err(faults.0) }
    }
}

impl Plan {
    /// Bytes of its JSON text. Counted rather than written: a plugin, which checks its plans too, would
    /// otherwise carry a serializer for this alone.
    fn json_bytes(&self) -> usize {
        let steps: usize = self.steps.iter().map(|step| step.json_bytes() + ",".len()).sum();
        let locks = list_bytes("locks", &self.locks);
        let (effect, summary) = (text_bytes(self.effect.as_str()), text_bytes(&self.summary));
        r#"{"steps":[],"effect":,"summary":}"#.len() + steps - ",".len() + effect + locks + summary
    }
}

/// Bytes of `"name":[…],`; none for an empty list, which is left out.
fn list_bytes(name: &str, items: &[String]) -> usize {
    match items.is_empty() {
        true => 0,
        false => name.len() + r#""":[],"#.len() + items.iter().map(|item| text_bytes(item) + 1).sum::<usize>() - 1,
    }
}

/// Bytes of `text` as a JSON string.
fn text_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..32 => r"\u0000".len(),
        _ => 1,
    };
    r#""""#.len() + text.bytes().map(bytes).sum::<usize>()
}

struct Faults(Vec<PlanFault>);

impl Faults {
    fn add(&mut self, pointer: &str, message: String) {
        self.0.push(PlanFault { pointer: pointer.to_owned(), message });
    }
}

impl Step {
    fn json_bytes(&self) -> usize {
        let field = |name: &str, value: usize| r#","":"#.len() + name.len() + value;
        let mut bytes = r#"{"program":}"#.len() + text_bytes(&self.program) + list_bytes("args", &self.args);
        if !self.env.is_empty() {
            let pairs = self.env.iter().map(|(name, value)| text_bytes(name) + text_bytes(value) + ":,".len());
            bytes += field("env", "{}".len() - ",".len() + pairs.sum::<usize>());
        }
        bytes += self.cwd.as_ref().map_or(0, |cwd| field("cwd", text_bytes(cwd)));
        bytes += self.stdin.as_ref().map_or(0, |stdin| field("stdin", text_bytes(stdin)));
        bytes + self.timeout_ms.map_or(0, |limit| field("timeout_ms", limit.max(1).ilog10() as usize + 1))
    }

    /// Pointers are written when there is a fault to tell: nearly always there is none, and a plugin runs this at
    /// every call.
    fn check(&self, index: usize, faults: &mut Faults) {
        let at = |field: &str| format!("/steps/{index}/{field}");
        if !is_program(&self.program) {
            let rule = "a program is a bare name of letters, digits and . _ + - (not starting with - or .), \
                        or an absolute path without empty, . or .. parts";
            faults.add(&at("program"), rule.to_owned());
        }
        if self.args.len() > MAX_ARGS {
            faults.add(&at("args"), format!("{} arguments; at most {MAX_ARGS}", self.args.len()));
        }
        for (index, arg) in self.args.iter().enumerate() {
            check_text(arg, MAX_ARG_BYTES, &|| format!("{}/{index}", at("args")), faults);
        }
        if self.args.iter().map(String::len).sum::<usize>() > MAX_ARGV_BYTES {
            faults.add(&at("args"), format!("more than {MAX_ARGV_BYTES} bytes of arguments together"));
        }
        if self.env.len() > MAX_ENV {
            faults.add(&at("env"), format!("{} variables; at most {MAX_ENV}", self.env.len()));
        }
        for (name, value) in &self.env {
            let pointer = || format!("{}/{}", at("env"), name.replace('~', "~0").replace('/', "~1"));
            if !is_env_name(name) {
                let rule = "a variable's name is letters, digits and _, not starting with a digit, at most 128 bytes";
                faults.add(&pointer(), rule.to_owned());
            }
            check_text(value, MAX_ARG_BYTES, &pointer, faults);
        }
        if let Some(cwd) = &self.cwd {
            check_text(cwd, MAX_ARG_BYTES, &|| at("cwd"), faults);
            if !is_clean_absolute(cwd) {
                let rule = "a working directory is an absolute path without empty, . or .. parts";
                faults.add(&at("cwd"), rule.to_owned());
            }
        }
        if self.stdin.as_ref().is_some_and(|text| text.len() > MAX_STDIN_BYTES) {
            faults.add(&at("stdin"), format!("at most {MAX_STDIN_BYTES} bytes"));
        }
        if self.timeout_ms == Some(0) {
            faults.add(&at("timeout_ms"), "a timeout is at least 1 ms".to_owned());
        }
    }
}

fn check_text(text: &str, limit: usize, pointer: &dyn Fn() -> String, faults: &mut Faults) {
    if text.len() > limit {
        faults.add(&pointer(), format!("{} bytes; at most {limit}", text.len()));
    }
    if text.contains('\0') {
        faults.add(&pointer(), "holds a NUL byte, which no process argument can carry".to_owned());
    }
}

/// Whether `text` may stand as a step's program.
pub fn is_program(text: &str) -> bool {
    if text.starts_with('/') {
        return text.len() <= 4096 && is_clean_absolute(text) && text != "/" && !text.contains('\0');
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['-', '.'])
}

/// Whether `text` names an environment variable we are willing to set.
pub fn is_env_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= 128 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `path` is absolute and already in its shortest form, so that prefix rules cannot be walked around.
pub fn is_clean_absolute(path: &str) -> bool {
    let parts = path.strip_prefix('/');
    parts.is_some_and(|parts| parts.is_empty() || parts.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(step: Step) -> Plan {
        Plan { steps: vec![step], effect: Effect::Read, locks: Vec::new(), summary: "test".into() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Plan), pointers: &[&str]) {
        let mut plan = plan(Step::new("uname"));
        change(&mut plan);
        let found: Vec<String> = plan.check().err().unwrap_or_default().into_iter().map(|f| f.pointer).collect();
        assert_eq!(found, pointers);
    }

    #[test]
    fn a_plain_plan_is_accepted_and_reads_back() {
        let plan = plan(Step::new("uname"));
        assert_eq!(plan.check(), Ok(()));
        let text = serde_json::to_string(&plan).expect("plans serialize");
        assert_eq!(text, r#"{"steps":[{"program":"uname"}],"effect":"read","summary":"test"}"#);
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("reads back"), plan);
    }

    #[test]
    fn the_bytes_of_a_plan_are_counted_as_they_are_written() {
        let every: String = (0..0x300).filter_map(char::from_u32).collect();
        let mut full = Step::new("/usr/bin/env");
        full.args = vec![String::new(), "a\"b".into(), every.clone()];
        full.env = [("A".to_owned(), "1\n".to_owned()), ("B".to_owned(), String::new())].into();
        full.cwd = Some("/srv/\u{e4}".into());
        full.stdin = Some(every);
        full.timeout_ms = Some(100);
        let mut bare = Step::new("x");
        bare.timeout_ms = Some(9);
        for (steps, locks) in [
            (vec![Step::new("x")], vec![]),
            (vec![full.clone()], vec!["a:b".to_owned()]),
            (vec![bare, full], vec!["a".to_owned(), "\"".to_owned()]),
        ] {
            let plan = Plan { steps, effect: Effect::Destroy, locks, summary: "\\ \u{1}".into() };
            assert_eq!(plan.json_bytes(), serde_json::to_vec(&plan).expect("plans serialize").len());
        }
    }

    #[test]
    fn every_limit_holds_at_its_edge() {
        check(|p| p.steps.clear(), &["/steps"]);
        check(|p| p.steps = vec![Step::new("a"); MAX_STEPS], &[]);
        check(|p| p.steps = vec![Step::new("a"); MAX_STEPS + 1], &["/steps"]);
        check(|p| p.steps[0].args = vec![String::new(); MAX_ARGS], &[]);
        check(|p| p.steps[0].args = vec![String::new(); MAX_ARGS + 1], &["/steps/0/args"]);
        check(|p| p.steps[0].args = vec!["x".repeat(MAX_ARG_BYTES)], &[]);
        check(|p| p.steps[0].args = vec!["x".repeat(MAX_ARG_BYTES + 1)], &["/steps/0/args/0"]);
        check(|p| p.steps[0].args = vec!["x".repeat(MAX_ARG_BYTES); 5], &["/steps/0/args"]);
        check(|p| p.steps[0].stdin = Some("x".repeat(MAX_STDIN_BYTES)), &[]);
        check(|p| p.steps[0].stdin = Some("x".repeat(MAX_STDIN_BYTES + 1)), &["/steps/0/stdin"]);
        check(|p| p.steps[0].args = vec!["x".repeat(MAX_ARG_BYTES); 4], &[]);
        let args = |p: &mut Plan| p.steps[0].args = [vec!["x".repeat(MAX_ARG_BYTES); 4], vec!["x".into()]].concat();
        check(args, &["/steps/0/args"]);
        let env = |count: usize| {
            move |p: &mut Plan| p.steps[0].env = (0..count).map(|n| (format!("V{n}"), "x".into())).collect()
        };
        check(env(MAX_ENV), &[]);
        check(env(MAX_ENV + 1), &["/steps/0/env"]);
        check(|p| p.locks = vec!["k".into(); MAX_LOCKS], &[]);
        check(|p| p.locks = vec!["k".into(); MAX_LOCKS + 1], &["/locks"]);
        check(|p| p.locks = vec!["k".repeat(MAX_LOCK_BYTES)], &[]);
        check(|p| p.locks = vec!["k".repeat(MAX_LOCK_BYTES + 1)], &["/locks/0"]);
        check(|p| p.summary = "s".repeat(MAX_SUMMARY_BYTES), &[]);
        check(|p| p.summary = "s".repeat(MAX_SUMMARY_BYTES + 1), &["/summary"]);
        let long = |bytes: usize| {
            move |p: &mut Plan| {
                p.steps = vec![Step { args: vec!["x".repeat(MAX_ARG_BYTES - 64); 4], ..Step::new("a") }; 2];
                let left = bytes - p.json_bytes();
                p.steps[1].stdin = Some(String::new());
                p.steps[1].stdin = Some("x".repeat(left - (p.json_bytes() - (bytes - left))));
            }
        };
        check(long(MAX_PLAN_BYTES), &[]);
        check(long(MAX_PLAN_BYTES + 1), &[""]);
    }

    #[test]
    fn nothing_that_no_process_can_carry_gets_through() {
        check(|p| p.steps[0].args = vec!["a\0b".into()], &["/steps/0/args/0"]);
        check(|p| _ = p.steps[0].env.insert("A=B".into(), "x".into()), &["/steps/0/env/A=B"]);
        check(|p| _ = p.steps[0].env.insert("LD/X~".into(), "x".into()), &["/steps/0/env/LD~1X~0"]);
        check(|p| p.steps[0].timeout_ms = Some(0), &["/steps/0/timeout_ms"]);
        check(|p| p.summary = "two\nlines".into(), &["/summary"]);
        check(|p| p.locks = vec!["has space".into()], &["/locks/0"]);
    }

    #[test]
    fn programs_are_bare_names_or_clean_absolute_paths() {
        for good in ["uname", "docker-compose", "g++", "/usr/bin/env", "python3.11"] {
            assert!(is_program(good), "{good}");
        }
        for bad in ["", "-x", ".hidden", "a b", "a/b", "./a", "/", "//usr", "/usr/../bin/x", "/usr/", "a;b", "ünïx"] {
            assert!(!is_program(bad), "{bad}");
        }
        check(|p| p.steps[0].cwd = Some("relative".into()), &["/steps/0/cwd"]);
        check(|p| p.steps[0].cwd = Some("/a/../b".into()), &["/steps/0/cwd"]);
    }
}
