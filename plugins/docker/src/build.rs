//! `docker.build`: an image is made on the machine.

use viworks_sdk::prelude::*;

use crate::complaint;
use crate::container::{JSON, docker};
use crate::image::{self, Image};
use crate::mounts::is_clean;
use crate::spelling::{KEY, LABEL, PLATFORM, short, shown};

/// Builds an image from a Dockerfile, its steps running in containers.
#[derive(Args)]
pub struct Build {
    /// Names for the image, with tags.
    #[arg(length = 1..=10, items(length = 1..=255, pattern = TAG), example = json!(["shop/web:1.2"]))]
    tags: Vec<String>,
    /// The Dockerfile itself. Without a context it can copy nothing.
    #[arg(length = 1..=131072, example = "FROM alpine:3\nRUN apk add curl\n")]
    dockerfile: Option<String>,
    /// A directory of the machine that the Dockerfile may copy from: all that the agent may read. Raises the
    /// effect to `host`.
    #[arg(length = 1..=4096, pattern = "^/", example = "/srv/shop")]
    context: Option<String>,
    /// Where in the context the Dockerfile is.
    #[arg(length = 1..=1024, pattern = "^[^/]", example = "deploy/Dockerfile")]
    file: Option<String>,
    /// The stage to stop at.
    #[arg(length = 1..=128, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    target: Option<String>,
    /// Values for the Dockerfile's arguments. The image's history shows them: no place for secrets.
    #[arg(default, length = ..=64, keys(pattern = KEY, length = ..=256), items(length = ..=32768))]
    build_args: BTreeMap<String, String>,
    /// Labels for the image.
    #[arg(default, length = ..=64, keys(pattern = LABEL, length = ..=256), items(length = ..=4096))]
    labels: BTreeMap<String, String>,
    /// Which platform to build for; the machine's own when absent.
    #[arg(length = 1..=64, pattern = PLATFORM, example = "linux/arm64")]
    platform: Option<String>,
    /// The network of its steps: `none`, `default`, a network's name, or `host`, which raises the effect to
    /// `host`.
    #[arg(length = 1..=255, pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")]
    network: Option<String>,
    /// Do every step again.
    #[arg(default)]
    no_cache: bool,
    /// Ask the registries for newer base images.
    #[arg(default)]
    pull: bool,
    /// Which of docker's builders; its own choice when absent.
    builder: Option<Builder>,
}

/// An image's name that is to be given: no digest.
const TAG: &str = "^[a-z0-9][a-z0-9_.:/-]*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$";

/// One of docker's two builders.
#[derive(Choice)]
enum Builder {
    Classic,
    Buildkit,
}

#[verb(
    name = "docker.build",
    effect = Change,
    needs = "docker",
    timeout = "30m",
    example = json!({ "tags": ["shop/web:1.2"], "context": "/srv/shop", "file": "deploy/Dockerfile", "pull": true }),
    golden(
        args = json!({ "tags": ["base:1"], "dockerfile": "FROM scratch\nLABEL org.example.team=shop\n" }),
        stdout = include_str!("../golden/build.txt"),
        result = json!({
            "id": "sha256:2e5e56707bcd5bf1ba52eb318745b3e9594567e666078f2f193a97bec6c6149b",
            "tags": ["base:1"], "digests": [], "created": "2026-11-24T04:04:20.736111524Z", "size_bytes": 1985472,
            "os": "linux", "architecture": "amd64"
        }),
    ),
)]
impl Verb for Build {
    type Output = Image;

    fn plan(&self, _: &Context) -> Result<Plan> {
        self.check()?;
        let [first, ..] = self.tags.as_slice() else {
            return Err(Failure::issue("/tags", "minItems", "an image needs a name to be found by"));
        };
        let mut draft = docker("build")
            .opt("--tag", &self.tags)
            .opt("--target", &self.target)
            .pairs("--build-arg", &self.build_args)
            .pairs("--label", &self.labels)
            .opt("--platform", &self.platform)
            .opt("--network", &self.network)
            .flag("--no-cache", self.no_cache)
            .flag("--pull", self.pull)
            .stdin(&self.dockerfile);
        draft = match (&self.context, &self.dockerfile, &self.file) {
            (None, _, _) => draft.operand("-"),
            (Some(context), Some(_), _) => draft.opt("--file", "-").operand(context),
            // Docker looks from its own working directory, not from the context.
            (Some(context), None, Some(file)) => draft.opt("--file", format!("{context}/{file}")).operand(context),
            (Some(context), None, None) => draft.operand(context),
        };
        draft = match &self.builder {
            Some(Builder::Classic) => draft.env("DOCKER_BUILDKIT", "0"),
            Some(Builder::Buildkit) => draft.env("DOCKER_BUILDKIT", "1"),
            None => draft,
        };
        if self.context.is_some() || self.network.as_deref() == Some("host") {
            draft = draft.effect(Effect::Host);
        }
        // Two builds of one name would each be shown the other's image.
        let lock = format!("docker:image:{}", first.get(..100).unwrap_or(first));
        draft.lock(lock).then("docker").args(["image", "inspect", JSON]).operand(first).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Image> {
        match out.succeeded() {
            true => image::last_line(out),
            // What a step printed comes before docker's own last word.
            false => {
                let said = complaint::last(&out.stderr().lossy());
                Err(Failure::not_succeeded(said.unwrap_or_else(|| out.ending())))
            }
        }
    }

    fn summarize(&self, _: &Outputs, image: &Image) -> String {
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        format!("built {} as {}", tags.join(", "), short(&image.id))
    }
}

impl Build {
    fn check(&self) -> Result<()> {
        let mut issues = Issues::default();
        if self.context.is_none() && self.dockerfile.is_none() {
            issues.add("/dockerfile", "required", "say what to build: a `dockerfile`, a `context`, or both");
        }
        if let Some(context) = self.context.as_ref().filter(|context| !is_clean(context)) {
            let message = format!("`{}` is no absolute path without empty, `.` and `..` parts", shown(context));
            issues.add("/context", "path", message);
        }
        if let Some(file) = &self.file {
            if self.context.is_none() || self.dockerfile.is_some() {
                issues.add("/file", "conflict", "a file is found in a `context`, when no `dockerfile` is given");
            } else if !is_clean(&format!("/{file}")) {
                let message =
                    format!("`{}` is no path inside the context without empty, `.` and `..` parts", shown(file));
                issues.add("/file", "path", message);
            }
        }
        issues.finish()
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[track_caller]
    fn planned(args: Value) -> viworks_sdk::step::Plan {
        test::plan::<Build>(args).expect("accepted")
    }

    #[test]
    fn an_inline_dockerfile_is_read_from_standard_input() {
        let plan = planned(json!({
            "tags": ["a:1", "a:latest"], "dockerfile": "FROM scratch\n", "build_args": { "V": "-1" }, "no_cache": true,
            "builder": "buildkit", "network": "none", "pull": true, "target": "x", "labels": { "a.b/c": "d" },
        }));
        let step = &plan.steps[0];
        let expected = [
            "build",
            "--tag=a:1",
            "--tag=a:latest",
            "--target=x",
            "--build-arg=V=-1",
            "--label=a.b/c=d",
            "--network=none",
            "--no-cache",
            "--pull",
            "--",
            "-",
        ];
        assert_eq!((step.args.as_slice(), plan.effect), (&expected.map(str::to_owned)[..], Effect::Change));
        assert_eq!((step.stdin.as_deref(), step.env["DOCKER_BUILDKIT"].as_str()), (Some("FROM scratch\n"), "1"));
        assert_eq!(plan.steps[1].args, ["image", "inspect", "--format={{json .}}", "--", "a:1"]);
        assert_eq!(plan.locks, ["docker:image:a:1"]);
    }

    #[test]
    fn what_can_see_the_machine_is_the_hosts() {
        let plan = planned(json!({ "tags": ["a"], "context": "/srv/a", "file": "deploy/Dockerfile" }));
        assert_eq!(plan.steps[0].args, ["build", "--tag=a", "--file=/srv/a/deploy/Dockerfile", "--", "/srv/a"]);
        assert_eq!(plan.effect, Effect::Host);
        let plan = planned(json!({ "tags": ["a"], "context": "/srv/a", "dockerfile": "FROM scratch" }));
        assert_eq!(plan.steps[0].args, ["build", "--tag=a", "--file=-", "--", "/srv/a"]);
        assert_eq!(planned(json!({ "tags": ["a"], "dockerfile": "FROM b", "network": "host" })).effect, Effect::Host);
    }

    #[test]
    fn what_cannot_be_built_is_refused_where_it_is_wrong() {
        for (args, pointer) in [
            (json!({ "tags": ["a"] }), "/dockerfile"),
            (json!({ "tags": [], "dockerfile": "FROM b" }), "/tags"),
            (json!({ "tags": ["a"], "context": "/srv/../etc" }), "/context"),
            (json!({ "tags": ["a"], "context": "/srv/" }), "/context"),
            (json!({ "tags": ["a"], "context": "/srv", "file": "../Dockerfile" }), "/file"),
            (json!({ "tags": ["a"], "dockerfile": "FROM b", "file": "Dockerfile" }), "/file"),
        ] {
            let failure = test::plan::<Build>(args.clone()).expect_err("refused");
            assert_eq!(failure.issues[0].pointer, pointer, "{args}");
        }
    }

    #[test]
    fn a_failed_step_is_said_in_dockers_last_words() {
        let args = json!({ "tags": ["a"], "dockerfile": "FROM b\nRUN false" });
        for (stderr, said) in [
            (
                "DEPRECATED: The legacy builder is deprecated and will be removed in a future release.\n\
                 Error: from a step\nThe command '/bin/sh -c false' returned a non-zero code: 1\n",
                "The command '/bin/sh -c false' returned a non-zero code: 1",
            ),
            (
                "#5 [2/2] RUN false\n#5 ERROR: executor failed running [/bin/sh -c false]: exit code: 1\n------\n > [2/2] RUN \
                 false:\n------\nexecutor failed running [/bin/sh -c false]: exit code: 1\n",
                "executor failed running [/bin/sh -c false]: exit code: 1",
            ),
            (
                "Error response from daemon: dockerfile parse error line 2: unknown instruction: RUX\n",
                "dockerfile parse error line 2: unknown instruction: RUX",
            ),
            ("unable to prepare context: path \"/x\" not found\n", "unable to prepare context: path \"/x\" not found"),
        ] {
            let answer = test::interpret::<Build>(args.clone(), &test::exited(1).with_stderr(stderr)).expect("judged");
            assert_eq!((answer.succeeded, answer.summary.as_str()), (false, said));
        }
    }
}
