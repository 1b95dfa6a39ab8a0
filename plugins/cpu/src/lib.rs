//! The rule `cpu`: a processor that has been busy for too long.

use viworks_sdk::prelude::*;

/// When a machine's processor is too busy.
#[derive(Args)]
struct Cpu {
    /// It warns from here on, per cent of all cores together.
    #[arg(range = 0.0..=100.0, default = 80.0)]
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

#[rule(reads("cpu.total"), example = json!({ "turns": [
    { "at_s": 0, "readings": [{ "metric": "cpu.total", "value": 85 }], "found": { "": "pending" } },
    { "at_s": 270, "readings": [{ "metric": "cpu.total", "value": 97 }], "found": { "": "pending" } },
    { "at_s": 300, "readings": [{ "metric": "cpu.total", "value": 97 }], "found": { "": "warning" } },
    { "at_s": 570, "readings": [{ "metric": "cpu.total", "value": 97 }], "found": { "": "critical" } },
    { "at_s": 600, "readings": [{ "metric": "cpu.total", "value": 76 }], "found": { "": "warning" } },
    { "at_s": 630, "readings": [{ "metric": "cpu.total", "value": 75 }] },
] }))]
impl Rule for Cpu {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        let levels = Levels::new(self.warning, self.critical).clear_by(self.clear_by).after(self.for_s);
        let levels = levels.saying("the processor is {value} % busy");
        agent.readings("cpu.total").for_each(|reading| watch.above(&reading, &levels));
        Ok(())
    }
}

plugin!(summary = "Alerts when a machine's processor is too busy", rule: Cpu);

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
