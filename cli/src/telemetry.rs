//! `viworks telemetry …`: what machines say of themselves, now and in the past.

mod amount;
mod past;

use api::telemetry::LatestTelemetry;
use chrono::Utc;
use clap::{Args, Subcommand};
use serde_json::Value;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::moment::age;
use crate::output::{Sink, table};
use amount::amount;
use past::{AcrossOptions, HistoryOptions, TrendsOptions};

/// What a table shows unless something else is asked for; documents have everything.
const USUAL: &str = "cpu.total,mem.used_pct,disk.used_pct,load.1";

/// What to do with telemetry.
#[derive(Clone, Debug, Subcommand)]
pub enum TelemetryCommand {
    /// List the latest of many agents
    List(Wanted),
    /// Show everything that an agent said last
    Show {
        /// Its name or id
        agent: String,
    },
    /// Show an agent's past, oldest first
    History(HistoryOptions),
    /// Put many agents together, by site or by a label: the latest, or a span of the past
    Across(AcrossOptions),
    /// Show where series are going, and when what fills will be full
    Trends(TrendsOptions),
}

/// Whose telemetry.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// Only at this site; may be repeated
    #[arg(short, long = "site", value_name = "SITE", value_delimiter = ',')]
    pub sites: Vec<String>,
    /// Only with this label; may be repeated, and all must hold
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
}

impl Whose {
    /// As the API's query has it.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let sites = self.sites.iter().map(|site| ("site", site.clone()));
        sites.chain(self.labels.iter().map(|label| ("label", label.clone()))).collect()
    }
}

/// Whose telemetry, and what of it.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
    /// Only these: metrics such as net.rx, or series such as disk.used_pct{/}
    #[arg(short, long, value_name = "METRIC", value_delimiter = ',')]
    pub metrics: Vec<String>,
}

impl Wanted {
    fn pairs(&self, usual: Option<&str>) -> Vec<(&'static str, String)> {
        let metrics = if self.metrics.is_empty() { usual.map(str::to_owned) } else { Some(self.metrics.join(",")) };
        let mut pairs = self.whose.pairs();
        pairs.extend(metrics.map(|metrics| ("metrics", metrics)));
        pairs
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: TelemetryCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        TelemetryCommand::List(wanted) => {
            let usual = sink.is_for_people().then_some(USUAL);
            let page = client.latest_telemetry(wanted.pairs(usual)).await?;
            let rows = || {
                let of = |one: &LatestTelemetry| {
                    let lines = one.series.iter().map(|(name, value)| line(one, name, value)).collect::<Vec<_>>();
                    if lines.is_empty() { vec![line(one, "", &Value::Null)] } else { lines }
                };
                table::grid(&["agent", "site", "series", "value", "report"], page.items.iter().flat_map(of))
            };
            sink.many(&page, &page.items, |one| &one.agent_name, rows)?;
            if page.items.is_empty() {
                sink.say("no agents: `viworks agent join-token create` adds one")?;
            }
        }
        TelemetryCommand::Show { agent } => {
            let latest = client.latest_telemetry_of(&agent).await?;
            sink.one(&latest, &latest.agent_name, || page(&latest))?;
        }
        TelemetryCommand::History(options) => past::history(options, client, sink).await?,
        TelemetryCommand::Across(options) => past::across(options, client, sink).await?,
        TelemetryCommand::Trends(options) => past::trends(options, client, sink).await?,
    }
    Ok(Exit::Ok)
}

fn line(one: &LatestTelemetry, name: &str, value: &Value) -> Vec<String> {
    let came = one.received_at.as_deref().map(|came| age(came, Utc::now()));
    let came = came.map(|came| if one.is_stale { format!("{came}, stale") } else { came });
    vec![one.agent_name.clone(), one.site.clone(), name.to_owned(), said(name, value), came.unwrap_or_default()]
}

/// A value for people: a number with its unit, or a word.
fn said(series: &str, value: &Value) -> String {
    match value {
        Value::Number(number) => amount(series, number.as_f64().unwrap_or(f64::NAN)),
        Value::String(word) => word.clone(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn page(latest: &LatestTelemetry) -> String {
    let mut fields = vec![
        ("agent", latest.agent_name.clone()),
        ("site", latest.site.clone()),
        ("status", latest.status.clone()),
        ("taken", latest.at.clone().unwrap_or_else(|| "nothing since this host started".to_owned())),
        ("came", latest.received_at.clone().unwrap_or_default()),
        ("stale", if latest.is_stale { "yes" } else { "no" }.to_owned()),
        ("clock ahead", format!("{} ms", latest.clock_skew_ms)),
    ];
    fields.extend(latest.missing.iter().map(|missing| ("missing", missing.clone())));
    let mut text = table::card(&fields);
    if !latest.series.is_empty() {
        text.push('\n');
        let rows = latest.series.iter().map(|(name, value)| vec![name.clone(), said(name, value)]);
        text += &table::grid(&["series", "value"], rows);
    }
    text
}
