//! What a run found: text for people, one JSON line for machines.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::conditions::Conditions;
use crate::latency::Quantiles;
use crate::usage::Cost;

/// Above this share of the machine, the generator is what was measured.
const GENERATOR_BOUND: f64 = 0.45;

/// One run's findings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// What was measured, e.g. `commands` or `hub`.
    pub scenario: String,
    /// How.
    pub parameters: Map<String, Value>,
    /// Operations finished inside the window.
    pub operations: u64,
    /// Operations per second.
    pub rate: f64,
    /// Their latencies; all zero when none were taken.
    pub latency: Quantiles,
    /// What it cost.
    pub cost: Cost,
    /// Requests refused with 429.
    pub refused_429: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Further figures.
    pub notes: Map<String, Value>,
    /// Why the run does not count. Empty: it does.
    pub faults: Vec<String>,
}

impl Measured {
    /// Nothing found yet.
    pub fn new(scenario: &str, parameters: Value) -> Measured {
        let Value::Object(parameters) = parameters else { panic!("parameters are an object") };
        Measured { scenario: scenario.to_owned(), parameters, ..Measured::default() }
    }

    /// Adds a further figure.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.notes.insert(name.to_owned(), value.into());
    }

    /// A further figure; `None` when it was not taken.
    pub fn noted(&self, name: &str) -> Option<f64> {
        self.notes.get(name).and_then(Value::as_f64)
    }

    /// CPU of the measured process for each operation, microseconds.
    pub fn server_us(&self) -> Option<f64> {
        self.cost.server_us_per(self.operations)
    }

    /// Derives what follows from operations and cost: CPU for each operation, and who was the limit.
    pub fn conclude(mut self, cores: usize) -> Measured {
        if self.operations > 0 && self.cost.generator_cpu_s > 0.0 {
            self.note("generator_us_per_op", round(self.cost.generator_cpu_s * 1e6 / self.operations as f64));
            let share = self.cost.generator_cpu_s / (self.cost.seconds * cores as f64);
            self.note("generator_share_of_machine", round(share));
            if share > GENERATOR_BOUND {
                self.note("generator_bound", true);
            }
        }
        if let Some(us) = self.server_us() {
            self.note("server_us_per_op", round(us));
        }
        if let Some(bytes) = self.cost.server_written_bytes.filter(|_| self.operations > 0) {
            self.note("server_written_bytes_per_op", round(bytes as f64 / self.operations as f64));
        }
        if self.cost.disturbed() {
            self.note("disturbed", true);
        }
        self
    }

    /// The findings as one JSON line.
    pub fn line(&self, conditions: &Conditions) -> String {
        let mut all = serde_json::to_value(self).expect("findings hold nothing that JSON cannot");
        all["conditions"] = json!(conditions);
        all.to_string()
    }

    /// Appends the JSON line to `file`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, conditions: &Conditions, file: &Path) -> Result<()> {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(opened.with_context(|| format!("results {}", file.display()))?, "{}", self.line(conditions))?;
        Ok(())
    }
}

/// Three digits behind the point.
pub fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = |map: &Map<String, Value>| {
            map.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        writeln!(f, "{} {}", self.scenario, pairs(&self.parameters))?;
        if self.operations > 0 {
            writeln!(
                f,
                "  {:.0}/s ({} in {:.1} s), {} refused, {} errors",
                self.rate, self.operations, self.cost.seconds, self.refused_429, self.errors
            )?;
        }
        if self.latency.count > 0 {
            writeln!(f, "  {}", self.latency)?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "  {}", pairs(&self.notes))?;
        }
        for fault in &self.faults {
            writeln!(f, "  FAULT: {fault}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn conditions() -> Conditions {
        Conditions {
            commit: "abc".into(),
            build: "dev".into(),
            kernel: "6".into(),
            cpu: "x".into(),
            cores: 2,
            memory_bytes: 1,
            load: "0 0 0".into(),
            idle_before: 1.0,
            idle_after: None,
            filesystem: "ext4".into(),
            durability: "FULL".into(),
        }
    }

    fn measured() -> Measured {
        let cost = Cost { seconds: 2.0, generator_cpu_s: 2.0, server_cpu_s: Some(1.0), ..Cost::default() };
        Measured { operations: 1000, rate: 500.0, cost, ..Measured::new("commands", json!({"agents": 10})) }
    }

    #[test]
    fn cost_is_told_for_each_operation_and_a_busy_generator_is_named() {
        let concluded = measured().conclude(2);
        assert_eq!(
            (concluded.noted("generator_us_per_op"), concluded.noted("server_us_per_op")),
            (Some(2000.0), Some(1000.0))
        );
        assert_eq!(concluded.notes.get("generator_bound"), Some(&Value::Bool(true)));
        assert_eq!(measured().conclude(4).notes.get("generator_bound"), None);
    }

    #[test]
    fn every_run_is_one_line_that_carries_its_conditions() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path: PathBuf = dir.path().join("results.jsonl");
        measured().append(&conditions(), &path).expect("written");
        measured().append(&conditions(), &path).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(
            (lines.len(), &lines[1]["conditions"]["commit"], &lines[1]["rate"]),
            (2, &json!("abc"), &json!(500.0))
        );
    }
}
