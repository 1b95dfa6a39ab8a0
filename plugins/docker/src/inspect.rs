//! `docker.inspect`: everything docker knows of containers, images, volumes and networks.

use viworks_sdk::prelude::*;

use crate::complaint;
use crate::container::{JSON, docker, failed};
use crate::spelling::{IMAGE, count};

/// Shows all that docker knows of containers, images, volumes or networks.
#[derive(Args)]
pub struct Inspect {
    /// Their names or ids.
    #[arg(length = 1..=100, items(length = 1..=512, pattern = IMAGE), example = json!(["web"]))]
    targets: Vec<String>,
    /// What they are.
    #[arg(default = Kind::Container)]
    kind: Kind,
    /// Also how much a container has written.
    #[arg(default)]
    size: bool,
}

/// What docker keeps.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Kind {
    Container,
    Image,
    Volume,
    Network,
}

/// What there is, and what there is not.
#[derive(Output)]
pub struct Inspected {
    /// Those that exist, in the order asked for.
    found: Vec<Object>,
    /// Those that do not.
    missing: Vec<String>,
}

/// One object: what is asked of it most, and all that docker says of it.
#[derive(Output)]
pub struct Object {
    /// The full id; a volume's is its name.
    id: String,
    /// A container's, volume's or network's name, an image's first tag.
    name: Option<String>,
    /// When it was created, RFC 3339.
    created: Option<String>,
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// Of a container: what it is doing.
    state: Option<State>,
    /// Of a container: the image it was made from. Of a volume or network: its driver.
    made_of: Option<String>,
    /// Of an image, or of a container if asked for: its bytes.
    size_bytes: Option<u64>,
    /// Everything, as docker says it. A container's environment may hold secrets.
    details: Value,
}

/// What a container is doing.
#[derive(Output)]
pub struct State {
    /// `created`, `restarting`, `running`, `removing`, `paused`, `exited` or `dead`.
    #[output(from = "Status")]
    status: String,
    /// Its first process on the machine; 0 when it does not run.
    #[output(from = "Pid")]
    pid: u32,
    /// How its program ended last; 0 while it runs.
    #[output(from = "ExitCode")]
    exit_code: i32,
    /// Whether it was killed for want of memory.
    #[output(from = "OOMKilled")]
    oom_killed: bool,
    /// Why it did not start; empty when it did.
    #[output(from = "Error")]
    error: String,
    /// When it was started last, RFC 3339; `0001-01-01T00:00:00Z` for never.
    #[output(from = "StartedAt")]
    started: String,
    /// When it ended last, RFC 3339; `0001-01-01T00:00:00Z` for never.
    #[output(from = "FinishedAt")]
    finished: String,
    /// What its health check says, if it has one.
    #[output(from = "Health")]
    health: Option<Health>,
}

/// What a health check says.
#[derive(Output)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    #[output(from = "Status")]
    status: String,
    /// How many checks in a row have failed.
    #[output(from = "FailingStreak")]
    failing_streak: u32,
}

/// What docker calls things in its own words.
#[derive(Output)]
struct Names {
    #[output(from = "Id")]
    id: Option<String>,
    #[output(from = "Name")]
    name: Option<String>,
    #[output(from = "RepoTags", default)]
    tags: Vec<String>,
    #[output(from = "Created")]
    created: Option<String>,
    #[output(from = "CreatedAt")]
    created_at: Option<String>,
    #[output(from = "Labels", default)]
    labels: BTreeMap<String, String>,
    #[output(from = "Config")]
    config: Option<Config>,
    #[output(from = "State")]
    state: Option<State>,
    #[output(from = "Driver")]
    driver: Option<String>,
    #[output(from = "Size")]
    size: Option<u64>,
    #[output(from = "SizeRw")]
    written: Option<u64>,
}

#[derive(Output)]
struct Config {
    #[output(from = "Image", default)]
    image: String,
    #[output(from = "Labels", default)]
    labels: BTreeMap<String, String>,
}

#[verb(
    name = "docker.inspect",
    effect = Read,
    needs = "docker",
    idempotent,
    cancel = Clean,
    timeout = "30s",
    example = json!({ "targets": ["web", "db"], "size": true }),
    golden(
        args = json!({ "targets": ["data", "nosuch"], "kind": "volume" }),
        exit_code = 1,
        stdout = r#"{"CreatedAt":"2026-11-24T04:07:39Z","Driver":"local","Labels":null,"Mountpoint":"/var/lib/docker/volumes/data/_data","Name":"data","Options":null,"Scope":"local"}
"#,
        stderr = "Error: No such volume: nosuch\n",
        result = json!({
            "found": [{
                "id": "data", "name": "data", "created": "2026-11-24T04:07:39Z", "labels": {}, "made_of": "local",
                "details": {
                    "CreatedAt": "2026-11-24T04:07:39Z", "Driver": "local", "Labels": null,
                    "Mountpoint": "/var/lib/docker/volumes/data/_data", "Name": "data", "Options": null, "Scope": "local"
                }
            }],
            "missing": ["nosuch"]
        }),
    ),
)]
impl Verb for Inspect {
    type Output = Inspected;

    fn plan(&self, _: &Context) -> Result<Plan> {
        if self.size && self.kind != Kind::Container {
            return Err(Failure::issue("/size", "conflict", "only a container's size is counted; leave it out"));
        }
        docker("inspect").arg(JSON).opt("--type", self.kind).flag("--size", self.size).operand(&self.targets).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Inspected> {
        let missing = complaint::all_missing(out);
        if !out.succeeded() && missing.is_empty() {
            return Err(failed(out));
        }
        let mut found = Vec::new();
        for details in out.stdout().json_lines()? {
            found.push(self.object(details)?);
        }
        Ok(Inspected { found, missing })
    }

    fn summarize(&self, _: &Outputs, result: &Inspected) -> String {
        match result.missing.as_slice() {
            [] => count(result.found.len(), self.kind.as_str()),
            [one] => format!("there is no {} `{one}` on this machine", self.kind.as_str()),
            many => format!("{} of {} do not exist on this machine", many.len(), self.targets.len()),
        }
    }
}

impl Inspect {
    fn object(&self, details: Value) -> Result<Object> {
        let names: Names = viworks_sdk::outputs::read_printed(details.clone())?;
        let (image, labels) = match names.config {
            Some(config) => (Some(config.image), config.labels),
            None => (None, names.labels),
        };
        let name = names.name.map(|name| name.trim_start_matches('/').to_owned());
        Ok(Object {
            id: names.id.or_else(|| name.clone()).ok_or_else(|| Failure::parse("an object has neither id nor name"))?,
            name: name.or_else(|| names.tags.into_iter().next()),
            created: names.created.or(names.created_at),
            labels,
            state: names.state,
            made_of: match self.kind {
                Kind::Container => image,
                Kind::Image => None,
                Kind::Volume | Kind::Network => names.driver,
            },
            size_bytes: match self.kind {
                Kind::Image => names.size,
                _ => names.written,
            },
            details,
        })
    }
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn kinds_and_targets_reach_docker() {
        let plan = test::plan::<Inspect>(json!({ "targets": ["web", "b2"], "size": true })).expect("accepted");
        let expected = ["inspect", "--format={{json .}}", "--type=container", "--size", "--", "web", "b2"];
        assert_eq!(plan.steps[0].args, expected);
        let refused = test::plan::<Inspect>(json!({ "targets": ["x"], "kind": "image", "size": true }));
        assert_eq!(refused.expect_err("refused").issues[0].pointer, "/size");
    }

    #[test]
    fn a_container_is_read_as_docker_prints_it() {
        let out = test::exited(0).with_stdout(include_str!("../golden/inspect-container.json"));
        let answer = test::interpret::<Inspect>(json!({ "targets": ["hc"] }), &out).expect("read");
        let object = &answer.result["found"][0];
        assert_eq!((&object["name"], &object["made_of"]), (&json!("hc"), &json!("base:1")));
        assert_eq!(object["state"]["status"], "running");
        assert_eq!(object["state"]["health"], json!({ "status": "healthy", "failing_streak": 0 }));
        assert_eq!(object["labels"], json!({ "org.example.team": "shop" }));
        assert_eq!(object["details"]["HostConfig"]["Memory"], 67_108_864);
        assert_eq!(answer.summary, "1 container");
    }

    #[test]
    fn an_image_is_read_as_docker_prints_it() {
        let out = test::exited(0).with_stdout(include_str!("../golden/inspect-image.json"));
        let answer = test::interpret::<Inspect>(json!({ "targets": ["base:1"], "kind": "image" }), &out).expect("read");
        let object = &answer.result["found"][0];
        assert_eq!((&object["name"], &object["size_bytes"]), (&json!("base:1"), &json!(1_985_472)));
        assert!(object["id"].as_str().is_some_and(|id| id.starts_with("sha256:")));
    }

    #[test]
    fn what_does_not_exist_is_told_from_what_went_wrong() {
        let out =
            test::exited(1).with_stdout("\n").with_stderr("Error: No such container: a\nError: No such container: b\n");
        let answer = test::interpret::<Inspect>(json!({ "targets": ["a", "b"] }), &out).expect("read");
        assert_eq!((answer.succeeded, &answer.result), (false, &json!({ "found": [], "missing": ["a", "b"] })));
        assert_eq!(answer.summary, "2 of 2 do not exist on this machine");
        let out = test::exited(1)
            .with_stdout("\n")
            .with_stderr("Cannot connect to the Docker daemon at tcp://127.0.0.1:1. Is the docker daemon running?\n");
        let answer = test::interpret::<Inspect>(json!({ "targets": ["a"] }), &out).expect("judged");
        assert!(answer.result.is_null() && answer.summary.contains("does not answer"), "{}", answer.summary);
    }
}
