//! `viworks alert …`: what is wrong, who has taken it, what is silenced, and what a rule would have said.

use api::alert::{Alert, AlertLine, AlertMatcher, AlertRule, AnswerAlert, Backtest, BacktestTime, NewBacktest};
use api::alert::{NewSilence, Silence};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::Value;
use viworks_client::Client;

use crate::beginning;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::instant::instant;
use crate::output::format::Row;
use crate::output::{Sink, count, escape, moment, table};

/// What to do with alerts.
#[derive(Clone, Debug, Subcommand)]
pub enum AlertCommand {
    /// List alerts that are not over
    List {
        /// Only those in this state: pending, firing, acknowledged or resolved
        #[arg(long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<String>,
        /// Only those that are so bad: warning or critical
        #[arg(long, value_name = "SEVERITY")]
        severity: Option<String>,
        /// Only those of this rule
        #[arg(long, value_name = "RULE")]
        rule: Option<String>,
        /// Only those of this agent
        #[arg(short, long, value_name = "AGENT")]
        agent: Option<String>,
        /// Only those of agents at these sites
        #[arg(long, value_name = "SITE", value_delimiter = ',')]
        site: Vec<String>,
    },
    /// Show an alert and what became of it
    Show {
        /// Its id, or at least 6 characters of its beginning
        alert: String,
    },
    /// Take an alert, so that others know that somebody looks after it
    Ack {
        /// Its id, or at least 6 characters of its beginning
        alert: String,
        /// What there is to say
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Give an alert back
    Release {
        /// Its id, or at least 6 characters of its beginning
        alert: String,
        /// What there is to say
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Have nobody told of some alerts for a while
    Silence(SilenceOptions),
    /// List silences that have not ended
    Silences,
    /// End a silence
    Unsilence {
        /// Its id, or at least 6 characters of its beginning
        silence: String,
    },
    /// List the rules that judge
    Rules,
    /// Say how often a rule would have fired in the past
    Backtest(BacktestOptions),
}

/// What to be silent about.
#[derive(Clone, Debug, Args)]
pub struct SilenceOptions {
    /// How long, e.g. 30m, 2h or 3d
    #[arg(long = "for", value_name = "LENGTH", value_parser = moment::parse_length)]
    lasts: std::time::Duration,
    /// Alerts of these rules
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    rule: Vec<String>,
    /// Alerts of these agents, by name
    #[arg(short, long, value_name = "AGENT", value_delimiter = ',')]
    agent: Vec<String>,
    /// Alerts of agents at these sites
    #[arg(long, value_name = "SITE", value_delimiter = ',')]
    site: Vec<String>,
    /// Alerts of agents with this label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Alerts of this thing, e.g. a mount
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Let through what is critical
    #[arg(long)]
    warnings_only: bool,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// What to try.
#[derive(Clone, Debug, Args)]
pub struct BacktestOptions {
    /// The rule's name
    rule: String,
    /// The configuration to try, as JSON or @FILE; the one in force when absent
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// From then on: a length of time ago like 12h or 7d, or RFC 3339
    #[arg(long, value_name = "TIME", default_value = "7d")]
    since: String,
    /// Only these agents
    #[arg(short, long, value_name = "AGENT", value_delimiter = ',')]
    agent: Vec<String>,
    /// Only agents at these sites
    #[arg(long, value_name = "SITE", value_delimiter = ',')]
    site: Vec<String>,
}

impl Row for Alert {
    const COLUMNS: &'static [&'static str] =
        &["alert", "state", "severity", "rule", "agent", "key", "since", "message", "owner", "muted"];
    const NARROW: usize = 8;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.clone(),
            self.severity.clone().unwrap_or_default(),
            self.rule.clone(),
            self.agent_name.clone().unwrap_or_default(),
            self.key.clone(),
            moment::age(&self.since, now),
            self.message.clone(),
            self.owner.as_ref().map(|owner| owner.name.clone()).unwrap_or_default(),
            self.muted.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Row for Silence {
    const COLUMNS: &'static [&'static str] = &["silence", "matches", "from", "until", "by", "comment"];
    const NARROW: usize = 6;

    fn cells(&self, _: DateTime<Utc>) -> Vec<String> {
        vec![
            self.id.clone(),
            matched(&self.matcher),
            self.from.clone(),
            self.until.clone(),
            self.created_by.clone(),
            self.comment.clone(),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Row for AlertRule {
    const COLUMNS: &'static [&'static str] = &["rule", "version", "summary", "config", "overrides"];
    const NARROW: usize = 4;

    fn cells(&self, _: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.version.clone(),
            self.summary.clone(),
            self.config.to_string(),
            self.overrides.len().to_string(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: AlertCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        AlertCommand::List { state, severity, rule, agent, site } => {
            let mut query: Vec<(&str, String)> = Vec::new();
            query.extend(state.into_iter().map(|state| ("state", state)));
            query.extend(severity.map(|severity| ("severity", severity)));
            query.extend(rule.map(|rule| ("rule", rule)));
            query.extend(agent.map(|agent| ("agent", agent)));
            query.extend(site.into_iter().map(|site| ("site", site)));
            sink.list(&client.alerts(query).await?, "nothing is wrong that you may see")?;
        }
        AlertCommand::Show { alert } => {
            let id = beginning::alert(client, &alert).await?;
            show(&client.alert(&id).await?, sink)?;
        }
        AlertCommand::Ack { alert, note } => {
            let id = beginning::alert(client, &alert).await?;
            show(&client.acknowledge_alert(&id, &AnswerAlert { note }).await?, sink)?;
        }
        AlertCommand::Release { alert, note } => {
            let id = beginning::alert(client, &alert).await?;
            show(&client.release_alert(&id, &AnswerAlert { note }).await?, sink)?;
        }
        AlertCommand::Silence(options) => {
            let silence = client.create_silence(&silence(options)).await?;
            sink.one(&silence, &silence.id, || silence_card(&silence))?;
        }
        AlertCommand::Silences => sink.list(&client.silences().await?, "nothing is silenced")?,
        AlertCommand::Unsilence { silence } => {
            client.end_silence(&beginning::silence(client, &silence).await?).await?;
            sink.say("ended: whoever is still to be told will be")?;
        }
        AlertCommand::Rules => sink.list(&client.alert_rules().await?, "no rules: put one into the plugin folder")?,
        AlertCommand::Backtest(options) => backtest(options, client, sink).await?,
    }
    Ok(Exit::Ok)
}

async fn backtest(options: BacktestOptions, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let BacktestOptions { rule, config, since, agent, site } = options;
    let new = NewBacktest {
        config: config.as_deref().map(read_config).transpose()?,
        agents: agent,
        sites: site,
        from: instant(Some(since), Utc::now())?,
        to: None,
    };
    let tried = client.backtest_rule(&rule, &new).await?;
    Ok(sink.one(&tried, &tried.rule, || backtest_card(&tried))?)
}

fn read_config(text: &str) -> Result<Value, Failure> {
    let usage = |why: String| Failure::new(Exit::Usage, format!("--config: {why}"));
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| usage(format!("{file}: {error}")))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| usage(error.to_string()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn silence(options: SilenceOptions) -> NewSilence {
    let SilenceOptions { lasts, rule, agent, site, label, key, warnings_only, comment } = options;
    let matcher = AlertMatcher {
        rules: rule,
        agents: agent,
        sites: site,
        labels: label.into_iter().collect(),
        key,
        at_most: warnings_only.then(|| "warning".to_owned()),
    };
    NewSilence { matcher, from: None, until: None, for_s: Some(lasts.as_secs()), comment }
}

/// A matcher in one line.
fn matched(matcher: &AlertMatcher) -> String {
    let AlertMatcher { rules, agents, sites, labels, key, at_most } = matcher;
    let mut parts = Vec::new();
    for (name, list) in [("rule", rules), ("agent", agents), ("site", sites)] {
        if !list.is_empty() {
            parts.push(format!("{name}={}", list.join(",")));
        }
    }
    parts.extend(labels.iter().map(|(name, value)| format!("label.{name}={value}")));
    parts.extend(key.iter().map(|key| format!("key={key}")));
    parts.extend(at_most.iter().map(|severity| format!("at most {severity}")));
    parts.join(" ")
}

fn show(alert: &Alert, sink: &Sink) -> std::io::Result<()> {
    sink.one(alert, &alert.id, || card(alert))
}

fn card(alert: &Alert) -> String {
    let mut fields = vec![
        ("alert", alert.id.clone()),
        ("rule", alert.rule.clone()),
        ("agent", alert.agent_name.clone().unwrap_or_default()),
        ("site", alert.site.clone().unwrap_or_default()),
        ("key", alert.key.clone()),
        ("state", alert.state.clone()),
        ("severity", alert.severity.clone().unwrap_or_default()),
        ("message", alert.message.clone()),
        ("began", alert.began.clone()),
        ("since", alert.since.clone()),
    ];
    fields.extend(alert.owner.as_ref().map(|owner| match owner.note.as_str() {
        "" => ("owner", owner.name.clone()),
        note => ("owner", format!("{}: {note}", owner.name)),
    }));
    fields.extend(alert.muted.as_ref().map(|why| ("muted", why.clone())));
    fields.retain(|(_, value)| !value.is_empty());
    let lines: String = alert.timeline.iter().flatten().rev().map(line).collect();
    format!("{}\n{lines}", table::card(&fields))
}

fn line(line: &AlertLine) -> String {
    let AlertLine { at, what, severity, value: _, message, actor, note } = line;
    let severity = severity.as_ref().map(|severity| format!(" ({severity})")).unwrap_or_default();
    let said = match (actor, note) {
        (Some(actor), Some(note)) => format!("by {actor}: {note}"),
        (Some(actor), None) => format!("by {actor}"),
        (None, _) => message.clone(),
    };
    // A rule's words, and what it read on a machine, are strangers' text.
    escape::line(&format!("{at}  {what}{severity}  {said}")) + "\n"
}

fn silence_card(silence: &Silence) -> String {
    table::card(&[
        ("silence", silence.id.clone()),
        ("matches", matched(&silence.matcher)),
        ("from", silence.from.clone()),
        ("until", silence.until.clone()),
        ("comment", silence.comment.clone()),
    ])
}

fn backtest_card(tried: &Backtest) -> String {
    let seconds = |span: Option<u64>| span.map_or("-".to_owned(), |seconds| format!("{seconds} s"));
    let (samples, agents) = (count::of(tried.samples, "sample", "samples"), count::of(tried.agents, "agent", "agents"));
    let fields = [
        ("rule", tried.rule.clone()),
        ("config", tried.config.to_string()),
        ("past", format!("{} to {}", tried.from, tried.to)),
        ("looked at", format!("{samples} of {agents}")),
        ("result", tried.summary.clone()),
        ("median", seconds(tried.median_s)),
        ("9 in 10 below", seconds(tried.p90_s)),
        ("proposed for_s", seconds(tried.proposed_for_s)),
    ];
    let time = |BacktestTime { agent_name, key, severity, fired, resolved: _, lasted_s, message }: &BacktestTime| {
        escape::line(&format!("{fired}  {lasted_s:>6} s  {severity:<8}  {agent_name} {key}  {message}")) + "\n"
    };
    let times: String = tried.times.iter().map(time).collect();
    format!("{}\n{times}", table::card(&fields))
}
