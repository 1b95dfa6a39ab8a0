//! `docker.rm`: containers go away for good.

use viworks_sdk::prelude::*;

use crate::complaint;
use crate::container::{Refused, docker, sorted};
use crate::spelling::{NAME, count};

/// Removes containers, with what they have written and logged.
#[derive(Args)]
pub struct Rm {
    /// Their names or ids.
    #[arg(length = 1..=100, items(length = 1..=255, pattern = NAME), example = json!(["web"]))]
    containers: Vec<String>,
    /// Kill those that run, and do not mind those that do not exist.
    #[arg(default)]
    force: bool,
    /// Remove their volumes without a name too.
    #[arg(default)]
    volumes: bool,
}

/// What became of each.
#[derive(Output)]
pub struct Removed {
    /// Those that were removed, as they were asked for.
    removed: Vec<String>,
    /// With `force`, those that did not exist.
    missing: Vec<String>,
    /// Those that docker did not remove, and why.
    failed: Vec<Refused>,
}

#[verb(
    name = "docker.rm",
    effect = Destroy,
    needs = "docker",
    timeout = "2m",
    example = json!({ "containers": ["web"], "force": true, "volumes": true }),
    golden(
        args = json!({ "containers": ["web", "nosuch", "done1"] }),
        exit_code = 1,
        stdout = "done1\n",
        stderr = "Error response from daemon: You cannot remove a running container ffe46f765ccb. Stop the container before attempting removal or force remove\nError: No such container: nosuch\n",
        result = json!({
            "removed": ["done1"],
            "missing": [],
            "failed": [
                { "container": "web", "reason": "it is running: stop it first, or say `force`" },
                { "container": "nosuch", "reason": "there is no container `nosuch` on this machine" }
            ]
        }),
    ),
)]
impl Verb for Rm {
    type Output = Removed;

    fn plan(&self, _: &Context) -> Result<Plan> {
        docker("rm").flag("--force", self.force).flag("--volumes", self.volumes).operand(&self.containers).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Removed> {
        let (removed, refused) = sorted(&self.containers, out)?;
        let gone = if self.force { complaint::all_missing(out) } else { Vec::new() };
        let (mut missing, mut failed) = (Vec::new(), Vec::new());
        for refused in refused {
            match gone.contains(&refused.container) {
                true => missing.push(refused.container),
                false => failed.push(refused),
            }
        }
        Ok(Removed { removed, missing, failed })
    }

    fn summarize(&self, _: &Outputs, result: &Removed) -> String {
        let done = format!("{} removed", count(result.removed.len(), "container"));
        match result.failed.as_slice() {
            [] => done,
            [first, ..] => format!("{done}, {} not: `{}`: {}", result.failed.len(), first.container, first.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn removing_always_destroys() {
        let plan = test::plan::<Rm>(json!({ "containers": ["web"] })).expect("accepted");
        assert_eq!((plan.steps[0].args.join(" ").as_str(), plan.effect), ("rm -- web", Effect::Destroy));
        let plan = test::plan::<Rm>(json!({ "containers": ["web"], "force": true, "volumes": true }));
        assert_eq!(plan.expect("accepted").steps[0].args, ["rm", "--force", "--volumes", "--", "web"]);
    }

    #[test]
    fn with_force_a_missing_container_is_no_failure() {
        for said in ["Error: No such container: nosuch\n", "Error response from daemon: No such container: nosuch\n"] {
            let out = test::exited(0).with_stdout("web\n").with_stderr(said);
            let args = json!({ "containers": ["web", "nosuch"], "force": true });
            let answer = test::interpret::<Rm>(args, &out).expect("read");
            assert!(answer.succeeded);
            assert_eq!(answer.result, json!({ "removed": ["web"], "missing": ["nosuch"], "failed": [] }));
            assert_eq!(answer.summary, "1 container removed");
        }
    }

    #[test]
    fn the_first_that_stayed_is_named() {
        let out = test::exited(1).with_stderr(
            "Error response from daemon: cannot remove container \"/web\": container is running: stop the container \
             before removing or force remove\n",
        );
        let answer = test::interpret::<Rm>(json!({ "containers": ["web"] }), &out).expect("read");
        assert_eq!(answer.summary, "0 containers removed, 1 not: `web`: it is running: stop it first, or say `force`");
    }
}
