//! `compose.ps`.

use viworks_sdk::prelude::*;

use crate::containers::{self, Container};
use crate::flavour::Flavour;

/// Lists a project's containers.
#[derive(Args)]
pub struct Ps {
    /// Name of the project.
    #[arg(pattern = "^[a-z0-9][a-z0-9_-]*$", length = 1..=63)]
    pub project: String,
    /// Also those that do not run.
    #[arg(default)]
    pub all: bool,
    /// Only of these services. All of them when empty.
    #[arg(default, length = ..=64, items(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", length = 1..=64))]
    pub services: Vec<String>,
}

#[verb(
    name = "compose.ps",
    effect = Read,
    needs = "compose",
    idempotent,
    cancel = Clean,
    timeout = "30s",
    example = json!({ "project": "shop", "all": true, "services": ["web"] }),
    golden(
        args = json!({ "project": "shop" }),
        stdout = "[{\"ID\":\"6a3f\",\"Name\":\"shop-web-1\",\"Command\":\"nginx\",\"Project\":\"shop\",\"Service\":\"web\",\"State\":\"running\",\"Health\":\"healthy\",\"ExitCode\":0,\"Publishers\":[{\"URL\":\"0.0.0.0\",\"TargetPort\":80,\"PublishedPort\":8080,\"Protocol\":\"tcp\"}]}]\n",
        result = json!([{
            "service": "web", "name": "shop-web-1", "id": "6a3f", "state": "running", "health": "healthy",
            "ports": [{ "container_port": 80, "protocol": "tcp", "host_ip": "0.0.0.0", "host_port": 8080 }],
        }]),
    ),
)]
impl Verb for Ps {
    type Output = Vec<Container>;

    fn plan(&self, context: &Context) -> Result<Plan> {
        let flavour = Flavour::of(context)?;
        flavour
            .list(None, &self.project, self.all)
            .summary(format!("list containers of project {}", self.project))
            .plan()
    }

    fn interpret(&self, out: &Outputs) -> Result<Vec<Container>> {
        // Filtered here, because compose 2 fails on a service that has no container.
        let mut containers = containers::read(out.ok()?)?;
        containers.retain(|container| self.services.is_empty() || self.services.contains(&container.service));
        Ok(containers)
    }

    fn summarize(&self, _: &Outputs, result: &Vec<Container>) -> String {
        let running = result.iter().filter(|container| container.state == "running").count();
        format!("{} containers, {running} running", result.len())
    }
}
