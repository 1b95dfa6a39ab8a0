//! The rule `NAME`.

use viworks_sdk::prelude::*;

/// When a machine has too much to do.
#[derive(Args)]
struct Load {
    /// It warns from here on: tasks that want to run, over a minute.
    #[arg(range = 0.0..=10_000.0, default = 8.0)]
    warning: f64,
    /// It is critical from here on.
    #[arg(range = 0.0..=10_000.0, default = 16.0)]
    critical: f64,
    /// How far back behind its level it is well again.
    #[arg(range = 0.0..=10_000.0, default = 1.0)]
    clear_by: f64,
    /// Seconds that it must last.
    #[arg(range = 0..=86_400, default = 120)]
    for_s: u64,
}

#[rule(reads("load.1"), example = json!({ "turns": [
    { "at_s": 0, "readings": [{ "metric": "load.1", "value": 9 }], "found": { "": "pending" } },
    { "at_s": 120, "readings": [{ "metric": "load.1", "value": 9 }], "found": { "": "warning" } },
    { "at_s": 150, "readings": [{ "metric": "load.1", "value": 2 }] },
] }))]
impl Rule for Load {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        let levels = Levels::new(self.warning, self.critical).clear_by(self.clear_by).after(self.for_s);
        for reading in agent.readings("load.1") {
            watch.above(&reading, &levels.saying("{value} tasks want to run"));
        }
        Ok(())
    }
}

plugin!(summary = "Alerts when a machine has too much to do", rule: Load);

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

    #[test]
    fn the_line_for_people_names_the_number() {
        let turns = test::course::<Load>(json!({ "config": { "for_s": 0 }, "turns": [
            { "at_s": 0, "readings": [{ "metric": "load.1", "value": 17.25 }], "found": { "": "critical" } },
        ] }));
        assert_eq!(turns[0][0].message, "17.3 tasks want to run");
    }
}
