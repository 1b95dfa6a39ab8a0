//! The rule `agent_offline`: an agent of which nothing is heard.

use viworks_sdk::prelude::*;

/// When nothing is heard of an agent.
#[derive(Args)]
struct AgentOffline {
    /// Seconds of silence until it warns.
    #[arg(range = 0..=86_400, default = 60)]
    warning_after_s: u64,
    /// Seconds of silence until it is critical.
    #[arg(range = 0..=604_800, default = 300)]
    critical_after_s: u64,
}

#[rule(reads(), example = json!({ "turns": [
    { "at_s": 0 },
    { "at_s": 50, "status": "offline", "heard_s": 0, "found": { "": "pending" } },
    { "at_s": 60, "status": "offline", "heard_s": 0, "found": { "": "warning" } },
    { "at_s": 300, "status": "offline", "heard_s": 0, "found": { "": "critical" } },
    { "at_s": 310 },
] }))]
impl Rule for AgentOffline {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        // It goes by the host's own knowledge, which needs no sample.
        watch.judges();
        if agent.is_offline() {
            let silent_s = agent.now_ms().saturating_sub(agent.heard_ms()) / 1000;
            let severity = match silent_s {
                _ if silent_s >= self.critical_after_s => Severity::Critical,
                _ if silent_s >= self.warning_after_s => Severity::Warning,
                _ => Severity::Pending,
            };
            watch.since("", severity, agent.heard_ms(), "nothing is heard of the agent");
        }
        Ok(())
    }
}

plugin!(summary = "Alerts when nothing is heard of an agent", rule: AgentOffline);

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
