//! Rules of ABI 1.1: the WIT world `rule-plugin` of `sdk/wit/1.1`, translated to and from the house's own types.

use domain::alert::{Finding, Seen};
use ports::rules::{Batch, State, Subject, Verdict};
use wasmtime::Store;
use wasmtime::component::Component;

use super::{Called, Tighter, fresh};
use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::guest::Guest;
use crate::tier::{Budget, Tier};
use crate::world::rules as bindings;

use bindings::exports::viworks::plugin1_1_0::rules as wit;

/// A component that is a rule.
pub(crate) struct Prepared {
    pre: bindings::RulePluginPre<Guest>,
    tier: Tier,
}

/// How many agents are judged, when, and within which limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) now_ms: u64,
    /// Nobody waits for the answer, so only the guest's own time counts.
    pub(crate) unhurried: bool,
    pub(crate) tighter: Tighter,
    /// Which form the state has that it answers.
    pub(crate) state_version: u32,
}

impl Prepared {
    pub(super) fn new(sandbox: &Sandbox, tier: Tier, component: &Component) -> wasmtime::Result<Prepared> {
        let pre = sandbox.room(tier)?.instantiate_pre(component)?;
        Ok(Prepared { pre: bindings::RulePluginPre::new(pre)?, tier })
    }

    pub(super) fn describe(&self, sandbox: &Sandbox) -> Called<String> {
        self.call(sandbox, self.tier.describe(), None, |store, rule| rule.call_describe(store))
    }

    pub(super) fn start(&self, sandbox: &Sandbox) -> Called<()> {
        self.call(sandbox, self.tier.instantiate(), None, |_, _| Ok(()))
    }

    pub(super) fn evaluate(
        &self,
        sandbox: &Sandbox,
        circumstances: Circumstances,
        config: &str,
        batch: Batch,
    ) -> Called<Vec<ports::rules::Answer>> {
        let Circumstances { now_ms, unhurried, tighter, state_version } = circumstances;
        let budget = self.tier.evaluate().of_a_call(unhurried, tighter.evaluate);
        let subjects = batch.subjects.len();
        let batch = to_wit(batch);
        let called =
            self.call(sandbox, budget, tighter.memory, |store, rule| rule.call_evaluate(store, config, now_ms, &batch));
        let answer = called.answer.and_then(|answers| match answers.len() == subjects {
            true => Ok(answers.into_iter().map(|answer| answer.map(|said| from_wit(said, state_version))).collect()),
            false => Err(Fault::Nonsense(format!("answered {} times for {subjects} agents", answers.len()))),
        });
        Called { answer, log: called.log, cost: called.cost }
    }

    fn call<T>(
        &self,
        sandbox: &Sandbox,
        budget: Budget,
        memory: Option<usize>,
        call: impl FnOnce(&mut Store<Guest>, &wit::Guest) -> wasmtime::Result<T>,
    ) -> Called<T> {
        fresh(
            sandbox,
            self.tier,
            budget,
            memory,
            |store| self.pre.instantiate(store),
            |store, instance| call(store, instance.viworks_plugin1_1_0_rules()),
        )
    }
}

fn to_wit(batch: Batch) -> wit::Batch {
    let Batch { words, series, subjects, samples, which, values, .. } = batch;
    let series = series.into_iter().map(|[metric, label, word]| wit::Series { metric, label, word });
    let samples = samples.into_iter().map(|(at_ms, readings)| wit::Sample { at_ms, readings });
    let entries = subjects.into_iter().map(|subject| {
        let Subject { agent, status, heard_ms, samples, state } = subject;
        let (state_version, state) = match state {
            Some(State { version, text }) => (version, Some(text)),
            None => (0, None),
        };
        wit::Entry { agent, status, heard_ms, samples, state_version, state }
    });
    wit::Batch {
        words,
        series: series.collect(),
        entries: entries.collect(),
        samples: samples.collect(),
        which,
        values,
    }
}

fn from_wit(verdict: wit::Verdict, version: u32) -> Verdict {
    let wit::Verdict { judged, findings, state } = verdict;
    let findings = findings.into_iter().map(|finding| {
        let wit::Finding { key, severity, since_ms, value, message } = finding;
        Finding { key, seen: Seen::read(&severity), since_ms, value, message }
    });
    Verdict { judged, findings: findings.collect(), state: state.map(|text| State { version, text }) }
}
