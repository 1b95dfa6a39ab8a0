//! `docker.pull`: an image comes from its registry.

use viworks_sdk::prelude::*;

use crate::container::{JSON, docker, ok};
use crate::image::{self, Image};
use crate::spelling::{IMAGE, PLATFORM, short};

/// Pulls an image from its registry.
#[derive(Args)]
pub struct Pull {
    /// The image: `name:tag`, `registry:port/name:tag` or `name@sha256:…`; without a tag, `latest`.
    #[arg(length = 1..=512, pattern = IMAGE, example = "registry.example:5000/shop/web:1.2")]
    image: String,
    /// Of an image for several, the one for this platform; the machine's own when absent.
    #[arg(length = 1..=64, pattern = PLATFORM, example = "linux/arm64")]
    platform: Option<String>,
}

/// The image that the machine has now.
#[derive(Output)]
pub struct Pulled {
    /// Whether it was not there before, or another one had its name.
    new: bool,
    /// The digest by which the registry knows what was pulled, `sha256:…`.
    digest: Option<String>,
    /// The image.
    image: Image,
}

#[verb(
    name = "docker.pull",
    effect = Change,
    needs = "docker",
    idempotent,
    timeout = "10m",
    example = json!({ "image": "postgres:16", "platform": "linux/arm64" }),
    golden(
        args = json!({ "image": "localhost:5000/team/base:1" }),
        stdout = include_str!("../golden/pull.txt"),
        result = json!({
            "new": true,
            "digest": "sha256:0f259eb32417fc82480ae25a47d38de83c4ce871eb23a0112acfcff0b9ad9446",
            "image": {
                "id": "sha256:2e5e56707bcd5bf1ba52eb318745b3e9594567e666078f2f193a97bec6c6149b",
                "tags": ["localhost:5000/team/base:1"],
                "digests": ["localhost:5000/team/base@sha256:0f259eb32417fc82480ae25a47d38de83c4ce871eb23a0112acfcff0b9ad9446"],
                "created": "2026-11-24T04:04:20.736111524Z", "size_bytes": 1985472, "os": "linux",
                "architecture": "amd64"
            }
        }),
    ),
)]
impl Verb for Pull {
    type Output = Pulled;

    fn plan(&self, _: &Context) -> Result<Plan> {
        docker("pull")
            .opt("--platform", &self.platform)
            .operand(&self.image)
            .then("docker")
            .args(["image", "inspect", JSON])
            .operand(&self.image)
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Pulled> {
        let said = ok(out)?.lossy();
        let after = |start: &str| said.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
        Ok(Pulled {
            new: !after("Status: ").is_some_and(|status| status.starts_with("Image is up to date")),
            digest: after("Digest: "),
            image: image::last_line(out)?,
        })
    }

    fn summarize(&self, _: &Outputs, pulled: &Pulled) -> String {
        let how = if pulled.new { "pulled" } else { "was up to date:" };
        format!("{how} {} as {}", self.image, short(&pulled.image.id))
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn the_image_is_pulled_and_looked_at() {
        let plan = test::plan::<Pull>(json!({ "image": "a/b:1", "platform": "linux/arm64" })).expect("accepted");
        assert_eq!(plan.steps[0].args, ["pull", "--platform=linux/arm64", "--", "a/b:1"]);
        assert_eq!(plan.steps[1].args, ["image", "inspect", "--format={{json .}}", "--", "a/b:1"]);
    }

    #[test]
    fn what_was_there_is_not_new() {
        let said = include_str!("../golden/pull.txt").replace("Downloaded newer image for", "Image is up to date for");
        let args = json!({ "image": "localhost:5000/team/base:1" });
        let answer = test::interpret::<Pull>(args, &test::exited(0).with_stdout(said)).expect("read");
        assert_eq!(answer.result["new"], false);
        assert_eq!(answer.summary, "was up to date: localhost:5000/team/base:1 as 2e5e56707bcd");
    }

    #[test]
    fn an_unknown_image_is_named() {
        let out = test::exited(1).with_stderr(
            "Error response from daemon: manifest for localhost:5000/x:2 not found: manifest unknown: manifest unknown\n",
        );
        let answer = test::interpret::<Pull>(json!({ "image": "localhost:5000/x:2" }), &out).expect("judged");
        assert_eq!(
            (answer.succeeded, answer.summary.as_str()),
            (false, "the registry has no image `localhost:5000/x:2`")
        );
    }
}
