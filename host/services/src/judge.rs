//! Has every rule judge what agents measured, each under its own configuration: batches in, verdicts out. A rule that
//! fails is told of, and neither silences another nor takes back what it found before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::telemetry::metric::{Metric, Series};
use domain::telemetry::report::Reading;
use domain::time::Timestamp;
use futures_util::future::join_all;
use ports::rules::{Batch, MAX_BATCH_BYTES, MAX_SUBJECTS, Rule, RuleFault, Rules, State, Verdict};
use serde_json::Value;

use crate::feed::Taken;

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
    pub samples: Vec<Taken>,
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

    /// Has every rule judge `observed`, each with what it last had the host keep.
    pub async fn run(&self, observed: &[Observed], states: &States, now: Timestamp) -> Vec<Said> {
        let rules = self.rules.rules();
        join_all(rules.iter().map(|rule| judged(rule.as_ref(), observed, states, now))).await
    }
}

impl Said {
    /// What is to be kept from now on, where that is something else than in `states`: the place of the agent among those
    /// observed, and its state or none. For whom the rule said nothing, what is kept stays.
    pub fn differing<'a>(&'a self, states: &'a States) -> impl Iterator<Item = (usize, Option<&'a State>)> {
        let before = states.get(&self.rule);
        self.agents.iter().enumerate().filter_map(move |(place, (agent, verdict))| {
            let state = verdict.as_ref().ok()?.state.as_ref();
            (state != before.and_then(|of| of.get(agent))).then_some((place, state))
        })
    }
}

/// What `rule` says of all that was observed, batch by batch.
async fn judged(rule: &dyn Rule, observed: &[Observed], states: &States, now: Timestamp) -> Said {
    let kept = states.get(&rule.plugin().name);
    let mut verdicts: Vec<Option<Result<Verdict, RuleError>>> = vec![None; observed.len()];
    for (config, members) in by_configuration(rule, observed) {
        let mut rest = members.as_slice();
        while !rest.is_empty() {
            let (batch, taken) = batch(rule, observed, rest, kept);
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
fn batch(
    rule: &dyn Rule,
    observed: &[Observed],
    members: &[usize],
    kept: Option<&BTreeMap<String, State>>,
) -> (Batch, usize) {
    /// Room for the next agent, which may have much to say.
    const ROOM: usize = MAX_BATCH_BYTES / 2;
    let reads: Vec<Metric> = rule.reads().iter().filter_map(|name| Metric::parse(name)).collect();
    let mut batch = Batch::default();
    // Samples say the same series over and over, and to look one up by its three texts is dear.
    let mut known: HashMap<(Metric, &str, Option<&str>), u32> = HashMap::new();
    let mut bytes = 0;
    let mut taken = 0;
    for index in members.iter().take(MAX_SUBJECTS) {
        let Observed { agent, status, heard, samples, .. } = &observed[*index];
        let state = kept.and_then(|kept| kept.get(agent)).cloned();
        bytes += state.as_ref().map_or(0, |state| state.text.len()) + agent.len() + 64;
        batch.subject(agent.clone(), status, millis(*heard), state);
        for sample in samples {
            batch.sample(millis(sample.at));
            bytes += 16;
            for Reading { series: Series { metric, label }, value } in sample.readings.iter() {
                if reads.contains(metric) {
                    let word = metric.word(*value);
                    bytes += 24 + label.len() + word.map_or(0, str::len);
                    let series = *known
                        .entry((*metric, label, word))
                        .or_insert_with(|| batch.series(metric.as_str(), label, word.unwrap_or_default()));
                    // A word says all, and its number is 1.
                    batch.reading(series, if word.is_some() { 1.0 } else { *value });
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
        let readings = [Reading::new(Metric::CpuTotal, 1.0), Reading::new(Metric::Load1, 1.0)];
        Observed {
            agent: agent.into(),
            site: site.into(),
            status: "online".into(),
            samples: vec![Taken { at: Timestamp(1), readings: readings.into() }],
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
        let said = judge.run(&all, &States::new(), Timestamp(9)).await;
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
        let said = judge.run(&all, &states, Timestamp(9)).await;
        assert_eq!(found(&said[0]), [("a", Some(1))]);
        assert_eq!(said[1].agents[0].1, Err(RuleError("rule `disk` failed: trapped".into())));
        let differing = |said: &Said, states: &States| -> Vec<(usize, Option<State>)> {
            said.differing(states).map(|(place, state)| (place, state.cloned())).collect()
        };
        assert_eq!(differing(&said[0], &states), [(0, Some(state("2")))]);
        assert_eq!(differing(&said[1], &states), [], "what is kept for it stays");
        states.insert("cpu".into(), of("2"));
        assert_eq!(differing(&said[0], &states), [], "the same again");
        let said = judge.run(&all, &states, Timestamp(9)).await;
        assert_eq!(differing(&said[0], &states), [(0, None)], "what a rule does not want kept is let go");
    }

    #[tokio::test]
    async fn a_fleet_is_cut_into_batches_that_one_call_may_have() {
        let rule = Arc::new(Fake::new("cpu"));
        let judge = Judge::new(Arc::new(Loaded(vec![Arc::clone(&rule)])));
        let mut all: Vec<Observed> = (0..MAX_SUBJECTS + 5).map(|number| observed(&number.to_string(), "")).collect();
        let long = Reading::labelled(Metric::CpuTotal, "x".repeat(MAX_BATCH_BYTES / 2), 1.0);
        all[0].samples[0].readings = [long].into();
        let said = judge.run(&all, &States::new(), Timestamp(9)).await;
        assert!(said[0].agents.iter().all(|(_, verdict)| verdict.is_ok()));
        let calls: Vec<usize> = rule.calls.lock().expect("nobody panics").iter().map(|(agents, _)| *agents).collect();
        assert_eq!(calls, [1, MAX_SUBJECTS, 4], "a heavy one alone, then as many as there may be");
    }
}
