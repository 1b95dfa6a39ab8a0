//! `compose.down`.

use viworks_sdk::builder::Draft;
use viworks_sdk::prelude::*;

use crate::containers::names;
use crate::flavour::{Flavour, docker, labelled};
use crate::source::Source;

/// Stops a project and removes its containers and networks; with `volumes`, its data as well.
#[derive(Args)]
pub struct Down {
    /// Name of the project.
    #[arg(pattern = "^[a-z0-9][a-z0-9_-]*$", length = 1..=63)]
    pub project: String,
    /// The compose file as YAML text. Needed with docker-compose 1.x, unless there is a `path`.
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
    /// Remove the project's volumes with all data in them.
    #[arg(default)]
    pub volumes: bool,
    /// Remove images: those without a name of their own, or all that services use.
    pub images: Option<Images>,
    /// Remove containers of services that the file no longer has.
    #[arg(default)]
    pub remove_orphans: bool,
    /// How long a container may take to stop, in seconds.
    #[arg(range = 0..=3600)]
    pub stop_timeout_s: Option<u32>,
}

/// Which images are removed.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// Those that compose built and named itself.
    Local,
    /// All that services use.
    All,
}

/// What the engine had of the project before and has no more, and what it still has.
#[derive(Output, Debug)]
pub struct Gone {
    /// No longer there.
    pub removed: Things,
    /// Still there.
    pub left: Things,
}

/// Things that carry the project's label.
#[derive(Output, Debug, Default, PartialEq)]
pub struct Things {
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
}

/// Steps before and after the one that takes the project down: containers, networks, volumes.
const LISTS: usize = 3;

#[verb(
    name = "compose.down",
    effect = Change,
    needs = "compose",
    idempotent,
    timeout = "5m",
    example = json!({ "project": "shop", "volumes": true, "stop_timeout_s": 30 }),
    golden(
        args = json!({ "project": "shop", "remove_orphans": true }),
        stdout = "\"shop_data\"\n",
        result = json!({
            "removed": { "containers": [], "networks": [], "volumes": [] },
            "left": { "containers": [], "networks": [], "volumes": ["shop_data"] },
        }),
    ),
)]
impl Verb for Down {
    type Output = Gone;

    fn plan(&self, context: &Context) -> Result<Plan> {
        let flavour = Flavour::of(context)?;
        let source = Source::of(&self.file, &self.path, &self.env, &self.secret_env)?;
        let mut step = flavour.step(Some(lists(None, &self.project)), &self.project);
        step = match &source {
            Some(source) => source.feed(step),
            None if flavour == Flavour::V1 => {
                let words = "this machine has docker-compose 1.x, which takes down only what a file names";
                return Err(Failure::issue("/file", "required", words));
            }
            None => step,
        };
        step = step
            .arg("down")
            .flag("--volumes", self.volumes)
            .opt("--rmi", self.images.map(|images| images.as_str()))
            .flag("--remove-orphans", self.remove_orphans)
            .opt("--timeout", self.stop_timeout_s);
        let mut draft = lists(Some(step), &self.project).lock(format!("compose:{}", self.project));
        let mut sentence = format!("take down project {}", self.project);
        if self.volumes {
            draft = draft.effect(Effect::Destroy);
            sentence += " with its volumes and all data in them";
        }
        if let Some(images) = self.images {
            draft = draft.effect(Effect::Destroy);
            sentence += match images {
                Images::Local => ", and images built for it",
                Images::All => ", and all images it uses",
            };
        }
        if let Some(why) = source.as_ref().and_then(|source| source.raised(true)) {
            draft = draft.effect(Effect::Host);
            sentence += &format!("; host because {why}");
        }
        draft.summary(sentence).plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Gone> {
        out.ok()?;
        let before = things(out, 0)?;
        let left = things(out, LISTS + 1)?;
        let gone =
            |before: Vec<String>, left: &[String]| before.into_iter().filter(|name| !left.contains(name)).collect();
        let removed = Things {
            containers: gone(before.containers, &left.containers),
            networks: gone(before.networks, &left.networks),
            volumes: gone(before.volumes, &left.volumes),
        };
        Ok(Gone { removed, left })
    }

    fn summarize(&self, _: &Outputs, result: &Gone) -> String {
        let Things { containers, networks, volumes } = &result.removed;
        let counts = format!("{} containers, {} networks, {} volumes", containers.len(), networks.len(), volumes.len());
        match result.left.containers.len() {
            0 => format!("removed {counts}"),
            left => format!("removed {counts}; {left} containers are left"),
        }
    }
}

fn lists(draft: Option<Draft>, project: &str) -> Draft {
    let filter = || labelled(project);
    let draft = docker(draft).args(["ps", "--all"]).opt("--filter", filter()).arg("--format={{json .Names}}");
    let draft = draft.then("docker").args(["network", "ls"]).opt("--filter", filter()).arg("--format={{json .Name}}");
    draft.then("docker").args(["volume", "ls"]).opt("--filter", filter()).arg("--format={{json .Name}}")
}

fn things(out: &Outputs, first: usize) -> Result<Things> {
    Ok(Things {
        containers: names(out.stdout_of(first)?)?,
        networks: names(out.stdout_of(first + 1)?)?,
        volumes: names(out.stdout_of(first + 2)?)?,
    })
}
