//! The rule `container_health`: a container that is unhealthy, starts again and again, or ended with an error.

use viworks_sdk::prelude::*;

/// When a container is not well.
#[derive(Args)]
struct ContainerHealth {
    /// Seconds that a container must be unhealthy, by its own check.
    #[arg(range = 0..=86_400, default = 60)]
    unhealthy_for_s: u64,
    /// Seconds that it must be restarting.
    #[arg(range = 0..=86_400, default = 60)]
    restarting_for_s: u64,
    /// Whether one that ended with an error is told of.
    #[arg(default = true)]
    exited: bool,
}

#[rule(
    reads("container.health", "container.state", "container.exit_code"),
    example = json!({ "turns": [
        {
            "at_s": 0,
            "readings": [
                { "metric": "container.state", "label": "db", "word": "running" },
                { "metric": "container.health", "label": "db", "word": "unhealthy" },
                { "metric": "container.state", "label": "job", "word": "exited" },
                { "metric": "container.exit_code", "label": "job", "value": 137 },
                { "metric": "container.state", "label": "done", "word": "exited" },
                { "metric": "container.exit_code", "label": "done", "value": 0 },
            ],
            "found": { "db": "pending", "job": "warning" },
        },
        {
            "at_s": 60,
            "readings": [
                { "metric": "container.state", "label": "db", "word": "running" },
                { "metric": "container.health", "label": "db", "word": "unhealthy" },
            ],
            "found": { "db": "critical" },
        },
        {
            "at_s": 90,
            "readings": [
                { "metric": "container.state", "label": "db", "word": "running" },
                { "metric": "container.health", "label": "db", "word": "healthy" },
            ],
        },
    ] }),
)]
impl Rule for ContainerHealth {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        for reading in agent.readings("container.health").filter(|reading| reading.word == "unhealthy") {
            watch.holds(&reading, Severity::Critical, self.unhealthy_for_s, "{label} is unhealthy by its own check");
        }
        for reading in agent.readings("container.state").filter(|reading| reading.word == "restarting") {
            watch.holds(&reading, Severity::Warning, self.restarting_for_s, "{label} starts again and again");
        }
        let is_over = |label: &str| {
            agent
                .readings("container.state")
                .any(|state| state.label == label && matches!(state.word, "exited" | "dead"))
        };
        for reading in agent.readings("container.exit_code").filter(|reading| self.exited && reading.value != 0.0) {
            if is_over(reading.label) {
                watch.holds(&reading, Severity::Warning, 0, "{label} ended with exit code {value}");
            }
        }
        Ok(())
    }
}

plugin!(summary = "Alerts when a container is unhealthy, restarts or failed", rule: ContainerHealth);

#[cfg(test)]
mod tests {
    use viworks_sdk::test;

    use super::*;

    #[test]
    fn a_host_would_load_this_plugin() {
        test::check(&PLUGIN);
    }

    #[test]
    fn the_golden_cases_come_out_as_recorded() {
        test::golden(&PLUGIN, env!("CARGO_MANIFEST_DIR"));
    }
}
