//! Has rules judge what comes of agents, and makes alerts of what they find. Background work: what is written is
//! written only if nobody else has judged the same meanwhile, so that any number of hosts may do it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::agent::AgentStatus;
use domain::alert::flap::Limits;
use domain::alert::life::State;
use domain::alert::standing;
use domain::alert::{Finding, Seen, Severity};
use domain::target::Candidate;
use domain::time::Timestamp;
use plan::id::{AgentId, AlertId};
use ports::alerts::{AGENTS_AT_ONCE, Alerts, Change, Kept, Remembered, Silences};
use ports::clock::{Clock, Ids};
use ports::error::StoreError;
use ports::plugins::{PluginStatus, Plugins};
use ports::rules::Rules;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::failing::{Heard, Word};
use crate::feed::{Feed, Taken};
use crate::judge::{Judge, Observed, RuleError, Said, States};
use crate::telling::{About, Quiet};

/// The rule of alerts that say that another rule fails.
pub const RULE_ERROR: &str = "rule_error";
/// Between two looks at what comes without a sample: agents that are away, silences that end.
const TICK: Duration = Duration::from_secs(5);
/// After a turn, so that samples that come close together are judged together.
const BREATH: Duration = Duration::from_millis(200);
/// A rule that is away for so long is gone, and no copy under way.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Alerts that have been over for so long are forgotten.
const KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);
/// Ticks between two attempts at forgetting.
const FORGET_EVERY: u64 = 720;
/// Alerts looked at together by a sweep.
const SWEEP_PAGE: u32 = 500;

/// The use case.
pub struct Alerting {
    /// The rules that are loaded.
    pub rules: Arc<dyn Rules>,
    /// Which plugins there are.
    pub plugins: Arc<dyn Plugins>,
    /// What is to be judged.
    pub feed: Arc<Feed>,
    /// Where alerts are kept.
    pub alerts: Arc<dyn Alerts>,
    /// What is silenced.
    pub silences: Arc<dyn Silences>,
    /// Who there is.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
    /// So long an agent may be away, counted from when this host first saw it away, before anybody is told: after a
    /// start everybody is away.
    pub grace: Duration,
    /// What this host and those beside it say of rules that fail; none when it has the store for itself.
    pub word: Option<Word>,
    /// What it has seen so far.
    pub memory: Memory,
}

/// What is remembered from turn to turn; to lose it costs a delay.
#[derive(Debug, Default)]
pub struct Memory {
    /// Since when agents are seen away.
    away: HashMap<AgentId, Timestamp>,
    /// Since when rules are seen gone.
    gone: HashMap<String, Timestamp>,
    /// Rules that failed when they were last asked.
    failing: BTreeSet<String>,
    /// How often it looked at what comes without a sample.
    ticks: u64,
}

/// An agent that is to be judged.
struct Member {
    candidate: Candidate,
    samples: Vec<Taken>,
}

impl Alerting {
    /// Judges until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ticked = tokio::select! {
                () = self.feed.wait() => false,
                _ = tick.tick() => true,
                () = stop.cancelled() => return,
            };
            if let Err(error) = self.turn(ticked).await {
                tracing::warn!(%error, "alerts are not judged now; they will be");
            }
            tokio::select! {
                () = tokio::time::sleep(BREATH) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Judges what waits; with `ticked`, also who is away or came back, and what only time changes.
    ///
    /// # Errors
    /// The store's. What was not written is found again by the next turn.
    pub async fn turn(&mut self, ticked: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        let members = self.members(ticked, now);
        let quiet = Quiet { silences: self.silences.silences(now).await?, now };
        if !members.is_empty() {
            self.judge(&members, &quiet).await?;
        }
        if ticked {
            self.sweep(&quiet).await?;
            self.memory.ticks += 1;
            if self.memory.ticks.is_multiple_of(FORGET_EVERY) {
                self.alerts.forget_alerts(now - KEPT_FOR).await?;
                self.silences.forget_silences(now - KEPT_FOR).await?;
            }
        }
        Ok(())
    }

    fn members(&mut self, ticked: bool, now: Timestamp) -> Vec<Member> {
        let mut samples = self.feed.take();
        let mut members = Vec::with_capacity(samples.len());
        if ticked {
            let mut before = std::mem::take(&mut self.memory.away);
            for candidate in self.directory.offline() {
                let id = candidate.agent.id;
                let since = before.remove(&id).unwrap_or(now);
                self.memory.away.insert(id, since);
                if now.since(since) >= self.grace {
                    members.push(Member { candidate, samples: samples.remove(&id).unwrap_or_default() });
                }
            }
            // Who is left was away, and is back or gone.
            let back = before.into_keys().filter_map(|id| self.directory.get(id));
            for candidate in back.filter(|found| found.agent.deleted_at.is_none()) {
                let samples = samples.remove(&candidate.agent.id).unwrap_or_default();
                members.push(Member { candidate, samples });
            }
            // Other hosts see the same agents away and write the same rows: in one order nobody waits in a circle.
            members.sort_unstable_by_key(|member| member.candidate.agent.id);
        }
        let fed = samples.into_iter().filter_map(|(id, samples)| {
            let candidate = self.directory.get(id).filter(is_there)?;
            Some(Member { candidate, samples })
        });
        members.extend(fed);
        members
    }

    async fn judge(&mut self, members: &[Member], quiet: &Quiet) -> Result<(), StoreError> {
        let observed: Vec<Observed> = members.iter().map(observed).collect();
        let ids: Vec<AgentId> = members.iter().map(|member| member.candidate.agent.id).collect();
        let mut kept: HashMap<(AgentId, String), Vec<Kept>> = HashMap::new();
        let mut states = States::new();
        let names: HashMap<AgentId, &str> =
            ids.iter().copied().zip(observed.iter().map(|one| one.agent.as_str())).collect();
        for piece in ids.chunks(AGENTS_AT_ONCE) {
            for found in self.alerts.alerts_of(piece).await? {
                let Some(agent) = found.agent else { continue };
                kept.entry((agent, found.rule.clone())).or_default().push(found);
            }
            for Remembered { agent, rule, state } in self.alerts.remembered(piece).await? {
                if let (Some(name), Some(state)) = (names.get(&agent), state) {
                    states.entry(rule).or_default().insert((*name).to_owned(), state);
                }
            }
        }
        let said = Judge::new(self.rules.clone()).run(&observed, &states, quiet.now).await;
        let mut remembered: Vec<Remembered> = said.iter().flat_map(|said| differing(said, &ids, &states)).collect();
        let mut changes = Vec::new();
        for Said { rule, agents } in &said {
            for (member, (_, verdict)) in members.iter().zip(agents) {
                let Ok(verdict) = verdict else { continue };
                if verdict.judged {
                    let about = About::agent(&member.candidate);
                    let standing = kept.remove(&(member.candidate.agent.id, rule.clone())).unwrap_or_default();
                    changes.extend(self.settle(rule, &about, standing, &verdict.findings, quiet));
                }
            }
        }
        let (failures, words) = self.failures(&said, quiet).await?;
        changes.extend(failures);
        remembered.extend(words);
        let kept = self.keep(changes, remembered).await;
        if let (Err(_), Some(word)) = (&kept, &mut self.word) {
            word.unsaid();
        }
        kept
    }

    /// What findings make of the alerts there are.
    fn settle(
        &self,
        rule: &str,
        about: &About,
        standing: Vec<Kept>,
        findings: &[Finding],
        quiet: &Quiet,
    ) -> Vec<Change> {
        let mut kept: BTreeMap<String, Kept> = standing.into_iter().map(|kept| (kept.key.clone(), kept)).collect();
        let mut alerts: BTreeMap<String, standing::Alert> =
            kept.iter().map(|(key, kept)| (key.clone(), kept.alert.clone())).collect();
        let mut lines: BTreeMap<String, Vec<standing::Line>> = BTreeMap::new();
        for (key, alert) in &mut alerts {
            lines.entry(key.clone()).or_default().extend(alert.look(Limits::default(), quiet.now));
        }
        let worth = |finding: &&Finding| standing::is_worth_storing(finding.seen, alerts.get(&finding.key));
        let findings: Vec<Finding> = findings.iter().filter(worth).cloned().collect();
        for (key, line) in standing::judged(&mut alerts, &findings, Limits::default(), quiet.now) {
            lines.entry(key).or_default().push(line);
        }
        let change = |(key, lines): (String, Vec<standing::Line>)| {
            let alert = alerts.remove(&key)?;
            let kept = match kept.remove(&key) {
                Some(kept) => Kept { alert, ..kept },
                None => Kept {
                    id: AlertId(self.ids.command().0),
                    rule: rule.to_owned(),
                    agent: about.agent,
                    agent_name: String::new(),
                    site: String::new(),
                    key,
                    alert,
                    muted: None,
                    revision: 0,
                },
            };
            Some(quiet.change(kept, about, &lines, None))
        };
        lines.into_iter().filter(|(_, lines)| !lines.is_empty()).filter_map(change).collect()
    }

    /// Alerts that say which rules fail, and which do so no more; and what hosts say to each other of that.
    async fn failures(&mut self, said: &[Said], quiet: &Quiet) -> Result<(Vec<Change>, Vec<Remembered>), StoreError> {
        let failed = |said: &Said| -> Option<RuleError> {
            said.agents.iter().find_map(|(_, verdict)| verdict.as_ref().err().cloned())
        };
        let failing: BTreeMap<&str, RuleError> =
            said.iter().filter_map(|said| Some((said.rule.as_str(), failed(said)?))).collect();
        if failing.is_empty() && self.memory.failing.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let heard = match &self.word {
            Some(word) => word.hear(self.alerts.as_ref(), quiet.now).await?,
            None => Heard::default(),
        };
        let about = About::nobody();
        let kept = self.alerts.alerts_of(&[]).await?;
        let mut changes = Vec::new();
        for Said { rule, agents } in said {
            if !failing.contains_key(rule.as_str()) && heard.failing.contains(rule) {
                continue;
            }
            let standing: Vec<Kept> =
                kept.iter().filter(|kept| kept.rule == RULE_ERROR && kept.key == *rule).cloned().collect();
            let finding = failing.get(rule.as_str()).map(|RuleError(why)| {
                let silent = agents.iter().filter(|(_, verdict)| verdict.is_err()).count();
                tracing::warn!(rule, agents = silent, why, "a rule failed; its alerts stay as they are");
                Finding {
                    key: rule.clone(),
                    seen: Seen::Wrong(Severity::Warning),
                    since_ms: u64::try_from(quiet.now.as_millis()).unwrap_or(0),
                    value: None,
                    message: format!("{why} (of {silent} agents nothing is known)"),
                }
            });
            changes.extend(self.settle(RULE_ERROR, &about, standing, finding.as_slice(), quiet));
        }
        self.memory.failing = failing.keys().map(|rule| (*rule).to_owned()).collect();
        let mine = self.word.as_mut().and_then(|word| word.say(failing.keys().copied(), quiet.now));
        Ok((changes, heard.over.into_iter().chain(mine).collect()))
    }

    /// What only time, people or absence change: silences and flapping that end, agents that are at another site, agents
    /// and rules that are gone.
    async fn sweep(&mut self, quiet: &Quiet) -> Result<(), StoreError> {
        let is_on = |status: &PluginStatus| status.record.as_ref().is_none_or(|record| record.enabled);
        let there: BTreeSet<String> =
            self.plugins.plugins().into_iter().filter(is_on).map(|status| status.name).collect();
        let mut before = None;
        loop {
            let page = self.alerts.alerts(&Default::default(), before, SWEEP_PAGE).await?;
            before = page.last().map(|kept| kept.id);
            let (changes, remembered): (Vec<_>, Vec<_>) =
                page.into_iter().filter_map(|kept| self.swept(kept, &there, quiet)).unzip();
            self.keep(changes, remembered.into_iter().flatten().collect()).await?;
            if before.is_none() {
                return Ok(());
            }
        }
    }

    fn swept(
        &mut self,
        mut kept: Kept,
        there: &BTreeSet<String>,
        quiet: &Quiet,
    ) -> Option<(Change, Option<Remembered>)> {
        let candidate = kept.agent.map(|agent| self.directory.get(agent).filter(is_there));
        let about = match &candidate {
            Some(Some(candidate)) => About::agent(candidate),
            _ => About::like(&kept),
        };
        let rule = if kept.rule == RULE_ERROR { kept.key.clone() } else { kept.rule.clone() };
        if kept.rule == RULE_ERROR {
            // It may have begun before this host did.
            self.memory.failing.insert(rule.clone());
        }
        if matches!(candidate, Some(None)) || self.is_gone(&rule, there, quiet.now) {
            let lines = kept.alert.forget(Limits::default(), quiet.now);
            let state = kept.agent.map(|agent| Remembered { agent, rule, state: None });
            return Some((quiet.change(kept, &about, &lines, None), state));
        }
        let lines = kept.alert.look(Limits::default(), quiet.now);
        let muted = quiet.mute(&kept, &about);
        let untold = muted.is_none() && !kept.alert.known && matches!(kept.alert.state, State::Firing(_));
        // Lists go by the row, and what is not over is where its machine is.
        let moved = about.site != kept.site;
        (!lines.is_empty() || muted != kept.muted || untold || moved)
            .then(|| (quiet.change(kept, &about, &lines, None), None))
    }

    /// Whether nobody has this rule any more, or it was switched off. One in quarantine has its alerts as they were.
    fn is_gone(&mut self, rule: &str, there: &BTreeSet<String>, now: Timestamp) -> bool {
        if there.contains(rule) {
            self.memory.gone.remove(rule);
            return false;
        }
        now.since(*self.memory.gone.entry(rule.to_owned()).or_insert(now)) >= GONE_AFTER
    }

    async fn keep(&self, changes: Vec<Change>, remembered: Vec<Remembered>) -> Result<(), StoreError> {
        if changes.is_empty() && remembered.is_empty() {
            return Ok(());
        }
        let stale = self.alerts.keep_alerts(changes, remembered, None).await?;
        if !stale.is_empty() {
            tracing::debug!(alerts = stale.len(), "judged by another host at the same time");
        }
        Ok(())
    }
}

/// Whether it still is a machine of ours.
fn is_there(found: &Candidate) -> bool {
    let domain::agent::Agent { deleted_at, revoked_at, .. } = found.agent.as_ref();
    deleted_at.is_none() && revoked_at.is_none() && found.status != AgentStatus::Pending
}

/// An agent as rules look at it.
fn observed(member: &Member) -> Observed {
    let Member { candidate, samples } = member;
    let agent = &candidate.agent;
    Observed {
        agent: agent.name.clone(),
        site: agent.site.clone(),
        labels: agent.effective_labels(),
        status: candidate.status.as_str().to_owned(),
        heard: candidate.last_seen.unwrap_or(agent.created_at),
        samples: samples.clone(),
    }
}

/// What a rule remembers now and did not before.
fn differing<'a>(said: &'a Said, ids: &'a [AgentId], states: &'a States) -> impl Iterator<Item = Remembered> {
    said.differing(states).map(|(place, state)| Remembered {
        agent: ids[place],
        rule: said.rule.clone(),
        state: state.cloned(),
    })
}
