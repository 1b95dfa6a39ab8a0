//! Which compose a machine has, and how its commands begin.

use viworks_sdk::builder::Draft;
use viworks_sdk::prelude::*;

/// The compose of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `docker-compose` 1.x, which knows a project only by its file and prints nothing for programs.
    V1,
    /// `docker compose`, a plugin of docker's command line.
    V2,
    /// The same as a program of its own called `docker-compose`.
    V2Standalone,
}

impl Flavour {
    /// What the target's profile says.
    ///
    /// # Errors
    /// Unsupported, when it has none that is known here.
    pub fn of(context: &Context) -> Result<Flavour> {
        match context.profile.compose.as_deref() {
            Some("v1") => Ok(Flavour::V1),
            Some("v2") => Ok(Flavour::V2),
            Some("v2-standalone") => Ok(Flavour::V2Standalone),
            Some(other) => {
                let known = "v1, v2 and v2-standalone";
                Err(Failure::unsupported(format!("this machine's compose is `{other}`; this plugin knows {known}")))
            }
            None => Err(Failure::unsupported(
                "this machine has no compose; install it, list docker or docker-compose in the agent's policy, \
                 and let the agent reconnect",
            )),
        }
    }

    /// A step of `project`, as the next of `draft` or as the first of a new one.
    pub fn step(self, draft: Option<Draft>, project: &str) -> Draft {
        let next = |name: &'static str| match draft {
            Some(draft) => draft.then(name),
            None => program(name),
        };
        let begun = match self {
            Flavour::V2 => next("docker").arg("compose"),
            Flavour::V1 | Flavour::V2Standalone => next("docker-compose"),
        };
        begun.arg("--ansi=never").opt("--project-name", project)
    }

    /// A step that lists the project's containers, for [`crate::containers::read`].
    pub fn list(self, draft: Option<Draft>, project: &str, all: bool) -> Draft {
        match self {
            Flavour::V1 => docker(draft)
                .arg("ps")
                .flag("--all", all)
                .arg("--no-trunc")
                .opt("--filter", labelled(project))
                .arg("--filter=label=com.docker.compose.oneoff=False")
                .arg(crate::containers::FORMAT),
            Flavour::V2 | Flavour::V2Standalone => {
                self.step(draft, project).arg("ps").flag("--all", all).arg("--no-trunc").arg("--format=json")
            }
        }
    }
}

/// A step of docker itself.
pub fn docker(draft: Option<Draft>) -> Draft {
    match draft {
        Some(draft) => draft.then("docker"),
        None => program("docker"),
    }
}

/// The filter for what belongs to `project`.
pub fn labelled(project: &str) -> String {
    format!("label=com.docker.compose.project={project}")
}
