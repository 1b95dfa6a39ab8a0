//! Has every rule judge what agents measured, each under its own configuration: batches in, verdicts out. A rule that
//! fails is told of, and neither silences another nor takes back what it found before.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::time::Timestamp;
use futures_util::future::join_all;
use ports::rules::{Batch, MAX_BATCH_BYTES, MAX_SUBJECTS, Rule, RuleFault, Rules, State, Verdict};
use serde_json::Value;

/// One agent, as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Its name.
    pub agent: String,
    /// Its site, by which it may have a configuration of its own.
    pub site: String,
    /// Its labels, by which it may, too.
    pub labels: BTreeMap<String, String>,
    /// `online`, `degraded`, `offline` or `maintenance`.
    pub status: String,
    /// When it was last heard.
    pub heard: Timestamp,
    /// What came of it since the last look, oldest first.
    pub samples: Vec<Sampled>,
}

/// One sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// When it was taken, by the host's clock.
    pub at: Timestamp,
    /// What it says.
    pub readings: Vec<Reading>,
}

/// One number of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// e.g. `disk.used_pct`.
    pub metric: String,
    /// Of what, e.g. `/srv`; empty where there is one only.
    pub label: String,
    /// What a metric of states says, e.g. `exited`; empty for numbers.
    pub word: String,
    /// The number; 1 where a word says it.
    pub value: f64,
}

/// What one rule said.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Its name.
    pub rule: String,
    /// Agent by agent, in the order they were observed.
    pub agents: Vec<(String, Result<Verdict, RuleError>)>,
}

/// A rule said nothing of an agent. What it found before stands, and so does what is kept for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub String);

/// What rules last had the host keep: by rule, then by agent.
pub type States = BTreeMap<String, BTreeMap<String, State>>;

/// The use case.
pub struct Judge {
    rules: Arc<dyn Rules>,
}

impl Judge {
    /// By the rules that are loaded whenever it is asked.
    pub fn new(rules: Arc<dyn Rules>) -> Judge {
        Judge { rules }
    }

    /// Has every rule judge `observed`. What is to be kept replaces what was in `states`; for whom a rule said nothing,
    /// it stays.
    pub async fn run(&self, observed: &[Observed], states: &mut States, now: Timestamp) -> Vec<Said> {
        let rules = self.rules.rules();
        let kept = states.clone();
        let said = join_all(rules.iter().map(|rule| {
            let kept = kept.get(&rule.plugin().name).cloned().unwrap_or_default();
            judged(rule.as_ref(), observed, kept, now)
        }));
        let said = said.await;
        for Said { rule, agents } in &said {
            let states = states.entry(rule.clone()).or_default();
            for (agent, verdict) in agents {
                match verdict {
                    Ok(Verdict { state: Some(state), .. }) => _ = states.insert(agent.clone(), state.clone()),
                    Ok(Verdict { state: None, .. }) => _ = states.remove(agent),
                    Err(_) => {}
                }
            }
        }
        said
    }
}

/// What `rule` says of all that was observed, batch by batch.
async fn judged(rule: &dyn Rule, observed: &[Observed], kept: BTreeMap<String, State>, now: Timestamp) -> Said {
    let mut verdicts: Vec<Option<Result<Verdict, RuleError>>> = vec![None; observed.len()];
    for (config, members) in by_configuration(rule, observed) {
        let mut rest = members.as_slice();
        while !rest.is_empty() {
            let (batch, taken) = batch(rule, observed, rest, &kept);
            let (these, others) = rest.split_at(taken);
            rest = others;
            let answers = rule.evaluate(config, millis(now), batch).await.map_err(failed);
            for (place, index) in these.iter().enumerate() {
                verdicts[*index] = Some(match &answers {
                    // One answer for each agent is what the port promises.
                    Ok(answers) => match answers.get(place) {
                        Some(answer) => answer.clone().map_err(RuleError),
                        None => Err(RuleError("it gave no answer".to_owned())),
                    },
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }
    let agents = observed.iter().zip(verdicts).map(|(one, verdict)| {
        (one.agent.clone(), verdict.unwrap_or_else(|| Err(RuleError("it was not asked".to_owned()))))
    });
    Said { rule: rule.plugin().name.clone(), agents: agents.collect() }
}

/// Who is judged by which configuration: none is the operator's for most.
fn by_configuration<'a>(rule: &'a dyn Rule, observed: &[Observed]) -> Vec<(Option<&'a Value>, Vec<usize>)> {
    let overrides = rule.overrides();
    let mut groups: Vec<(Option<&Value>, Vec<usize>)> = vec![(None, Vec::new())];
    groups.extend(overrides.iter().map(|one| (Some(&one.config), Vec::new())));
    for (index, one) in observed.iter().enumerate() {
        let fits = overrides.iter().position(|own| own.fits(&one.site, &one.labels));
        groups[fits.map_or(0, |place| place + 1)].1.push(index);
    }
    groups
}

/// As many of `members` as one call may have, at least one, with what the rule reads of them.
fn batch(rule: &dyn Rule, observed: &[Observed], members: &[usize], kept: &BTreeMap<String, State>) -> (Batch, usize) {
    /// Room for the next agent, which may have much to say.
    const ROOM: usize = MAX_BATCH_BYTES / 2;
    let mut batch = Batch::default();
    let mut bytes = 0;
    let mut taken = 0;
    for index in members.iter().take(MAX_SUBJECTS) {
        let Observed { agent, status, heard, samples, .. } = &observed[*index];
        let state = kept.get(agent).cloned();
        bytes += state.as_ref().map_or(0, |state| state.text.len()) + agent.len() + 64;
        batch.subject(agent.clone(), status, millis(*heard), state);
        for sample in samples {
            batch.sample(millis(sample.at));
            bytes += 16;
            for Reading { metric, label, word, value } in &sample.readings {
                if rule.reads().iter().any(|read| read == metric) {
                    bytes += 24 + label.len() + word.len();
                    let series = batch.series(metric, label, word);
                    batch.reading(series, *value);
                }
            }
        }
        taken += 1;
        if bytes > ROOM {
            break;
        }
    }
    (batch, taken)
}

fn failed(fault: RuleFault) -> RuleError {
    RuleError(fault.to_string())
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use domain::alert::{Finding, Seen};
    use ports::plugins::{PluginIdentity, Violation};
    use ports::rules::{Answer, Override};
    use serde_json::json;

    use super::*;

    /// Finds as much wrong as its configuration says, and remembers how often it was asked.
    struct Fake {
        identity: PluginIdentity,
        config: Value,
        overrides: Vec<Override>,
        reads: Vec<String>,
        fails: bool,
        /// Agents and readings of each call.
        calls: Mutex<Vec<(usize, usize)>>,
    }

    impl Fake {
        fn new(name: &str) -> Fake {
            let identity = PluginIdentity { name: name.into(), version: "1.0.0".into(), digest: "ab".into() };
            Fake {
                identity,
                config: json!(1),
                overrides: Vec::new(),
                reads: vec!["cpu.total".into()],
                fails: false,
                calls: Mutex::default(),
            }
        }
    }

    #[async_trait]
    impl Rule for Fake {
        fn plugin(&self) -> &PluginIdentity {
            &self.identity
        }
        fn summary(&self) -> &str {
            "finds"
        }
        fn reads(&self) -> &[String] {
            &self.reads
        }
        fn config(&self) -> &Value {
            &self.config
        }
        fn overrides(&self) -> &[Override] {
            &self.overrides
        }
        fn config_schema(&self) -> Option<&Value> {
            None
        }
        fn validate(&self, _: &Value) -> Result<(), Vec<Violation>> {
            Ok(())
        }
        async fn evaluate(&self, config: Option<&Value>, now_ms: u64, batch: Batch) -> Result<Vec<Answer>, RuleFault> {
            self.calls.lock().expect("nobody panics").push((batch.subjects.len(), batch.values.len()));
            if self.fails {
                return Err(RuleFault::Failed { plugin: self.identity.name.clone(), message: "trapped".into() });
            }
            let count = config.unwrap_or(&self.config).as_u64().unwrap_or(0);
            let answer = |state: Option<State>| {
                let asked = state.map_or(0, |state| state.text.parse::<u64>().unwrap_or(0)) + 1;
                let finding = |key: u64| Finding {
                    key: key.to_string(),
                    seen: Seen::Pending,
                    since_ms: now_ms,
                    value: None,
                    message: String::new(),
                };
                let findings = (0..count).map(finding).collect();
                let state = (asked < 3).then(|| State { version: 1, text: asked.to_string() });
                Ok(Verdict { judged: true, findings, state })
            };
            Ok(batch.subjects.into_iter().map(|subject| answer(subject.state)).collect())
        }
    }

    struct Loaded(Vec<Arc<Fake>>);

    impl Rules for Loaded {
        fn rules(&self) -> Vec<Arc<dyn Rule>> {
            self.0.iter().map(|rule| Arc::clone(rule) as Arc<dyn Rule>).collect()
        }
    }

    fn observed(agent: &str, site: &str) -> Observed {
        let reading =
            |metric: &str| Reading { metric: metric.into(), label: String::new(), word: String::new(), value: 1.0 };
        let readings = vec![reading("cpu.total"), reading("load.1")];
        Observed {
            agent: agent.into(),
            site: site.into(),
            status: "online".into(),
            samples: vec![Sampled { at: Timestamp(1), readings }],
            ..Observed::default()
        }
    }

    fn found(said: &Said) -> Vec<(&str, Option<usize>)> {
        said.agents
            .iter()
            .map(|(agent, verdict)| (agent.as_str(), verdict.as_ref().ok().map(|v| v.findings.len())))
            .collect()
    }

    #[tokio::test]
    async fn each_agent_is_judged_by_its_own_configuration_and_answered_in_its_place() {
        let own = Override { sites: vec!["eu-1".into()], config: json!(5), ..Override::default() };
        let rule = Arc::new(Fake { overrides: vec![own], ..Fake::new("cpu") });
        let judge = Judge::new(Arc::new(Loaded(vec![Arc::clone(&rule)])));
        let all = [observed("a", "us-1"), observed("b", "eu-1"), observed("c", "us-1")];
        let said = judge.run(&all, &mut States::new(), Timestamp(9)).await;
        assert_eq!(found(&said[0]), [("a", Some(1)), ("b", Some(5)), ("c", Some(1))]);
        let calls = rule.calls.lock().expect("nobody panics").clone();
        assert_eq!(calls, [(2, 2), (1, 1)], "one call for each configuration, and only what the rule reads");
    }

    #[tokio::test]
    async fn a_rule_that_fails_silences_nobody_and_loses_nothing() {
        let (well, ill) = (Arc::new(Fake::new("cpu")), Arc::new(Fake { fails: true, ..Fake::new("disk") }));
        let judge = Judge::new(Arc::new(Loaded(vec![well, ill])));
        let state = |text: &str| State { version: 1, text: text.into() };
        let of = |text: &str| BTreeMap::from([("a".to_owned(), state(text))]);
        let mut states = States::from([("cpu".into(), of("1")), ("disk".into(), of("1"))]);
        let all = [observed("a", "eu-1")];
        let said = judge.run(&all, &mut states, Timestamp(9)).await;
        assert_eq!(found(&said[0]), [("a", Some(1))]);
        assert_eq!(said[1].agents[0].1, Err(RuleError("rule `disk` failed: trapped".into())));
        assert_eq!((&states["cpu"]["a"], &states["disk"]["a"]), (&state("2"), &state("1")));
        judge.run(&all, &mut states, Timestamp(9)).await;
        assert!(states["cpu"].is_empty(), "what a rule does not want kept is let go");
    }

    #[tokio::test]
    async fn a_fleet_is_cut_into_batches_that_one_call_may_have() {
        let rule = Arc::new(Fake::new("cpu"));
        let judge = Judge::new(Arc::new(Loaded(vec![Arc::clone(&rule)])));
        let mut all: Vec<Observed> = (0..MAX_SUBJECTS + 5).map(|number| observed(&number.to_string(), "")).collect();
        all[0].samples[0].readings[0].label = "x".repeat(MAX_BATCH_BYTES / 2);
        let said = judge.run(&all, &mut States::new(), Timestamp(9)).await;
        assert!(said[0].agents.iter().all(|(_, verdict)| verdict.is_ok()));
        let calls: Vec<usize> = rule.calls.lock().expect("nobody panics").iter().map(|(agents, _)| *agents).collect();
        assert_eq!(calls, [1, MAX_SUBJECTS, 4], "a heavy one alone, then as many as there may be");
    }
}
