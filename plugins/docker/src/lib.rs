//! The `docker` plugin: containers and images of one machine, through its docker command.
//!
//! Options stand before `--` and as `--name=value`; containers, images and what runs in them behind
//! it, where docker reads no options any more.

mod complaint;
mod container;
mod image;
mod mounts;
mod ports;
mod quantity;
mod spelling;

mod build;
mod exec;
mod inspect;
mod logs;
mod ps;
mod pull;
mod rm;
mod run;
mod stats;
mod stop;

use viworks_sdk::prelude::*;

use build::Build;
use exec::Exec;
use inspect::Inspect;
use logs::Logs;
use ps::Ps;
use pull::Pull;
use rm::Rm;
use run::Run;
use stats::Stats;
use stop::Stop;

plugin!(
    name = "docker",
    summary = "Containers and images of a machine",
    verbs: [Ps, Inspect, Logs, Stats, Exec, Run, Stop, Rm, Pull, Build],
    grants: [
        allow("docker")
            .args(["ps", "--no-trunc", "--format={{json .}}", "**"])
            .args(["inspect", "--format={{json .}}", "**"])
            .args(["image", "inspect", "--format={{json .}}", "--", "*"])
            .args(["logs", "**"])
            .args(["stats", "--no-stream", "--no-trunc", "--format={{json .}}", "**"])
            .args(["stop", "**"])
            .args(["rm", "**"])
            .args(["pull", "**"]),
        allow("docker").args(["exec", "**"]).args(["build", "**"]).env("DOCKER_BUILDKIT").stdin(),
        // Secrets of a container pass through docker's own environment, under the names they have inside.
        allow("docker").args(["run", "**"]).env("*").stdin(),
    ],
    effects: [Host],
);

#[cfg(test)]
mod tests;
