//! What calls of a component take: time on this machine, and work that is counted the same on every machine.

use std::time::{Duration, Instant};

use domain::verb::VerbName;
use plan::manifest::Example;

use super::{Loaded, ToolError, on_deep_stack};
use crate::abi::Cost;
use crate::compile::{Compile, Compiler};
use crate::engine::Sandbox;
use crate::gates::{Gates, trial};
use crate::tier::Consents;

/// A component whose every call is counted.
pub struct Metered(pub(super) Loaded);

/// What one example takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Its plan.
    pub plan: Cost,
    /// Reading its recorded output; absent when it has none.
    pub interpret: Option<Cost>,
}

impl Metered {
    /// Leads `bytes`, a file named `file_name`, through gates 1 to 8 and counts.
    ///
    /// # Errors
    /// The first gate that said no.
    pub fn open(bytes: &[u8], file_name: &str) -> Result<Metered, ToolError> {
        on_deep_stack(|| {
            let compiler = Compiler::new(Compile::InProcess, None).expect("a compiler without a cache touches nothing");
            let gates = Gates::new(Sandbox::metered()?, compiler);
            let build = gates.check(file_name, bytes, &Consents::Nobody)?;
            Ok(Metered(Loaded { gates, build }))
        })
    }

    /// What an example of `verb` takes.
    ///
    /// # Errors
    /// When the plugin has no such verb.
    pub fn example(&self, verb: &VerbName, example: &Example) -> Result<Costs, ToolError> {
        let Metered(loaded) = self;
        let (_, context) = loaded.call(verb, &trial::profile())?;
        on_deep_stack(|| {
            let (sandbox, prepared) = (loaded.gates.sandbox(), &loaded.build.prepared);
            let args = example.args.to_string();
            let planned = prepared.plan(sandbox, context.clone(), args.clone());
            let steps = planned.answer.ok().and_then(Result::ok).map_or(1, |plan| plan.steps.len());
            let interpret = example
                .golden
                .as_ref()
                .map(|golden| prepared.interpret(sandbox, context.clone(), args, trial::recorded(golden, steps)).cost);
            Ok(Costs { plan: planned.cost, interpret })
        })
    }
}

impl Loaded {
    /// How long `rounds` plans of an example of `verb` take, each with a fresh instance, sorted.
    ///
    /// # Errors
    /// When the plugin has no such verb, or has no plan.
    pub fn time_example(&self, verb: &VerbName, example: &Example, rounds: usize) -> Result<Vec<Duration>, ToolError> {
        let mut times = self.time_plans(verb, &trial::profile(), &example.args, rounds)?;
        times.sort();
        Ok(times)
    }

    /// How long it takes to make `rounds` instances, sorted.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn time_instances(&self, rounds: usize) -> Result<Vec<Duration>, ToolError> {
        on_deep_stack(|| {
            let mut times: Vec<Duration> = (0..rounds)
                .map(|_| {
                    let begun = Instant::now();
                    _ = self.build.prepared.start(self.gates.sandbox()).answer;
                    begun.elapsed()
                })
                .collect();
            times.sort();
            Ok(times)
        })
    }
}
