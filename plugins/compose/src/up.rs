//! `compose.up`.

use viworks_sdk::prelude::*;

use crate::containers::{self, Container};
use crate::flavour::Flavour;
use crate::source::Source;

/// Starts a project, or makes a running one as its file says.
///
/// The effect rises to `host` when the file gives a container more than a container has by itself, or
/// says something that is not known to be harmless; a file on the agent's machine always does.
#[derive(Args)]
pub struct Up {
    /// Name of the project.
    #[arg(pattern = "^[a-z0-9][a-z0-9_-]*$", length = 1..=63)]
    pub project: String,
    /// The compose file as YAML text. Give this or `path`.
    #[arg(length = 1..=65536)]
    pub file: Option<String>,
    /// A compose file on the agent's machine, absolute. Nobody sees it before it runs.
    #[arg(pattern = "^/", length = 2..=4096)]
    pub path: Option<String>,
    /// Values of variables that the file uses, as in `${TAG}`.
    #[arg(default, length = ..=48, keys(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,99}$"), items(length = ..=8192))]
    pub env: BTreeMap<String, String>,
    /// More of them, whose values nobody sees but compose and the containers they go to: kept encrypted, shown as
    /// placeholders.
    #[arg(default, length = ..=16, keys(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,99}$"), items(secret))]
    pub secret_env: BTreeMap<String, String>,
    /// Profiles of the file to switch on.
    #[arg(default, length = ..=16, items(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", length = 1..=64))]
    pub profiles: Vec<String>,
    /// Only these services, and those they depend on. All of them when empty.
    #[arg(default, length = ..=64, items(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", length = 1..=64))]
    pub services: Vec<String>,
    /// Build images before starting, also those that exist.
    #[arg(default)]
    pub build: bool,
    /// When to pull images.
    #[arg(default = Pull::Policy)]
    pub pull: Pull,
    /// Whether containers are made anew.
    #[arg(default = Recreate::Changed)]
    pub recreate: Recreate,
    /// Remove containers of services that the file no longer has.
    #[arg(default)]
    pub remove_orphans: bool,
    /// Wait until services are running or healthy. Not with docker-compose 1.x.
    #[arg(default)]
    pub wait: bool,
    /// Longest wait, in seconds; only with `wait`.
    #[arg(range = 1..=86400)]
    pub wait_timeout_s: Option<u32>,
    /// How long a container that is replaced may take to stop, in seconds.
    #[arg(range = 0..=3600)]
    pub stop_timeout_s: Option<u32>,
    /// How many containers of which service.
    #[arg(default, length = ..=64, keys(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", length = ..=64), items(range = 0..=1000))]
    pub scale: BTreeMap<String, u32>,
}

/// When images are pulled.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// As the file says; by default what is missing.
    Policy,
    /// What is missing. Not with docker-compose 1.x, where `policy` means the same.
    Missing,
    /// All, also those that are there.
    Always,
    /// None. Not with docker-compose 1.x.
    Never,
}

/// Whether containers are made anew.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recreate {
    /// Those whose configuration or image changed.
    Changed,
    /// All.
    Always,
    /// None.
    Never,
}

/// What there is afterwards.
#[derive(Output, Debug)]
pub struct Running {
    /// The project's services that have containers, by name.
    pub services: Vec<Service>,
    /// All containers of the project, also those that have exited.
    pub containers: Vec<Container>,
}

/// One service.
#[derive(Output, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Containers it has.
    pub containers: u32,
    /// How many of them run.
    pub running: u32,
    /// How many of them fail their health check.
    pub unhealthy: u32,
}

#[verb(
    name = "compose.up",
    effect = Change,
    needs = "compose",
    idempotent,
    timeout = "10m",
    example = json!({
        "project": "shop",
        "file": "services:\n  web:\n    image: nginx:${TAG}\n    ports: [\"8080:80\"]\n    volumes: [\"data:/usr/share/nginx/html:ro\"]\nvolumes:\n  data:\n",
        "env": { "TAG": "1.27" }, "services": ["web"], "remove_orphans": true, "scale": { "web": 2 },
    }),
    example = json!({ "project": "shop", "path": "/srv/shop/compose.yaml", "pull": "always", "wait": true }),
    golden(
        args = json!({ "project": "shop", "file": "services: { web: { image: busybox, command: sleep 60 } }" }),
        stdout = "{\"Command\":\"\\\"sleep 60\\\"\",\"CreatedAt\":\"2024-05-01 10:00:00 +0000 UTC\",\"ExitCode\":0,\"Health\":\"\",\"ID\":\"6a3f\",\"Image\":\"busybox\",\"Labels\":\"com.docker.compose.project=shop\",\"LocalVolumes\":\"0\",\"Mounts\":\"\",\"Name\":\"shop-web-1\",\"Names\":\"shop-web-1\",\"Networks\":\"shop_default\",\"Ports\":\"\",\"Project\":\"shop\",\"Publishers\":[],\"RunningFor\":\"1 second ago\",\"Service\":\"web\",\"Size\":\"0B\",\"State\":\"running\",\"Status\":\"Up Less than a second\"}\n",
        result = json!({
            "services": [{ "name": "web", "containers": 1, "running": 1, "unhealthy": 0 }],
            "containers": [{
                "service": "web", "name": "shop-web-1", "id": "6a3f", "image": "busybox", "state": "running",
                "status": "Up Less than a second", "ports": [],
            }],
        }),
    ),
)]
impl Verb for Up {
    type Output = Running;

    fn plan(&self, context: &Context) -> Result<Plan> {
        let flavour = Flavour::of(context)?;
        let Some(source) = Source::of(&self.file, &self.path, &self.env, &self.secret_env)? else {
            return Err(Failure::issue("/file", "required", "give the compose file as `file`, or its `path` there"));
        };
        let begin = |draft| source.feed(flavour.step(draft, &self.project).opt("--profile", &self.profiles));
        let mut draft = None;
        if flavour == Flavour::V1 {
            if self.wait {
                return Err(Failure::unsupported("docker-compose 1.x cannot wait for services; leave `wait` out"));
            }
            match self.pull {
                Pull::Policy => {}
                Pull::Always => draft = Some(begin(None).arg("pull").operand(&self.services)),
                Pull::Missing | Pull::Never => {
                    let words = "docker-compose 1.x pulls what is missing or all; `pull` is `policy` or `always`";
                    return Err(Failure::unsupported(words));
                }
            }
        }
        if self.wait_timeout_s.is_some() && !self.wait {
            return Err(Failure::issue("/wait_timeout_s", "conflict", "is for `wait`, which is off"));
        }
        let pull = match (flavour, self.pull) {
            (Flavour::V1, _) | (_, Pull::Policy) => None,
            (_, pull) => Some(pull.as_str()),
        };
        let draft = begin(draft)
            .arg("up")
            .arg("--detach")
            .flag("--build", self.build)
            .opt("--pull", pull)
            .flag("--force-recreate", self.recreate == Recreate::Always)
            .flag("--no-recreate", self.recreate == Recreate::Never)
            .flag("--remove-orphans", self.remove_orphans)
            .flag("--wait", self.wait)
            .opt("--wait-timeout", self.wait_timeout_s)
            .opt("--timeout", self.stop_timeout_s)
            .opt("--scale", scales(&self.scale))
            .operand(&self.services);
        let draft = flavour.list(Some(draft), &self.project, true).lock(format!("compose:{}", self.project));
        let sentence = format!("start project {} from {}", self.project, source.words());
        match source.raised(false) {
            Some(why) => draft.effect(Effect::Host).summary(format!("{sentence}; host because {why}")).plan(),
            None => draft.summary(sentence).plan(),
        }
    }

    fn interpret(&self, out: &Outputs) -> Result<Running> {
        out.ok()?;
        let containers = containers::read(out.stdout_of(out.steps.len().saturating_sub(1))?)?;
        Ok(Running { services: services(&containers), containers })
    }

    fn summarize(&self, _: &Outputs, result: &Running) -> String {
        let running = result.containers.iter().filter(|container| container.state == "running").count();
        format!("{running} of {} containers running", result.containers.len())
    }
}

fn scales(scale: &BTreeMap<String, u32>) -> Vec<String> {
    let mut scales = Vec::new();
    for (service, count) in scale {
        scales.push(format!("{service}={count}"));
    }
    scales
}

fn services(containers: &[Container]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for container in containers {
        let at = match services.iter().position(|service| service.name >= container.service) {
            Some(at) if services[at].name == container.service => at,
            place => {
                let at = place.unwrap_or(services.len());
                let name = container.service.clone();
                services.insert(at, Service { name, containers: 0, running: 0, unhealthy: 0 });
                at
            }
        };
        let service = &mut services[at];
        service.containers += 1;
        service.running += u32::from(container.state == "running");
        service.unhealthy += u32::from(container.health.as_deref() == Some("unhealthy"));
    }
    services
}
