//! `viworks plugin bench`: how long calls of a plugin, verbs or a rule, take here, and how much work they are everywhere.
//!
//! Work is counted by the sandbox and depends on the bytes alone, so it can be held against a budget that
//! is kept with the sources. Another compiler makes other bytes: a budget has a tolerance.

mod budget;
mod rules;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use domain::verb::VerbName;
use plan::manifest::Kind;
use runtime::tool::{Loaded, Metered, ToolError};
use serde_json::json;

use super::diff::failed;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

use budget::{Allowance, Budget};
use rules::Measured;

/// Which file, and what it may take.
#[derive(Clone, Debug, Args)]
pub struct BenchOptions {
    /// The component
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What examples may take
    #[arg(long, value_name = "BUDGET", default_value = "bench.fuel.toml")]
    pub budget: PathBuf,
    /// Write what they take now as what they may take
    #[arg(long)]
    pub bless: bool,
    /// Calls that are timed, of each example
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: u32,
}

/// What one example took.
struct Row {
    allowance: Allowance,
    p50: Duration,
    p99: Duration,
    memory_bytes: usize,
    /// What is wrong with it.
    trouble: Vec<String>,
}

/// What was measured.
enum Taken {
    Verbs(Vec<Row>),
    Rule(Measured),
}

pub(super) fn command(options: &BenchOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let name = super::file_name(&options.file);
    let wrong = |error: ToolError| failed(&options.file, error);
    let loaded = Loaded::open(&bytes, &name).map_err(wrong)?;
    let metered = Metered::open(&bytes, &name).map_err(wrong)?;
    let budget = if options.bless { None } else { budget::read(&options.budget)? };
    let rounds = usize::try_from(options.rounds).unwrap_or(usize::MAX);
    let instances = loaded.time_instances(rounds).map_err(wrong)?;
    let taken = match loaded.manifest().kind() {
        Kind::Verb => verbs(&loaded, &metered, budget.as_ref(), rounds).map(Taken::Verbs),
        Kind::Rule => rules::measure(&loaded, &metered, budget.as_ref(), rounds).map(Taken::Rule),
    };
    let taken = taken.map_err(wrong)?;
    if options.bless {
        budget::write(&options.budget, &taken.budget())?;
    }
    let good = taken.is_good();
    taken.report(&instances, sink)?;
    if !options.bless && budget.is_none() {
        let file = escape::line(&options.budget.display().to_string());
        sink.say(&format!("note: there is no budget `{file}`; `--bless` writes one"))?;
    }
    if !good {
        sink.say("`--bless` writes what it takes now as the budget, if that is what you want")?;
    }
    Ok(if good { Exit::Ok } else { Exit::Error })
}

/// Measures every example of every verb.
fn verbs(loaded: &Loaded, metered: &Metered, budget: Option<&Budget>, rounds: usize) -> Result<Vec<Row>, ToolError> {
    let mut rows = Vec::new();
    for verb in &loaded.manifest().verbs {
        let Some(name) = VerbName::parse(&verb.name) else { continue };
        for (number, example) in verb.examples.iter().enumerate() {
            let costs = metered.example(&name, example)?;
            let times = loaded.time_example(&name, example, rounds)?;
            let read = costs.interpret;
            let allowance = Allowance {
                verb: verb.name.clone(),
                example: number + 1,
                plan: costs.plan.fuel,
                interpret: read.map(|cost| cost.fuel),
            };
            let trouble = budget.map(|budget| budget.judge(&allowance)).unwrap_or_default();
            let memory_bytes = costs.plan.memory_bytes.max(read.map_or(0, |cost| cost.memory_bytes));
            let (p50, p99) = (quantile(&times, 50), quantile(&times, 99));
            rows.push(Row { allowance, p50, p99, memory_bytes, trouble });
        }
    }
    Ok(rows)
}

impl Taken {
    fn is_good(&self) -> bool {
        match self {
            Taken::Verbs(rows) => rows.iter().all(|row| row.trouble.is_empty()),
            Taken::Rule(measured) => measured.is_good(),
        }
    }

    fn budget(&self) -> Budget {
        match self {
            Taken::Verbs(rows) => Budget::of_verbs(rows.iter().map(|row| row.allowance.clone()).collect()),
            Taken::Rule(measured) => measured.budget(),
        }
    }

    fn report(&self, instances: &[Duration], sink: &Sink) -> Result<(), Failure> {
        let (p50, p99) = (quantile(instances, 50), quantile(instances, 99));
        let mut answer =
            json!({ "ok": self.is_good(), "instance_p50_us": micros(p50), "instance_p99_us": micros(p99) });
        match self {
            Taken::Verbs(rows) => answer["examples"] = rows.iter().map(Row::answer).collect(),
            Taken::Rule(measured) => {
                let (courses, fleet) = measured.answer();
                (answer["examples"], answer["fleet"]) = (json!(courses), json!(fleet));
            }
        }
        sink.one(&answer, "", || {
            let rows = match self {
                Taken::Verbs(rows) => page(rows),
                Taken::Rule(measured) => measured.page(),
            };
            format!("a fresh instance: p50 {:.1} us, p99 {:.1} us\n{rows}", micros(p50), micros(p99))
        })?;
        Ok(())
    }
}

impl Row {
    fn answer(&self) -> serde_json::Value {
        let Row { allowance, p50, p99, memory_bytes, trouble } = self;
        json!({
            "verb": allowance.verb, "example": allowance.example, "plan_p50_us": micros(*p50), "plan_p99_us": micros(*p99),
            "plan_fuel": allowance.plan, "interpret_fuel": allowance.interpret, "memory_bytes": memory_bytes,
            "trouble": trouble,
        })
    }
}

/// The time that `percent` of them stay within.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn page(rows: &[Row]) -> String {
    let mut page = String::new();
    for Row { allowance, p50, p99, memory_bytes, trouble } in rows {
        let Allowance { verb, example, plan, interpret } = allowance;
        let read = interpret.map_or_else(String::new, |fuel| format!(", interpret {fuel}"));
        let (p50, p99, kib) = (micros(*p50), micros(*p99), memory_bytes / 1024);
        let line = format!(
            "{verb} {example}: plan p50 {p50:.1} us, p99 {p99:.1} us; fuel: plan {plan}{read}; memory {kib} KiB"
        );
        _ = writeln!(page, "{}", escape::line(&line));
        for why in trouble {
            _ = writeln!(page, "  OVER BUDGET: {}", escape::line(why));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_times_work_and_memory() {
        let row = Row {
            allowance: Allowance { verb: "disk.free".into(), example: 1, plan: 1000, interpret: Some(20) },
            p50: Duration::from_nanos(23_400),
            p99: Duration::from_micros(50),
            memory_bytes: 1 << 20,
            trouble: vec!["plan takes too much".into()],
        };
        insta::assert_snapshot!(page(&[row]), @r"
        disk.free 1: plan p50 23.4 us, p99 50.0 us; fuel: plan 1000, interpret 20; memory 1024 KiB
          OVER BUDGET: plan takes too much
        ");
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!((quantile(&times, 50).as_micros(), quantile(&times, 99).as_micros()), (51, 100));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
