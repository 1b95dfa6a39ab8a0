//! What a rule takes: each of its examples, and many agents in one call.

use std::fmt::Write as _;
use std::time::Duration;

use runtime::tool::{Cost, Loaded, Metered, ToolError};
use serde_json::{Value, json};

use super::budget::{Budget, CourseAllowance, FleetAllowance};
use super::{micros, quantile};
use crate::output::{count, escape};

/// What was measured of a rule.
pub(super) struct Measured {
    courses: Vec<(CourseAllowance, Row)>,
    fleet: Option<(FleetAllowance, Row)>,
}

/// One line of it.
struct Row {
    p50: Duration,
    p99: Duration,
    memory_bytes: usize,
    /// What is wrong with it.
    trouble: Vec<String>,
}

/// Measures each example `rounds` times, and a fleet of the first one's a tenth as often.
pub(super) fn measure(
    loaded: &Loaded,
    metered: &Metered,
    budget: Option<&Budget>,
    rounds: usize,
) -> Result<Measured, ToolError> {
    let examples = loaded.manifest().rule.iter().flat_map(|rule| &rule.examples);
    let mut measured = Measured { courses: Vec::new(), fleet: None };
    for (number, course) in examples.enumerate() {
        let cost = metered.course(course)?;
        let allowance = CourseAllowance { example: number + 1, evaluate: cost.fuel };
        let trouble = budget.map(|budget| budget.judge_course(&allowance)).unwrap_or_default();
        let row = Row::of(&loaded.time_course(course, rounds)?, cost, trouble);
        measured.courses.push((allowance, row));
        if measured.fleet.is_some() {
            continue;
        }
        if let Some(fleet) = loaded.fleet(course)? {
            let cost = metered.fleet(&fleet)?;
            let allowance = FleetAllowance { agents: fleet.agents(), evaluate: cost.fuel };
            let trouble = budget.map(|budget| budget.judge_fleet(&allowance)).unwrap_or_default();
            let row = Row::of(&loaded.time_fleet(&fleet, rounds.div_ceil(10))?, cost, trouble);
            measured.fleet = Some((allowance, row));
        }
    }
    Ok(measured)
}

impl Row {
    fn of(times: &[Duration], cost: Cost, trouble: Vec<String>) -> Row {
        Row { p50: quantile(times, 50), p99: quantile(times, 99), memory_bytes: cost.memory_bytes, trouble }
    }

    fn answer(&self, mut more: Value) -> Value {
        let Row { p50, p99, memory_bytes, trouble } = self;
        more["evaluate_p50_us"] = json!(micros(*p50));
        more["evaluate_p99_us"] = json!(micros(*p99));
        (more["memory_bytes"], more["trouble"]) = (json!(memory_bytes), json!(trouble));
        more
    }

    fn tell(&self, page: &mut String, what: &str, fuel: u64) {
        let Row { p50, p99, memory_bytes, trouble } = self;
        let (p50, p99, kib) = (micros(*p50), micros(*p99), memory_bytes / 1024);
        let line = format!("{what}: p50 {p50:.1} us, p99 {p99:.1} us; fuel: evaluate {fuel}; memory {kib} KiB");
        _ = writeln!(page, "{}", escape::line(&line));
        for why in trouble {
            _ = writeln!(page, "  OVER BUDGET: {}", escape::line(why));
        }
    }
}

impl Measured {
    /// Whether all is within its budget.
    pub(super) fn is_good(&self) -> bool {
        let mut rows = self.courses.iter().map(|(_, row)| row).chain(self.fleet.iter().map(|(_, row)| row));
        rows.all(|row| row.trouble.is_empty())
    }

    /// What it took, as what it may take.
    pub(super) fn budget(&self) -> Budget {
        let courses = self.courses.iter().map(|(allowance, _)| allowance.clone()).collect();
        Budget::of_a_rule(courses, self.fleet.as_ref().map(|(allowance, _)| allowance.clone()))
    }

    /// As a script reads it: courses, and the fleet.
    pub(super) fn answer(&self) -> (Vec<Value>, Option<Value>) {
        let courses = self.courses.iter().map(|(allowance, row)| {
            row.answer(json!({ "example": allowance.example, "evaluate_fuel": allowance.evaluate }))
        });
        let fleet = self.fleet.as_ref().map(|(allowance, row)| {
            row.answer(json!({ "agents": allowance.agents, "evaluate_fuel": allowance.evaluate }))
        });
        (courses.collect(), fleet)
    }

    /// As a person reads it.
    pub(super) fn page(&self) -> String {
        let mut page = String::new();
        for (CourseAllowance { example, evaluate }, row) in &self.courses {
            row.tell(&mut page, &format!("example {example}: a turn"), *evaluate);
        }
        if let Some((FleetAllowance { agents, evaluate }, row)) = &self.fleet {
            row.tell(&mut page, &format!("{} in a call", count::of(*agents, "agent", "agents")), *evaluate);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_line_for_each_example_and_one_for_the_fleet() {
        let row = |p50: u64, trouble: &[&str]| Row {
            p50: Duration::from_micros(p50),
            p99: Duration::from_micros(p50 * 2),
            memory_bytes: 1 << 20,
            trouble: trouble.iter().map(|why| (*why).to_owned()).collect(),
        };
        let measured = Measured {
            courses: vec![(CourseAllowance { example: 1, evaluate: 700 }, row(20, &["evaluate takes too much"]))],
            fleet: Some((FleetAllowance { agents: 1_000, evaluate: 9_000 }, row(8_000, &[]))),
        };
        assert!(!measured.is_good());
        insta::assert_snapshot!(measured.page(), @r"
        example 1: a turn: p50 20.0 us, p99 40.0 us; fuel: evaluate 700; memory 1024 KiB
          OVER BUDGET: evaluate takes too much
        1000 agents in a call: p50 8000.0 us, p99 16000.0 us; fuel: evaluate 9000; memory 1024 KiB
        ");
        assert_eq!(measured.answer().1.expect("a fleet")["agents"], 1_000);
    }
}
