//! The `exec` plugin: one verb that runs any program. Whoever may call it owns the machine, so its
//! effect is `host`, and what it may really run is for the operator's grant and the agent's policy.

use viworks_sdk::prelude::*;

/// Runs one program with an exact argument list. No shell reads it.
#[derive(Args)]
pub struct Run {
    /// A bare name, which the agent's policy maps to a path, or an absolute path that it lists.
    #[arg(length = 1..=4096)]
    pub program: String,
    /// Arguments, passed as they are.
    #[arg(default, allow_dash, length = ..=256, items(length = ..=32768))]
    pub args: Vec<String>,
    /// Environment variables, besides what the agent's policy sets.
    #[arg(default, length = ..=64, keys(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,127}$"))]
    pub env: BTreeMap<String, String>,
    /// More of them, whose values nobody but the program sees: kept encrypted, shown as placeholders.
    #[arg(default, length = ..=64, keys(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,127}$"), items(secret))]
    pub secret_env: BTreeMap<String, String>,
    /// Absolute working directory.
    #[arg(pattern = "^/", length = 1..=4096)]
    pub cwd: Option<String>,
    /// Text for standard input, which is closed after it.
    #[arg(length = ..=131072)]
    pub stdin: Option<String>,
}

/// How the program ended and what it printed.
#[derive(Output)]
pub struct Ran {
    /// Exit code; absent when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output as kept, with what is not UTF-8 replaced.
    pub stdout: String,
    /// Standard error as kept, with what is not UTF-8 replaced.
    pub stderr: String,
    /// Whether something in the middle of standard output is not kept.
    pub stdout_truncated: bool,
    /// Whether something in the middle of standard error is not kept.
    pub stderr_truncated: bool,
    /// From spawn to exit, in milliseconds.
    pub duration_ms: u64,
}

#[verb(
    name = "exec.run",
    effect = Host,
    needs = "exec",
    cancel = LeavesEffects,
    timeout = "60s",
    example = json!({ "program": "cat", "stdin": "hello", "env": { "LANG": "C" }, "cwd": "/tmp" }),
    golden(
        args = json!({ "program": "uname", "args": ["-s"] }),
        stdout = "Linux\n",
        result = json!({
            "exit_code": 0, "stdout": "Linux\n", "stderr": "",
            "stdout_truncated": false, "stderr_truncated": false, "duration_ms": 0,
        }),
    ),
    golden(
        args = json!({ "program": "false" }),
        exit_code = 1,
        result = json!({
            "exit_code": 1, "stdout": "", "stderr": "",
            "stdout_truncated": false, "stderr_truncated": false, "duration_ms": 0,
        }),
    ),
)]
impl Verb for Run {
    type Output = Ran;

    fn plan(&self, _: &Context) -> Result<Plan> {
        program(&self.program)
            .args(&self.args)
            .envs(&self.env)
            .envs(&self.secret_env)
            .cwd(&self.cwd)
            .stdin(&self.stdin)
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Ran> {
        let last = out.last();
        Ok(Ran {
            exit_code: last.and_then(|step| step.exit_code),
            signal: last.and_then(|step| step.signal),
            stdout: out.stdout().lossy().into_owned(),
            stderr: out.stderr().lossy().into_owned(),
            stdout_truncated: out.stdout_truncated,
            stderr_truncated: out.stderr_truncated,
            duration_ms: out.duration_ms(),
        })
    }
}

plugin!(
    name = "exec",
    summary = "Runs any program that the operator and the agent's own policy allow",
    verbs: [Run],
    grants: [allow("*").env("*").cwd("/").stdin()],
);

#[cfg(test)]
mod tests {
    use viworks_sdk::outputs::End;
    use viworks_sdk::test;

    use super::*;

    #[track_caller]
    fn refused(args: Value, pointers: &[&str]) {
        let failure = test::plan::<Run>(args).expect_err("refused");
        let found: Vec<&str> = failure.issues.iter().map(|issue| issue.pointer.as_str()).collect();
        assert_eq!(found, pointers, "{failure}");
    }

    #[test]
    fn a_host_would_load_this_plugin() {
        test::check(&PLUGIN);
    }

    #[test]
    fn what_a_program_left_means_what_it_meant() {
        test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn hostile_text_is_refused_or_passed_on_as_one_argument() {
        let tried = test::injections(&PLUGIN);
        assert_eq!(tried.places, 8, "{tried:?}");
        assert!(tried.refused > 50 && tried.planned > 50, "{tried:?}");
    }

    #[test]
    fn arguments_reach_the_step_as_they_are() {
        let args = json!({
            "program": "/bin/sh", "args": ["-c", "echo \"$A\"; --", "--", "", "*"],
            "env": { "A": "1 2" }, "cwd": "/srv/app", "stdin": "in\n",
        });
        let plan = test::plan::<Run>(args).expect("accepted");
        assert_eq!(plan.effect, Effect::Host);
        let [step] = plan.steps.as_slice() else { panic!("one step: {plan:?}") };
        assert_eq!(step.program, "/bin/sh");
        assert_eq!(step.args, ["-c", "echo \"$A\"; --", "--", "", "*"]);
        assert_eq!(step.env, BTreeMap::from([("A".to_owned(), "1 2".to_owned())]));
        assert_eq!((step.cwd.as_deref(), step.stdin.as_deref()), (Some("/srv/app"), Some("in\n")));
        assert_eq!(plan.summary, r#"run `/bin/sh -c "echo \"$A\"; --" -- "" *`"#);
    }

    #[test]
    fn what_cannot_run_is_refused_where_it_is_wrong() {
        refused(json!({}), &["/program"]);
        refused(json!({ "program": "uname", "shell": true }), &["/shell"]);
        refused(json!({ "program": "uname", "args": "-a" }), &["/args"]);
        refused(json!({ "program": "-rf" }), &["/program"]);
        refused(json!({ "program": "../bin/x" }), &["/program"]);
        refused(json!({ "program": "ls", "cwd": "tmp" }), &["/cwd"]);
        refused(json!({ "program": "ls", "args": ["a", "b\u{0}"] }), &["/args/1"]);
        refused(json!({ "program": "ls", "env": { "A=B": "x" } }), &["/env/A=B"]);
        refused(json!({ "program": "ls", "env": { "A": 1 } }), &["/env/A"]);
        refused(json!({ "program": "ls", "cwd": null }), &["/cwd"]);
    }

    #[test]
    fn a_failing_program_fails_with_its_output_kept() {
        let out = test::exited(3).with_stdout("part").with_stderr("first\nno such file\n");
        let answer = test::interpret::<Run>(json!({ "program": "x" }), &out).expect("read");
        assert!(!answer.succeeded);
        assert_eq!(answer.result["exit_code"], 3);
        assert_eq!(answer.result["stdout"], "part");
        assert_eq!(answer.summary, "exited with 3: no such file");
    }

    #[test]
    fn a_killed_program_has_a_signal_and_no_exit_code() {
        for (end, said) in [(End::TimedOut, "timed out"), (End::Exited, "ended by signal 9")] {
            let answer = test::interpret::<Run>(json!({ "program": "x" }), &test::ended(end)).expect("read");
            assert!(!answer.succeeded);
            assert_eq!((answer.result.get("exit_code"), &answer.result["signal"]), (None, &json!(9)));
            assert_eq!(answer.summary, said);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced_not_lost() {
        let out = test::exited(0).with_stdout(b"a\xffb");
        let answer = test::interpret::<Run>(json!({ "program": "x" }), &out).expect("read");
        assert!(answer.succeeded);
        assert_eq!(answer.result["stdout"], "a\u{fffd}b");
    }
}
