//! What work may cost, kept with the sources of a plugin: `bench.fuel.toml`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::build;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::escape;

/// How far work may be from its budget when the file does not say, percent.
const TOLERANCE: u64 = 10;

/// The budget's file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    tolerance_percent: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    examples: Vec<Allowance>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    courses: Vec<CourseAllowance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fleet: Option<FleetAllowance>,
}

/// What one example of a verb may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allowance {
    pub(super) verb: String,
    /// From 1, as the plugin lists them.
    pub(super) example: usize,
    pub(super) plan: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interpret: Option<u64>,
}

/// What one example of a rule may take, all its turns together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CourseAllowance {
    /// From 1, as the rule lists them.
    pub(super) example: usize,
    pub(super) evaluate: u64,
}

/// What it may take to judge many agents in one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetAllowance {
    pub(super) agents: usize,
    pub(super) evaluate: u64,
}

impl Budget {
    /// What examples of verbs take now.
    pub(super) fn of_verbs(examples: Vec<Allowance>) -> Budget {
        Budget { tolerance_percent: TOLERANCE, examples, courses: Vec::new(), fleet: None }
    }

    /// What a rule takes now.
    pub(super) fn of_a_rule(courses: Vec<CourseAllowance>, fleet: Option<FleetAllowance>) -> Budget {
        Budget { tolerance_percent: TOLERANCE, examples: Vec::new(), courses, fleet }
    }

    /// What is wrong with what an example took.
    pub(super) fn judge(&self, took: &Allowance) -> Vec<String> {
        let same = |one: &&Allowance| one.verb == took.verb && one.example == took.example;
        let Some(may) = self.examples.iter().find(same) else { return vec![no_budget()] };
        let mut trouble: Vec<String> = self.over("plan", took.plan, may.plan).into_iter().collect();
        if let Some(took) = took.interpret {
            trouble.extend(self.over("interpret", took, may.interpret.unwrap_or_default()));
        }
        trouble
    }

    /// What is wrong with what a rule's example took.
    pub(super) fn judge_course(&self, took: &CourseAllowance) -> Vec<String> {
        let Some(may) = self.courses.iter().find(|one| one.example == took.example) else { return vec![no_budget()] };
        self.over("evaluate", took.evaluate, may.evaluate).into_iter().collect()
    }

    /// What is wrong with what a fleet took.
    pub(super) fn judge_fleet(&self, took: &FleetAllowance) -> Vec<String> {
        let Some(may) = self.fleet.as_ref().filter(|may| may.agents == took.agents) else { return vec![no_budget()] };
        self.over("evaluate", took.evaluate, may.evaluate).into_iter().collect()
    }

    fn over(&self, what: &str, took: u64, may: u64) -> Option<String> {
        let most = may + may * self.tolerance_percent / 100;
        (took > most).then(|| format!("{what} takes {took}, and may take {may} and {} % more", self.tolerance_percent))
    }
}

fn no_budget() -> String {
    "has no budget yet".to_owned()
}

/// The budget, if there is one.
pub(super) fn read(file: &Path) -> Result<Option<Budget>, Failure> {
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

/// Puts `budget` down.
pub(super) fn write(file: &Path, budget: &Budget) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Exit::Error, escape::line(&error));
    let text = toml::to_string(budget).map_err(|error| failed(error.to_string()))?;
    let head = "# What examples may take, counted by `viworks plugin bench`, which writes this with `--bless`.\n";
    build::write(file, format!("{head}{text}").as_bytes()).map_err(|error| failed(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(plan: u64, interpret: Option<u64>) -> Allowance {
        Allowance { verb: "disk.free".into(), example: 1, plan, interpret }
    }

    #[test]
    fn work_may_be_a_little_over_its_budget_and_far_under_it() {
        let budget = Budget::of_verbs(vec![allowance(1000, Some(100))]);
        assert!(budget.judge(&allowance(1100, Some(110))).is_empty());
        assert!(budget.judge(&allowance(10, None)).is_empty());
        let over = budget.judge(&allowance(1101, Some(200)));
        assert_eq!(over[0], "plan takes 1101, and may take 1000 and 10 % more");
        assert!(over[1].starts_with("interpret takes 200"), "{over:?}");
        let other = Allowance { example: 2, ..allowance(1, None) };
        assert_eq!(budget.judge(&other), ["has no budget yet"]);
    }

    #[test]
    fn a_rule_has_a_budget_for_each_course_and_for_a_fleet() {
        let course = |example, evaluate| CourseAllowance { example, evaluate };
        let fleet = |agents, evaluate| FleetAllowance { agents, evaluate };
        let budget = Budget::of_a_rule(vec![course(1, 500)], Some(fleet(100, 2000)));
        assert!(budget.judge_course(&course(1, 550)).is_empty() && budget.judge_fleet(&fleet(100, 2200)).is_empty());
        assert_eq!(budget.judge_course(&course(1, 551)), ["evaluate takes 551, and may take 500 and 10 % more"]);
        assert_eq!(budget.judge_course(&course(2, 1)), ["has no budget yet"]);
        assert_eq!(budget.judge_fleet(&fleet(101, 1)), ["has no budget yet"], "of another size it is another question");
        assert_eq!(budget.judge_fleet(&fleet(100, 2201)).len(), 1);
        let text = toml::to_string(&budget).expect("toml");
        assert_eq!(toml::from_str::<Budget>(&text).expect("a budget"), budget, "{text}");
    }
}
