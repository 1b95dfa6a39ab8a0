//! Tries a rule on the past before it is trusted: the same plugin, another configuration, stored telemetry.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use domain::access::{Caller, Permission};
use domain::alert::backtest::{Summary, Trial};
use domain::target::Candidate;
use domain::telemetry::metric::{Metric, Pick, Wanted};
use domain::telemetry::rollup::Bucket;
use domain::time::Timestamp;
use futures_util::TryStreamExt as _;
use ports::rules::{Batch, Rule, RuleFault, State};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::alerts::AlertError;
use crate::directory::Directory;
use crate::history::History;

/// Most agents of one trial.
pub const AGENTS_MAX: usize = 100;
/// Without an instant to begin at.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// A span up to here is looked at sample by sample, a longer one by the minute.
const FINE_UP_TO: Duration = Duration::from_secs(2 * 86_400);
const FINE: Duration = Duration::from_secs(10);
const COARSE: Duration = Duration::from_secs(60);
/// Instants read at a time.
const PAGE: u32 = 500;
/// A trial takes no longer; what could not be looked at by then is no part of it.
const WITHIN: Duration = Duration::from_secs(45);

/// The use case.
pub struct Backtests {
    /// The rules that are loaded.
    pub rules: Arc<dyn ports::rules::Rules>,
    /// The past.
    pub history: Arc<History>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Held by each trial: they are dear, so one at a time is enough.
    pub one: Semaphore,
}

/// What is to be tried.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The rule's name.
    pub rule: String,
    /// Over the defaults; the configuration in force when absent.
    pub config: Option<Value>,
    /// Agents by id or name; all in sight when empty.
    pub agents: Vec<String>,
    /// Of these sites; of any when empty.
    pub sites: Vec<String>,
    /// Where the past begins.
    pub from: Option<Timestamp>,
    /// Where it ends.
    pub to: Option<Timestamp>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Where the past began.
    pub from: Timestamp,
    /// Up to where it was looked at.
    pub to: Timestamp,
    /// The configuration.
    pub config: Value,
    /// Who was looked at.
    pub agents: Vec<Candidate>,
    /// How many samples.
    pub samples: u64,
    /// Each time it would have fired.
    pub trial: Trial,
    /// What they come to.
    pub summary: Summary,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// As of alerts.
    #[error(transparent)]
    Alert(#[from] AlertError),
    /// The configuration is none of the rule's.
    #[error("the configuration does not fit the rule")]
    Config(Vec<ports::plugins::Violation>),
    /// Another trial is under way.
    #[error("another trial is under way; ask again")]
    Busy,
    /// The rule failed.
    #[error("{0}")]
    Failed(String),
}

impl Backtests {
    /// Looks at the past with the rule's eyes.
    ///
    /// # Errors
    /// [`BacktestError`]; nothing is changed by any of them, nor by a trial.
    pub async fn run(&self, caller: &Caller, request: Request) -> Result<Tried, BacktestError> {
        caller.may(Permission::AnswerAlerts).map_err(AlertError::from)?;
        let rules = self.rules.rules();
        let rule = rules.iter().find(|rule| rule.plugin().name == request.rule);
        let rule = rule.ok_or(AlertError::NotFound("rule"))?;
        if rule.reads().is_empty() {
            return Err(invalid("", "this rule reads no telemetry, so the past says nothing to it").into());
        }
        if let Some(config) = &request.config {
            rule.validate(config).map_err(BacktestError::Config)?;
        }
        let now = self.history.clock.now();
        let to = request.to.map_or(now, |to| to.min(now));
        let from = request.from.unwrap_or(to - WEEK);
        if from >= to {
            return Err(invalid("/from", "must be before `to`, and before now").into());
        }
        let agents = self.agents(caller, &request)?;
        let _one = self.one.try_acquire().map_err(|_| BacktestError::Busy)?;
        self.look(rule.as_ref(), request.config, agents, (from, to)).await
    }

    fn agents(&self, caller: &Caller, request: &Request) -> Result<Vec<Candidate>, AlertError> {
        let mut agents = if request.agents.is_empty() {
            self.directory.all()
        } else {
            let named = self.directory.named(&request.agents);
            if named.len() != request.agents.len() || named.iter().any(|found| !caller.sees_site(&found.agent.site)) {
                return Err(invalid("/agents", "not all of them are agents in your sight"));
            }
            named
        };
        let of_sites = |site: &String| request.sites.is_empty() || request.sites.contains(site);
        agents.retain(|found| caller.sees_site(&found.agent.site) && of_sites(&found.agent.site));
        if agents.is_empty() || agents.len() > AGENTS_MAX {
            let message = format!("{} agents are meant; from 1 to {AGENTS_MAX} can be looked at", agents.len());
            let by_site = request.agents.is_empty() && !request.sites.is_empty();
            return Err(AlertError::Invalid { pointer: if by_site { "/sites" } else { "/agents" }, message });
        }
        Ok(agents)
    }

    async fn look(
        &self,
        rule: &dyn Rule,
        config: Option<Value>,
        agents: Vec<Candidate>,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Tried, BacktestError> {
        let wanted = Wanted(rule.reads().iter().filter_map(|name| Metric::parse(name).map(Pick::Metric)).collect());
        let step = if to.since(from) <= FINE_UP_TO { FINE } else { COARSE };
        let give_up = Instant::now() + WITHIN;
        let (mut trial, mut samples, mut states) = (Trial::default(), 0, vec![None; agents.len()]);
        let window = self.history.window((from, to), step);
        let (mut after, mut seen) = (None, to);
        loop {
            let page = self.history.page(&window, after, PAGE).await.map_err(AlertError::from)?;
            let ids = agents.iter().map(|found| found.agent.id);
            let read = self.history.read_each(ids, &wanted, slice::from_ref(&page));
            let pasts: Vec<Vec<Bucket>> = read.try_collect().await.map_err(AlertError::from)?;
            let mut instants: BTreeMap<Timestamp, Vec<(usize, Bucket)>> = BTreeMap::new();
            for (agent, past) in pasts.into_iter().enumerate() {
                for bucket in past {
                    instants.entry(bucket.start).or_default().push((agent, bucket));
                }
            }
            for (at, there) in instants {
                samples += there.len() as u64;
                self.instant(rule, config.as_ref(), at, there, &agents, &mut states, &mut trial).await?;
                if Instant::now() >= give_up {
                    seen = at;
                    break;
                }
            }
            after = page.slice.next;
            // Where nothing was said there is nothing to look at, and that takes its time, too.
            if Instant::now() >= give_up {
                seen = seen.min(page.slice.to);
            }
            if after.is_none() || seen < to {
                break;
            }
        }
        let config = config.unwrap_or_else(|| rule.config().clone());
        let for_s = config.get("for_s").and_then(Value::as_u64).unwrap_or(0);
        let summary = trial.summary(for_s, seen);
        Ok(Tried { from, to: seen, config, agents, samples, trial, summary })
    }

    /// What the rule says of all who said something at an instant.
    #[expect(clippy::too_many_arguments, reason = "the walk's own state, handed down one step")]
    async fn instant(
        &self,
        rule: &dyn Rule,
        config: Option<&Value>,
        at: Timestamp,
        there: Vec<(usize, Bucket)>,
        agents: &[Candidate],
        states: &mut [Option<State>],
        trial: &mut Trial,
    ) -> Result<(), BacktestError> {
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(0);
        let mut batch = Batch::default();
        for (agent, bucket) in &there {
            batch.subject(agents[*agent].agent.name.clone(), "online", at_ms, states[*agent].clone());
            batch.sample(at_ms);
            for (series, summary) in &bucket.series {
                let word = series.metric.word(summary.last);
                let place = batch.series(series.metric.as_str(), &series.label, word.unwrap_or_default());
                batch.reading(place, if word.is_some() { 1.0 } else { summary.last });
            }
        }
        let failed = |fault: RuleFault| BacktestError::Failed(fault.to_string());
        let answers = rule.evaluate(config, at_ms, batch).await.map_err(failed)?;
        for ((agent, _), answer) in there.iter().zip(answers) {
            let verdict = answer.map_err(BacktestError::Failed)?;
            states[*agent] = verdict.state;
            if verdict.judged {
                trial.look(*agent, at, &verdict.findings);
            }
        }
        Ok(())
    }
}

fn invalid(pointer: &'static str, message: &str) -> AlertError {
    AlertError::Invalid { pointer, message: message.to_owned() }
}
