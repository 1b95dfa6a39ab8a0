//! `docker.stop`: containers come to their end.

use viworks_sdk::prelude::*;

use crate::container::{Refused, docker, sorted};
use crate::spelling::{NAME, count};

/// Stops containers: asks their programs to end, and kills those that do not.
#[derive(Args)]
pub struct Stop {
    /// Their names or ids.
    #[arg(length = 1..=100, items(length = 1..=255, pattern = NAME), example = json!(["web"]))]
    containers: Vec<String>,
    /// Seconds that a program has to end by itself; the container's own, mostly 10, when absent. Leave the
    /// command a longer run timeout than this.
    #[arg(range = 0..=3600, example = 30)]
    timeout: Option<u32>,
}

/// What became of each.
#[derive(Output)]
pub struct Stopped {
    /// Those that do not run now, as they were asked for; some may not have run before.
    stopped: Vec<String>,
    /// Those that docker did not stop, and why.
    failed: Vec<Refused>,
}

#[verb(
    name = "docker.stop",
    effect = Change,
    needs = "docker",
    idempotent,
    timeout = "2m",
    example = json!({ "containers": ["web", "db"], "timeout": 30 }),
    golden(
        args = json!({ "containers": ["web", "nosuch"], "timeout": 1 }),
        exit_code = 1,
        stdout = "web\n",
        stderr = "Error response from daemon: No such container: nosuch\n",
        result = json!({
            "stopped": ["web"],
            "failed": [{ "container": "nosuch", "reason": "there is no container `nosuch` on this machine" }]
        }),
    ),
)]
impl Verb for Stop {
    type Output = Stopped;

    fn plan(&self, _: &Context) -> Result<Plan> {
        let draft = docker("stop");
        match self.timeout {
            // The long form has another name in newer clients.
            Some(seconds) => draft.arg("-t").arg(seconds),
            None => draft,
        }
        .operand(&self.containers)
        .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Stopped> {
        let (stopped, failed) = sorted(&self.containers, out)?;
        Ok(Stopped { stopped, failed })
    }

    fn summarize(&self, _: &Outputs, result: &Stopped) -> String {
        let done = format!("{} stopped", count(result.stopped.len(), "container"));
        match result.failed.as_slice() {
            [] => done,
            [one] if result.stopped.is_empty() => one.reason.clone(),
            [first, ..] => format!("{done}, {} not: {}", result.failed.len(), first.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn the_time_to_end_is_passed_on() {
        let plan = test::plan::<Stop>(json!({ "containers": ["web", "db"], "timeout": 0 })).expect("accepted");
        assert_eq!(plan.steps[0].args, ["stop", "-t", "0", "--", "web", "db"]);
        let plan = test::plan::<Stop>(json!({ "containers": ["web"] })).expect("accepted");
        assert_eq!(plan.steps[0].args, ["stop", "--", "web"]);
    }

    #[test]
    fn complaints_belong_to_those_that_were_not_stopped() {
        let out = test::exited(1).with_stdout("b\n").with_stderr(
            "Flag --time has been deprecated, use --timeout instead\nError response from daemon: No such container: a\n\
             Error response from daemon: cannot stop container: c: tried to kill container, but did not receive an exit event\n",
        );
        let answer = test::interpret::<Stop>(json!({ "containers": ["a", "b", "c"] }), &out).expect("read");
        assert_eq!(answer.result["stopped"], json!(["b"]));
        assert_eq!(answer.result["failed"][1]["container"], "c");
        assert_eq!(
            answer.result["failed"][1]["reason"],
            "cannot stop container: c: tried to kill container, but did not receive an exit event"
        );
        assert_eq!(answer.summary, "1 container stopped, 2 not: there is no container `a` on this machine");
    }

    #[test]
    fn an_absent_engine_stops_nothing() {
        let said = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?\n";
        let out = test::exited(1).with_stderr(said.repeat(2));
        let answer = test::interpret::<Stop>(json!({ "containers": ["a", "b"] }), &out).expect("judged");
        assert!(answer.result.is_null() && answer.summary.starts_with("the docker engine at unix:///x"));
    }
}
