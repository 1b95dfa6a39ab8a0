//! The rule `memory`: memory that has been short for too long.

use viworks_sdk::prelude::*;

/// When a machine is short of memory.
#[derive(Args)]
struct Memory {
    /// It warns from here on, per cent of all memory in use.
    #[arg(range = 0.0..=100.0, default = 85.0)]
    warning: f64,
    /// It is critical from here on, per cent.
    #[arg(range = 0.0..=100.0, default = 95.0)]
    critical: f64,
    /// How far back behind its level it is well again, per cent.
    #[arg(range = 0.0..=50.0, default = 5.0)]
    clear_by: f64,
    /// Seconds that it must last.
    #[arg(range = 0..=86_400, default = 300)]
    for_s: u64,
}

#[rule(reads("mem.used_pct"), example = json!({ "turns": [
    { "at_s": 0, "readings": [{ "metric": "mem.used_pct", "value": 86 }], "found": { "": "pending" } },
    { "at_s": 270, "readings": [{ "metric": "mem.used_pct", "value": 97 }], "found": { "": "pending" } },
    { "at_s": 300, "readings": [{ "metric": "mem.used_pct", "value": 97 }], "found": { "": "warning" } },
    { "at_s": 570, "readings": [{ "metric": "mem.used_pct", "value": 97 }], "found": { "": "critical" } },
    { "at_s": 600, "readings": [{ "metric": "mem.used_pct", "value": 81 }], "found": { "": "warning" } },
    { "at_s": 630, "readings": [{ "metric": "mem.used_pct", "value": 80 }] },
] }))]
impl Rule for Memory {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        let levels = Levels::new(self.warning, self.critical).clear_by(self.clear_by).after(self.for_s);
        let levels = levels.saying("{value} % of the memory is in use");
        agent.readings("mem.used_pct").for_each(|reading| watch.above(&reading, &levels));
        Ok(())
    }
}

plugin!(summary = "Alerts when a machine is short of memory", rule: Memory);

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
