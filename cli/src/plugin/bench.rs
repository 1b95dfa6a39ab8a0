//! `viworks plugin bench`: how long calls take here, and how much work they are everywhere.
//!
//! Work is counted by the sandbox and depends on the bytes alone, so it can be held against a budget that
//! is kept with the sources. Another compiler makes other bytes: a budget has a tolerance.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use domain::verb::VerbName;
use plan::manifest::Kind;
use runtime::tool::{Loaded, Metered, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::build;
use super::diff::failed;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

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

/// How far work may be from its budget when the file does not say, percent.
const TOLERANCE: u64 = 10;

/// The budget's file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    tolerance_percent: u64,
    #[serde(default)]
    examples: Vec<Allowance>,
}

/// What one example may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowance {
    verb: String,
    /// From 1, as the plugin lists them.
    example: usize,
    plan: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interpret: Option<u64>,
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

pub(super) fn command(options: &BenchOptions, sink: &Sink) -> Result<Exit, Failure> {
    let bytes = super::read(&options.file)?;
    let name = super::file_name(&options.file);
    let wrong = |error: ToolError| failed(&options.file, error);
    let loaded = Loaded::open(&bytes, &name).map_err(wrong)?;
    let metered = Metered::open(&bytes, &name).map_err(wrong)?;
    let budget = if options.bless { None } else { read(&options.budget)? };
    let rounds = usize::try_from(options.rounds).unwrap_or(usize::MAX);
    let instances = loaded.time_instances(rounds).map_err(wrong)?;
    let mut rows = Vec::new();
    for verb in &loaded.manifest().verbs {
        let Some(name) = VerbName::parse(&verb.name) else { continue };
        for (number, example) in verb.examples.iter().enumerate() {
            let costs = metered.example(&name, example).map_err(wrong)?;
            let times = loaded.time_example(&name, example, rounds).map_err(wrong)?;
            let read = costs.interpret;
            let allowance = Allowance {
                verb: verb.name.clone(),
                example: number + 1,
                plan: costs.plan.fuel,
                interpret: read.map(|cost| cost.fuel),
            };
            let trouble = budget.as_ref().map(|budget| budget.judge(&allowance)).unwrap_or_default();
            let memory_bytes = costs.plan.memory_bytes.max(read.map_or(0, |cost| cost.memory_bytes));
            let (p50, p99) = (quantile(&times, 50), quantile(&times, 99));
            rows.push(Row { allowance, p50, p99, memory_bytes, trouble });
        }
    }
    if options.bless {
        let examples = rows.iter().map(|row| row.allowance.clone()).collect();
        write(&options.budget, &Budget { tolerance_percent: TOLERANCE, examples })?;
    }
    let good = rows.iter().all(|row| row.trouble.is_empty());
    report(&rows, &instances, good, sink)?;
    if loaded.manifest().kind() == Kind::Rule {
        sink.say("note: a rule makes no plans to time; `viworks plugin run` plays its examples")?;
        return Ok(Exit::Ok);
    }
    if !options.bless && budget.is_none() {
        let file = escape::line(&options.budget.display().to_string());
        sink.say(&format!("note: there is no budget `{file}`; `--bless` writes one"))?;
    }
    if !good {
        sink.say("`--bless` writes what it takes now as the budget, if that is what you want")?;
    }
    Ok(if good { Exit::Ok } else { Exit::Error })
}

impl Budget {
    /// What is wrong with what an example took.
    fn judge(&self, took: &Allowance) -> Vec<String> {
        let same = |one: &&Allowance| one.verb == took.verb && one.example == took.example;
        let Some(may) = self.examples.iter().find(same) else { return vec!["has no budget yet".to_owned()] };
        let mut trouble = Vec::new();
        for (what, may, took) in
            [("plan", Some(may.plan), Some(took.plan)), ("interpret", may.interpret, took.interpret)]
        {
            let (Some(took), may) = (took, may.unwrap_or_default()) else { continue };
            let most = may + may * self.tolerance_percent / 100;
            if took > most {
                trouble.push(format!("{what} takes {took}, and may take {may} and {} % more", self.tolerance_percent));
            }
        }
        trouble
    }
}

/// The budget, if there is one.
fn read(file: &Path) -> Result<Option<Budget>, Failure> {
    let shown = escape::line(&file.display().to_string());
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::usage(format!("cannot read `{shown}`: {error}"))),
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Failure::usage(escape::line(&format!("{shown}:{line}: {}", error.message())))
        }),
    }
}

fn write(file: &Path, budget: &Budget) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Exit::Error, escape::line(&error));
    let text = toml::to_string(budget).map_err(|error| failed(error.to_string()))?;
    let head = "# What examples may take, counted by `viworks plugin bench`, which writes this with `--bless`.\n";
    build::write(file, format!("{head}{text}").as_bytes()).map_err(|error| failed(format!("{error:#}")))
}

/// The time that `percent` of them stay within.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn report(rows: &[Row], instances: &[Duration], good: bool, sink: &Sink) -> Result<(), Failure> {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let instance = (quantile(instances, 50), quantile(instances, 99));
    let listed: Vec<_> = rows
        .iter()
        .map(|Row { allowance, p50, p99, memory_bytes, trouble }| {
            json!({
                "verb": allowance.verb, "example": allowance.example, "plan_p50_us": us(*p50), "plan_p99_us": us(*p99),
                "plan_fuel": allowance.plan, "interpret_fuel": allowance.interpret, "memory_bytes": memory_bytes,
                "trouble": trouble,
            })
        })
        .collect();
    let answer = json!({
        "ok": good, "instance_p50_us": us(instance.0), "instance_p99_us": us(instance.1), "examples": listed,
    });
    sink.one(&answer, "", || page(rows, instance))?;
    Ok(())
}

fn page(rows: &[Row], (p50, p99): (Duration, Duration)) -> String {
    let us = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    let mut page = format!("a fresh instance: p50 {} us, p99 {} us\n", us(p50), us(p99));
    for Row { allowance, p50, p99, memory_bytes, trouble } in rows {
        let Allowance { verb, example, plan, interpret } = allowance;
        let read = interpret.map_or_else(String::new, |fuel| format!(", interpret {fuel}"));
        let line = format!(
            "{verb} {example}: plan p50 {} us, p99 {} us; fuel: plan {plan}{read}; memory {} KiB",
            us(*p50),
            us(*p99),
            memory_bytes / 1024
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

    fn allowance(plan: u64, interpret: Option<u64>) -> Allowance {
        Allowance { verb: "disk.free".into(), example: 1, plan, interpret }
    }

    #[test]
    fn work_may_be_a_little_over_its_budget_and_far_under_it() {
        let budget = Budget { tolerance_percent: 10, examples: vec![allowance(1000, Some(100))] };
        assert!(budget.judge(&allowance(1100, Some(110))).is_empty());
        assert!(budget.judge(&allowance(10, None)).is_empty());
        let over = budget.judge(&allowance(1101, Some(200)));
        assert_eq!(over[0], "plan takes 1101, and may take 1000 and 10 % more");
        assert!(over[1].starts_with("interpret takes 200"), "{over:?}");
        let other = Allowance { example: 2, ..allowance(1, None) };
        assert_eq!(budget.judge(&other), ["has no budget yet"]);
    }

    #[test]
    fn a_page_has_times_work_and_memory() {
        let row = Row {
            allowance: allowance(1000, Some(20)),
            p50: Duration::from_nanos(23_400),
            p99: Duration::from_micros(50),
            memory_bytes: 1 << 20,
            trouble: vec!["plan takes too much".into()],
        };
        insta::assert_snapshot!(page(&[row], (Duration::from_micros(8), Duration::from_micros(12))), @r"
        a fresh instance: p50 8.0 us, p99 12.0 us
        disk.free 1: plan p50 23.4 us, p99 50.0 us; fuel: plan 1000, interpret 20; memory 1024 KiB
          OVER BUDGET: plan takes too much
        ");
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!((quantile(&times, 50).as_micros(), quantile(&times, 99).as_micros()), (51, 100));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
