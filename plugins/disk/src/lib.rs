//! The rule `disk`: a file system that is nearly full, each by itself.

use viworks_sdk::prelude::*;

/// When a file system is nearly full.
#[derive(Args)]
struct Disk {
    /// It warns from here on, per cent in use.
    #[arg(range = 0.0..=100.0, default = 85.0)]
    warning: f64,
    /// It is critical from here on, per cent.
    #[arg(range = 0.0..=100.0, default = 95.0)]
    critical: f64,
    /// How far back behind its level it is well again, per cent.
    #[arg(range = 0.0..=50.0, default = 2.0)]
    clear_by: f64,
    /// Seconds that it must last.
    #[arg(range = 0..=86_400, default = 60)]
    for_s: u64,
}

#[rule(reads("disk.used_pct"), example = json!({ "turns": [
    {
        "at_s": 0,
        "readings": [
            { "metric": "disk.used_pct", "label": "/", "value": 90 },
            { "metric": "disk.used_pct", "label": "/srv", "value": 96 },
        ],
        "found": { "/": "pending", "/srv": "pending" },
    },
    {
        "at_s": 60,
        "readings": [
            { "metric": "disk.used_pct", "label": "/", "value": 80 },
            { "metric": "disk.used_pct", "label": "/srv", "value": 96 },
        ],
        "found": { "/srv": "critical" },
    },
    { "at_s": 90, "readings": [{ "metric": "disk.used_pct", "label": "/", "value": 80 }] },
] }))]
impl Rule for Disk {
    fn judge(&self, agent: &Agent, watch: &mut Watch) -> Result<()> {
        let levels = Levels::new(self.warning, self.critical).clear_by(self.clear_by).after(self.for_s);
        let levels = levels.saying("{label} is {value} % full");
        agent.readings("disk.used_pct").for_each(|reading| watch.above(&reading, &levels));
        Ok(())
    }
}

plugin!(summary = "Alerts when a file system is nearly full", rule: Disk);

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
