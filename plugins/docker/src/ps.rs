//! `docker.ps`: which containers there are.

use viworks_sdk::json;
use viworks_sdk::outputs::cut;
use viworks_sdk::prelude::*;

use crate::container::{JSON, docker, ok};
use crate::ports::{self, Port};
use crate::quantity;
use crate::spelling::{NAME, count};

/// Lists containers.
#[derive(Args)]
pub struct Ps {
    /// Stopped ones too.
    #[arg(default)]
    all: bool,
    /// Only so many that were created last, stopped ones too.
    #[arg(range = 1..=1000, example = 5)]
    last: Option<u32>,
    /// Also how much each has written. Slow where there are many.
    #[arg(default)]
    size: bool,
    /// Only those in one of these states.
    #[arg(default, length = ..=7)]
    status: Vec<State>,
    /// Only those whose name holds one of these.
    #[arg(default, length = ..=50, items(length = 1..=255, pattern = NAME), example = json!(["web"]))]
    names: Vec<String>,
    /// Only those with all of these labels: `name` or `name=value`.
    #[arg(default, length = ..=50, items(length = 1..=1024), example = json!(["com.example.team=shop"]))]
    labels: Vec<String>,
    /// Only those made from one of these images, or from images built on them.
    #[arg(default, length = ..=50, items(length = 1..=512), example = json!(["postgres:16"]))]
    images: Vec<String>,
    /// Only those in one of these networks.
    #[arg(default, length = ..=50, items(length = 1..=255, pattern = NAME))]
    networks: Vec<String>,
    /// Only those that mount one of these volumes or paths.
    #[arg(default, length = ..=50, items(length = 1..=4096))]
    volumes: Vec<String>,
    /// Only those in this state of health.
    health: Option<Health>,
}

/// What a container is doing.
#[derive(Choice)]
enum State {
    Created,
    Restarting,
    Running,
    Removing,
    Paused,
    Exited,
    Dead,
}

/// What a container's health check says of it.
#[derive(Choice)]
enum Health {
    Starting,
    Healthy,
    Unhealthy,
    /// It has no health check.
    None,
}

/// One container.
#[derive(Output)]
pub struct Container {
    /// The full id.
    id: String,
    /// Its name.
    name: String,
    /// The image it was made from, as it was named then.
    image: String,
    /// What it runs.
    command: String,
    /// When it was created, RFC 3339.
    created: String,
    /// `created`, `restarting`, `running`, `removing`, `paused`, `exited` or `dead`.
    state: String,
    /// The state in docker's words, e.g. `Up 2 hours (healthy)`.
    status: String,
    /// `starting`, `healthy` or `unhealthy`; absent without a health check, and when it does not run.
    health: Option<String>,
    /// How its program ended; absent unless it has exited.
    exit_code: Option<i32>,
    /// Its ports.
    ports: Vec<Port>,
    /// Its labels. A value that holds `,name=` is cut there, as docker prints it without quotes.
    labels: BTreeMap<String, String>,
    /// The volumes and paths it mounts.
    mounts: Vec<String>,
    /// The networks it is in.
    networks: Vec<String>,
    /// Bytes that it has written; only when asked for.
    written_bytes: Option<u64>,
    /// Bytes of its image and what it has written; only when asked for.
    total_bytes: Option<u64>,
}

/// One line of docker's.
#[derive(Output)]
struct Line {
    #[output(from = "ID")]
    id: String,
    #[output(from = "Names")]
    names: String,
    #[output(from = "Image")]
    image: String,
    #[output(from = "Command")]
    command: String,
    #[output(from = "CreatedAt")]
    created: String,
    #[output(from = "State")]
    state: String,
    #[output(from = "Status")]
    status: String,
    #[output(from = "Ports")]
    ports: String,
    #[output(from = "Labels")]
    labels: String,
    #[output(from = "Mounts")]
    mounts: String,
    #[output(from = "Networks")]
    networks: String,
    #[output(from = "Size")]
    size: String,
}

#[verb(
    name = "docker.ps",
    effect = Read,
    needs = "docker",
    idempotent,
    cancel = Clean,
    timeout = "30s",
    example = json!({ "all": true, "status": ["exited", "dead"], "labels": ["com.example.team=shop"] }),
    golden(
        args = json!({ "all": true }),
        stdout = include_str!("../golden/ps.jsonl"),
        result = json!([
            {
                "id": "1ffeac05fb792644f8450b3f61058d5dcca0a387548d00158dc2ed2c34a6f37f", "name": "hc",
                "image": "base:1", "command": "sleep 1000", "created": "2026-11-24T04:07:39Z", "state": "running",
                "status": "Up 2 seconds (healthy)", "health": "healthy", "ports": [],
                "labels": { "org.example.team": "shop" }, "mounts": ["data", "/srv/img"], "networks": ["none"]
            },
            {
                "id": "6ad1af7a634fd458308a814ca6abee3bf7993a058f32717133229cfaab843bdc", "name": "done1",
                "image": "base:1", "command": "sh -c 'echo hello; echo oops >&2; exit 3'",
                "created": "2026-11-24T04:07:38Z", "state": "exited", "status": "Exited (3) 2 seconds ago",
                "exit_code": 3, "ports": [], "labels": { "note": "a,b", "org.example.team": "shop" }, "mounts": [],
                "networks": ["none"]
            }
        ]),
    ),
)]
impl Verb for Ps {
    type Output = Vec<Container>;

    fn plan(&self, _: &Context) -> Result<Plan> {
        docker("ps")
            .args(["--no-trunc", JSON])
            .flag("--all", self.all)
            .flag("--size", self.size)
            .opts(&[
                ("--last", &self.last),
                ("--filter=status", &self.status),
                ("--filter=name", &self.names),
                ("--filter=label", &self.labels),
                ("--filter=ancestor", &self.images),
                ("--filter=network", &self.networks),
                ("--filter=volume", &self.volumes),
                ("--filter=health", &self.health),
            ])
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Vec<Container>> {
        let lines: Vec<Line> = ok(out)?.json_lines()?;
        let mut found = Vec::with_capacity(lines.len());
        for line in lines {
            found.push(line.read(self.size));
        }
        Ok(found)
    }

    fn summarize(&self, _: &Outputs, found: &Vec<Container>) -> String {
        let running = found.iter().filter(|container| container.state == "running").count();
        format!("{}, {running} running", count(found.len(), "container"))
    }
}

impl Line {
    fn read(self, sized: bool) -> Container {
        let (written, total) = cut(&self.size, " (virtual ").unwrap_or((&self.size, ""));
        let bytes = |text: &str| quantity::bytes(text).filter(|_| sized);
        Container {
            written_bytes: bytes(written),
            total_bytes: bytes(total.trim_end_matches(')')),
            // What a legacy link calls it has a slash.
            name: self.names.split(',').find(|name| !name.contains('/')).unwrap_or(&self.names).to_owned(),
            id: self.id,
            image: self.image,
            command: unquoted(&self.command),
            created: moment(&self.created),
            health: in_brackets(&self.status).and_then(health),
            exit_code: exit_code(&self.status),
            state: self.state,
            status: self.status,
            ports: ports::listed(&self.ports),
            labels: labels(&self.labels),
            mounts: list(&self.mounts),
            networks: list(&self.networks),
        }
    }
}

/// Docker prints the command in quotes, escaped as JSON is in all but control characters.
fn unquoted(command: &str) -> String {
    match json::parse(command) {
        Ok(Value::String(text)) => text,
        _ => command.trim_matches('"').to_owned(),
    }
}

fn is_label(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(letter)
}

fn list(text: &str) -> Vec<String> {
    let mut items = Vec::new();
    for item in text.split(',') {
        if !item.is_empty() {
            items.push(item.to_owned());
        }
    }
    items
}

/// `a=1,b=2`; a part without `=` belongs to the value before it.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut last = "";
    for part in text.split(',') {
        match (part.split_once('='), labels.get_mut(last)) {
            (Some((name, value)), _) if is_label(name) => {
                labels.insert(name.to_owned(), value.to_owned());
                last = name;
            }
            (_, Some(value)) => {
                value.push(',');
                value.push_str(part);
            }
            (_, None) => {}
        }
    }
    labels
}

/// `2026-11-24 04:07:39 +0000 UTC` as RFC 3339.
fn moment(text: &str) -> String {
    let mut parts = text.split(' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(time), Some("+0000")) => format!("{day}T{time}Z"),
        (Some(day), Some(time), Some(zone)) => match zone.split_at_checked(3) {
            Some((hours, minutes)) => format!("{day}T{time}{hours}:{minutes}"),
            None => text.to_owned(),
        },
        _ => text.to_owned(),
    }
}

fn in_brackets(status: &str) -> Option<&str> {
    status.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner)
}

fn health(word: &str) -> Option<String> {
    let word = word.strip_prefix("health: ").unwrap_or(word);
    matches!(word, "healthy" | "unhealthy" | "starting").then(|| word.to_owned())
}

fn exit_code(status: &str) -> Option<i32> {
    let ended = status.starts_with("Exited");
    ended.then(|| in_brackets(status)).flatten()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn filters_become_options() {
        let plan = test::plan::<Ps>(json!({
            "last": 3, "size": true, "status": ["running"], "names": ["web"], "labels": ["a=b", "-x"],
            "images": ["base:1"], "networks": ["front"], "volumes": ["/srv"], "health": "none",
        }))
        .expect("accepted");
        assert_eq!(
            plan.steps[0].args,
            [
                "ps",
                "--no-trunc",
                "--format={{json .}}",
                "--size",
                "--last=3",
                "--filter=status=running",
                "--filter=name=web",
                "--filter=label=a=b",
                "--filter=label=-x",
                "--filter=ancestor=base:1",
                "--filter=network=front",
                "--filter=volume=/srv",
                "--filter=health=none",
            ]
        );
        assert_eq!(plan.effect, Effect::Read);
    }

    #[test]
    fn sizes_are_told_when_asked_for() {
        let line = include_str!("../golden/ps.jsonl").lines().next().expect("a line");
        let out = test::exited(0).with_stdout(line);
        let answer = test::interpret::<Ps>(json!({ "size": true }), &out).expect("read");
        assert_eq!(answer.result[0]["written_bytes"], 0);
        assert_eq!(answer.result[0]["total_bytes"], 1_990_000);
        assert_eq!(answer.summary, "1 container, 1 running");
        let answer = test::interpret::<Ps>(json!({}), &test::exited(0)).expect("read");
        assert_eq!((answer.result, answer.summary.as_str()), (json!([]), "0 containers, 0 running"));
    }

    #[test]
    fn times_of_any_zone_are_rfc_3339() {
        assert_eq!(moment("2026-11-24 04:07:39 +0000 UTC"), "2026-11-24T04:07:39Z");
        assert_eq!(moment("2026-11-24 04:07:39 +0530 IST"), "2026-11-24T04:07:39+05:30");
        assert_eq!(moment("yesterday"), "yesterday");
    }

    #[test]
    fn states_of_health_and_exit_codes_are_found_in_the_status() {
        for (status, healthy, code) in [
            ("Up 2 hours", None, None),
            ("Up 2 hours (healthy)", Some("healthy"), None),
            ("Up 2 hours (health: starting)", Some("starting"), None),
            ("Up 2 hours (Paused)", None, None),
            ("Exited (137) 3 days ago", None, Some(137)),
            ("Restarting (1) 4 seconds ago", None, None),
            ("Created", None, None),
        ] {
            assert_eq!(in_brackets(status).and_then(health).as_deref(), healthy, "{status}");
            assert_eq!(exit_code(status), code, "{status}");
        }
    }

    #[test]
    fn an_absent_engine_is_named() {
        let said = "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?\n";
        let answer = test::interpret::<Ps>(json!({}), &test::exited(1).with_stderr(said)).expect("judged");
        assert!(!answer.succeeded && answer.result.is_null());
        assert!(answer.summary.starts_with("the docker engine at unix:///x.sock does not answer: start it"));
    }
}
