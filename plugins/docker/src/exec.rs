//! `docker.exec`: one program inside a container that runs.

use viworks_sdk::outputs::cut;
use viworks_sdk::prelude::*;

use crate::complaint;
use crate::container::{docker, failed};
use crate::spelling::{KEY, NAME, USER};

/// Runs a program inside a running container.
#[derive(Args)]
pub struct Exec {
    /// The container's name or id.
    #[arg(length = 1..=255, pattern = NAME, example = "web")]
    container: String,
    /// The program and its arguments. No shell reads them; name one to have one.
    #[arg(allow_dash, length = 1..=128, items(length = ..=32768), example = json!(["ls", "-l", "/srv"]))]
    command: Vec<String>,
    /// Who runs it: a name or number, also with a group as `user:group`; the container's own when absent.
    #[arg(length = 1..=64, pattern = USER, example = "1000:1000")]
    user: Option<String>,
    /// Absolute directory inside the container to run it in.
    #[arg(length = 1..=4096, pattern = "^/", example = "/srv")]
    workdir: Option<String>,
    /// Environment variables besides the container's own. They are visible to all who may see command lines
    /// of the machine, so no place for secrets.
    #[arg(default, length = ..=64, keys(pattern = KEY, length = ..=256), items(length = ..=32768))]
    env: BTreeMap<String, String>,
    /// Text for standard input, which is closed after it.
    #[arg(length = ..=131072)]
    stdin: Option<String>,
    /// Do not wait for it: neither its output nor its exit code is told.
    #[arg(default)]
    detach: bool,
    /// Give it all powers over the machine, whatever the container has. Raises the effect to `host`.
    #[arg(default)]
    privileged: bool,
}

/// How a program ended and what it printed.
#[derive(Output, Debug, PartialEq)]
pub struct Ended {
    /// The program's own exit code; absent when it was not waited for, and for 255 of `docker.exec`, which
    /// docker also says, without a word, when its engine went away meanwhile.
    pub exit_code: Option<i32>,
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

impl Ended {
    /// What a program did whose exit code docker passed on.
    pub fn of(out: &Outputs) -> Ended {
        Ended {
            exit_code: out.exit_code(),
            stdout: out.stdout().lossy().into_owned(),
            stderr: out.stderr().lossy().into_owned(),
            stdout_truncated: out.stdout_truncated,
            stderr_truncated: out.stderr_truncated,
            duration_ms: out.duration_ms(),
        }
    }
}

#[verb(
    name = "docker.exec",
    effect = Change,
    needs = "docker",
    timeout = "60s",
    example = json!({ "container": "db", "command": ["psql", "-qAt"], "user": "postgres", "stdin": "select 1" }),
    golden(
        args = json!({ "container": "web", "command": ["ls", "-la", "/bin/sh"] }),
        stdout = "lrwxrwxrwx    1 0        0               12 Nov 24 04:04 /bin/sh -> /bin/busybox\n",
        result = json!({
            "exit_code": 0,
            "stdout": "lrwxrwxrwx    1 0        0               12 Nov 24 04:04 /bin/sh -> /bin/busybox\n",
            "stderr": "", "stdout_truncated": false, "stderr_truncated": false, "duration_ms": 0
        }),
    ),
)]
impl Verb for Exec {
    type Output = Ended;

    fn plan(&self, _: &Context) -> Result<Plan> {
        if self.detach && self.stdin.is_some() {
            let message = "a program that is not waited for reads no standard input; leave one of both out";
            return Err(Failure::issue("/stdin", "conflict", message));
        }
        let draft = docker("exec")
            .flag("--detach", self.detach)
            .flag("--interactive", self.stdin.is_some())
            .flag("--privileged", self.privileged)
            .opt("--user", &self.user)
            .opt("--workdir", &self.workdir)
            .pairs("--env", &self.env)
            .operand(&self.container)
            .operand(&self.command)
            .stdin(&self.stdin);
        match self.privileged {
            true => draft.effect(Effect::Host).plan(),
            false => draft.plan(),
        }
    }

    fn interpret(&self, out: &Outputs) -> Result<Ended> {
        let stderr = out.stderr().lossy();
        let stdout = out.stdout().lossy();
        let dockers = match out.exit_code() {
            // The reason goes to where the program would have printed.
            Some(126 | 127) => [&stdout, &stderr].into_iter().find_map(|said| not_started(said)),
            Some(1) if stdout.is_empty() && stderr.lines().any(complaint::is_dockers) => return Err(failed(out)),
            Some(1) => match complaint::engine_went_away(&stderr, asked) {
                Some(lost) => return Err(Failure::not_succeeded(lost)),
                None => None,
            },
            _ => None,
        };
        match dockers {
            Some(line) => Err(Failure::not_succeeded(complaint::reword(line))),
            None => {
                let known = |code: &i32| !self.detach && *code != LOST;
                Ok(Ended { exit_code: out.exit_code().filter(known), ..Ended::of(out) })
            }
        }
    }

    fn summarize(&self, out: &Outputs, _: &Ended) -> String {
        match out.exit_code() {
            Some(LOST) => format!("{}; docker says 255 too when its engine goes away meanwhile", out.ending()),
            _ => out.ending(),
        }
    }
}

/// Why docker could not ask for the program's exit code.
fn asked(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("error during connect: ").filter(|rest| cut(rest, "/exec/").is_some())?;
    Some(cut(rest, "/json\": ").map_or(rest, |(_, why)| why))
}

/// What docker exits with when it cannot ask for the program's exit code, and what programs may exit with.
const LOST: i32 = 255;

/// Why docker could not start the program, if that is what was printed.
fn not_started(said: &str) -> Option<&str> {
    let starts = ["OCI runtime exec failed: ", "unable to find user "];
    said.lines().find(|line| starts.iter().any(|start| line.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    fn interpret(out: Outputs) -> (bool, Value, String) {
        let args = json!({ "container": "web", "command": ["nosuch"] });
        let answer = test::interpret::<Exec>(args, &out).expect("judged");
        (answer.succeeded, answer.result, answer.summary)
    }

    #[test]
    fn what_runs_stands_behind_the_container() {
        let plan = test::plan::<Exec>(json!({
            "container": "web", "command": ["-x", "--privileged", "$(id)", ""], "user": "0:0", "workdir": "/srv",
            "env": { "A": "-b", "C_D": "e=f\n" }, "stdin": "hello",
        }))
        .expect("accepted");
        let expected = [
            "exec",
            "--interactive",
            "--user=0:0",
            "--workdir=/srv",
            "--env=A=-b",
            "--env=C_D=e=f\n",
            "--",
            "web",
            "-x",
            "--privileged",
            "$(id)",
            "",
        ];
        assert_eq!((plan.steps[0].args.as_slice(), plan.effect), (&expected.map(str::to_owned)[..], Effect::Change));
        assert_eq!(plan.steps[0].stdin.as_deref(), Some("hello"));
    }

    #[test]
    fn all_powers_are_the_hosts() {
        let plan = test::plan::<Exec>(json!({ "container": "web", "command": ["id"], "privileged": true }));
        assert_eq!(plan.expect("accepted").effect, Effect::Host);
    }

    #[test]
    fn input_for_a_program_that_is_not_waited_for_is_refused() {
        let refused = test::plan::<Exec>(json!({ "container": "a", "command": ["b"], "stdin": "", "detach": true }));
        assert_eq!(refused.expect_err("refused").issues[0].pointer, "/stdin");
    }

    #[test]
    fn a_programs_failure_is_its_own() {
        let (succeeded, result, summary) = interpret(test::exited(5).with_stdout("part").with_stderr("no\n"));
        assert_eq!((succeeded, summary.as_str()), (false, "exited with 5: no"));
        assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(5), &json!("part")));
        let (_, result, _) = interpret(test::exited(127).with_stderr("sh: nosuch: not found\n"));
        assert_eq!(result["exit_code"], 127);
        for said in ["error: no such table\n", "Error: Cannot find module 'x'\n", "docker: not found\n"] {
            let (_, result, _) = interpret(test::exited(1).with_stderr(said));
            assert_eq!(result["exit_code"], 1, "{said}");
        }
    }

    #[test]
    fn what_docker_could_not_do_is_not_the_programs_failure() {
        let oci = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable \
                   file not found in $PATH: unknown\r\n";
        for (out, said) in [
            (test::exited(126).with_stdout(oci), "there is no program `nosuch` in the container"),
            (test::exited(127).with_stderr(oci), "there is no program `nosuch` in the container"),
            (
                test::exited(126).with_stderr("unable to find user nobodyx: no matching entries in passwd file\n"),
                "there is no user `nobodyx` in the container",
            ),
            (
                test::exited(1).with_stderr("Error response from daemon: Container 6ad1af7a634fd458 is not running\n"),
                "container 6ad1af7a634f is not running: start it, or name one that is",
            ),
            (
                test::exited(1).with_stderr("Error: No such container: web\n"),
                "there is no container `web` on this machine",
            ),
        ] {
            let (succeeded, result, summary) = interpret(out);
            assert_eq!((succeeded, result, summary.as_str()), (false, Value::Null, said));
        }
    }

    #[test]
    fn an_engine_that_went_away_is_not_the_programs_end() {
        let said = "error during connect: Get \"http://%2Ftmp%2Fdocker.sock/v1.41/exec/c76287a5741a/json\": read unix \
                    @->/tmp/docker.sock: read: connection reset by peer\n";
        let (succeeded, result, summary) = interpret(test::exited(1).with_stdout("tick\n").with_stderr(said));
        let words = "the docker engine went away meanwhile (read unix @->/tmp/docker.sock: read: connection reset by \
                     peer): what became of it is to be seen when it is back";
        assert_eq!((succeeded, result, summary.as_str()), (false, Value::Null, words));

        let (_, result, summary) = interpret(test::exited(255).with_stdout("tick\n"));
        assert_eq!((result.get("exit_code"), &result["stdout"]), (None, &json!("tick\n")));
        assert_eq!(summary, "exited with 255; docker says 255 too when its engine goes away meanwhile");

        // A program's own words, although they are the same as docker's elsewhere.
        let (_, result, summary) = interpret(test::exited(1).with_stdout("x").with_stderr("unexpected EOF\n"));
        assert_eq!((&result["exit_code"], summary.as_str()), (&json!(1), "exited with 1: unexpected EOF"));
    }

    #[test]
    fn a_program_that_is_not_waited_for_has_no_exit_code() {
        let args = json!({ "container": "web", "command": ["sleep", "1"], "detach": true });
        let answer = test::interpret::<Exec>(args, &test::exited(0)).expect("read");
        assert!(answer.succeeded && answer.result.get("exit_code").is_none());
    }
}
