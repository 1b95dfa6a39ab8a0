//! `viworks health`: how well machines are, with the arithmetic of every score.

use api::telemetry::{AgentHealth, GroupHealth, HealthReport};
use clap::Args;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, table};
use crate::telemetry::Whose;

/// Whose health.
#[derive(Clone, Debug, Args)]
pub struct HealthOptions {
    /// Only this one, by name or id
    #[arg(value_name = "AGENT", conflicts_with_all = ["sites", "labels"])]
    pub agent: Option<String>,
    /// Whose.
    #[command(flatten)]
    pub whose: Whose,
}

/// Shows it.
///
/// # Errors
/// What the host refuses.
pub async fn run(options: HealthOptions, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let HealthOptions { agent, whose } = options;
    match agent {
        Some(name) => one(&name, client, sink).await?,
        None => {
            let report = client.health_report(whose.pairs()).await?;
            sink.many(&report, &report.items, |one| &one.agent_name, || page(&report))?;
            if report.items.is_empty() {
                sink.say("no agents: `viworks agent join-token create` adds one")?;
            }
        }
    }
    Ok(Exit::Ok)
}

async fn one(name: &str, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let agent = client.agent(name).await?;
    let report = client.health_report(vec![("site", agent.site.clone())]).await?;
    let Some(health) = report.items.iter().find(|one| one.agent == agent.id) else {
        return Err(Failure::new(Exit::Error, format!("`{name}` is revoked: it has no health any more")));
    };
    Ok(sink.one(health, &health.agent_name, || card(health))?)
}

fn page(report: &HealthReport) -> String {
    if report.items.is_empty() {
        return String::new();
    }
    let titles = ["site", "score", "arithmetic", "online", "degraded", "offline", "maintenance", "pending"];
    // The fleet is the sum of its sites, so it stands below them.
    let groups = report.sites.iter().chain([&report.fleet]);
    let mut text = table::grid(&titles, groups.map(group));
    text.push('\n');
    let mut worst_first: Vec<&AgentHealth> = report.items.iter().collect();
    worst_first.sort_by_key(|one| one.score);
    let row = |one: &AgentHealth| {
        let score = one.score.to_string();
        vec![one.agent_name.clone(), one.site.clone(), one.status.clone(), score, arithmetic(one)]
    };
    text + &table::grid(&["agent", "site", "status", "score", "arithmetic"], worst_first.into_iter().map(row))
}

fn group(group: &GroupHealth) -> Vec<String> {
    let GroupHealth { site, score, sum, counted, agents: _, online, degraded, offline, maintenance, pending } = group;
    let counts = [online, degraded, offline, maintenance, pending].map(u32::to_string);
    let score = score.map(|score| format!("{score:.1}")).unwrap_or_default();
    let site = site.clone().unwrap_or_else(|| "all".to_owned());
    [site, score, format!("{sum} / {counted}")].into_iter().chain(counts).collect()
}

/// `100 - 20 (degraded) - 15 (no telemetry)`; a score is never below nothing, whatever the sum says.
fn arithmetic(health: &AgentHealth) -> String {
    let off: String = health.deductions.iter().map(|off| format!(" - {} ({})", off.points, off.why)).collect();
    format!("100{off}")
}

fn card(health: &AgentHealth) -> String {
    let mut fields = vec![
        ("agent", health.agent_name.clone()),
        ("site", health.site.clone()),
        ("status", health.status.clone()),
        ("score", health.score.to_string()),
    ];
    fields.extend(health.deductions.iter().map(|off| ("taken off", format!("{} for {}", off.points, off.why))));
    table::card(&fields)
}

#[cfg(test)]
mod tests {
    use api::telemetry::{Deduction, IngestTally};

    use super::*;

    fn agent(name: &str, score: u32, off: &[(u32, &str)]) -> AgentHealth {
        let deductions = off.iter().map(|(points, why)| Deduction { why: (*why).to_owned(), points: *points });
        AgentHealth {
            agent: format!("id-{name}"),
            agent_name: name.to_owned(),
            site: "eu".to_owned(),
            status: "online".to_owned(),
            score,
            deductions: deductions.collect(),
        }
    }

    #[test]
    fn a_report_shows_what_each_score_is_made_of_the_worst_first() {
        let fleet = GroupHealth {
            site: None,
            score: Some(82.5),
            sum: 165,
            counted: 2,
            agents: 3,
            online: 2,
            degraded: 0,
            offline: 0,
            maintenance: 1,
            pending: 0,
        };
        let none = GroupHealth { site: Some("us".to_owned()), score: None, sum: 0, counted: 0, ..fleet.clone() };
        let report = HealthReport {
            at: "2026-01-01T00:00:00Z".to_owned(),
            sites: vec![GroupHealth { site: Some("eu".to_owned()), ..fleet.clone() }, none],
            fleet,
            ingest: IngestTally {
                taken: 0,
                stored: 0,
                repeated: 0,
                dropped: 0,
                waiting: 0,
                refused: std::collections::BTreeMap::new(),
                passed_over: 0,
            },
            items: vec![agent("web-01", 100, &[]), agent("web-02", 65, &[(20, "degraded"), (15, "no telemetry")])],
            next_cursor: None,
        };
        insta::assert_snapshot!(page(&report), @r"
        SITE  SCORE  ARITHMETIC  ONLINE  DEGRADED  OFFLINE  MAINTENANCE  PENDING
        eu    82.5   165 / 2     2       0         0        1            0
        us    -      0 / 0       2       0         0        1            0
        all   82.5   165 / 2     2       0         0        1            0

        AGENT   SITE  STATUS  SCORE  ARITHMETIC
        web-02  eu    online  65     100 - 20 (degraded) - 15 (no telemetry)
        web-01  eu    online  100    100
        ");
        insta::assert_snapshot!(card(&report.items[1]), @r"
        agent:      web-02
        site:       eu
        status:     online
        score:      65
        taken off:  20 for degraded
        taken off:  15 for no telemetry
        ");
    }
}
