//! Alerts, silences, rules, and trials of them.

use api::alert::{
    Alert, AlertLine, AlertMatcher, AlertOverride, AlertOwner, AlertRule, Backtest, BacktestTime,
    Silence as SilenceBody,
};
use domain::alert::Severity;
use domain::alert::mute::{Matcher, Silence};
use domain::alert::standing::{self, Owner};
use ports::alerts::{Kept, KeptSilence, Moment};
use ports::rules::{Override, Rule};
use services::backtest::Tried;

use crate::instant;

/// Times of a trial that are shown.
const TIMES_MAX: usize = 500;

fn word(severity: Option<Severity>) -> Option<String> {
    severity.map(|severity| severity.as_str().to_owned())
}

/// An alert; `timeline` where it is shown.
pub fn alert(kept: Kept, timeline: Option<Vec<Moment>>) -> Alert {
    let Kept { id, rule, agent, agent_name, site, key, alert, muted, revision: _ } = kept;
    let standing::Alert { state, since, began, message, value, owner, known: _, flaps } = alert;
    let owned = |Owner { name, note, at }: Owner| AlertOwner { name, note, at: instant::text(at) };
    Alert {
        id: id.to_string(),
        rule,
        agent_name: agent.map(|_| agent_name),
        site: agent.map(|_| site),
        agent: agent.map(|agent| agent.to_string()),
        key,
        state: state.as_str().to_owned(),
        severity: word(state.severity()),
        since: instant::text(since),
        began: instant::text(began),
        message,
        value,
        owner: owner.map(owned),
        muted: muted.map(|muted| muted.as_str().to_owned()),
        flapping: flaps.is_flapping(),
        timeline: timeline.map(|lines| lines.into_iter().map(line).collect()),
    }
}

fn line(moment: Moment) -> AlertLine {
    let Moment { at, line, severity, value, message, actor, note } = moment;
    AlertLine {
        at: instant::text(at),
        what: line.as_str().to_owned(),
        severity: word(severity),
        value,
        message,
        actor,
        note,
    }
}

/// A silence.
pub fn silence(kept: KeptSilence) -> SilenceBody {
    let KeptSilence { id, silence, created_by, created_at, comment } = kept;
    let Silence { matcher, from, until } = silence;
    let Matcher { rules, agents, sites, labels, key, at_most } = matcher;
    SilenceBody {
        id: id.to_string(),
        matcher: AlertMatcher { rules, agents, sites, labels, key, at_most: word(at_most) },
        from: instant::text(from),
        until: instant::text(until),
        created_by,
        created_at: instant::text(created_at),
        comment,
    }
}

/// A rule; why it fails, and how many samples it has not seen.
pub fn rule(rule: &dyn Rule, failing: Option<String>, passed_over: u64) -> AlertRule {
    let overridden = |Override { sites, labels, config }: &Override| AlertOverride {
        sites: sites.clone(),
        labels: labels.clone(),
        config: config.clone(),
    };
    AlertRule {
        name: rule.plugin().name.clone(),
        version: rule.plugin().version.clone(),
        summary: rule.summary().to_owned(),
        reads: rule.reads().to_vec(),
        config: rule.config().clone(),
        overrides: rule.overrides().iter().map(overridden).collect(),
        config_schema: rule.config_schema().cloned(),
        failing,
        passed_over,
    }
}

/// What came of a trial.
pub fn backtest(rule: &str, tried: Tried) -> Backtest {
    let Tried { from, to, config, agents, samples, trial, summary } = tried;
    let seconds = |span: std::time::Duration| span.as_secs();
    let time = |episode: &domain::alert::backtest::Episode| BacktestTime {
        agent_name: agents[episode.agent].agent.name.clone(),
        key: episode.key.clone(),
        severity: episode.severity.as_str().to_owned(),
        fired: instant::text(episode.fired),
        resolved: episode.resolved.map(instant::text),
        lasted_s: episode.lasted(to).as_secs(),
        message: episode.message.clone(),
    };
    let proposal =
        summary.proposed_for_s.map_or(String::new(), |s| format!("; with a wait of {s} s few of those would"));
    Backtest {
        rule: rule.to_owned(),
        from: instant::text(from),
        to: instant::text(to),
        config,
        agents: agents.len() as u64,
        samples,
        fired: summary.fired,
        under_two_minutes: summary.short,
        median_s: summary.median.map(seconds),
        p90_s: summary.p90.map(seconds),
        proposed_for_s: summary.proposed_for_s,
        summary: format!("would have fired {} times, {} under 2 minutes{proposal}", summary.fired, summary.short),
        times: trial.episodes.iter().take(TIMES_MAX).map(time).collect(),
    }
}
