//! What the host knows of every agent now, in as few questions as there are.

use std::collections::BTreeMap;

use api::telemetry::LatestTelemetry;
use serde_json::Value;
use viworks_client::{Client, ClientError, CommandQuery};

use super::Load;

/// What the table is made of.
const METRICS: &str = "cpu.total,mem.used_pct,disk.used_pct,load.1";
/// Newest running commands that are looked into.
const COMMANDS: usize = 20;

/// One line for each agent.
pub(super) async fn loads(client: &Client, site: Option<&str>) -> Result<Vec<Load>, ClientError> {
    let mut query = vec![("metrics", METRICS.to_owned())];
    query.extend(site.map(|site| ("site", site.to_owned())));
    let latest = client.latest_telemetry(query).await?.items;
    let running = running(client).await?;
    Ok(latest.into_iter().map(|agent| load(agent, &running)).collect())
}

fn load(latest: LatestTelemetry, running: &BTreeMap<String, u32>) -> Load {
    let LatestTelemetry { agent, agent_name, site, status, received_at, series, .. } = latest;
    let number = |name: &str| series.get(name).and_then(Value::as_f64);
    let disks = series.iter().filter(|(name, _)| name.starts_with("disk.used_pct{")).filter_map(|(_, v)| v.as_f64());
    Load {
        cpu_percent: number("cpu.total"),
        memory_percent: number("mem.used_pct"),
        disk_percent: disks.max_by(f64::total_cmp),
        load: number("load.1"),
        running: running.get(&agent).copied().unwrap_or(0),
        name: agent_name,
        site,
        status,
        reported_at: received_at,
    }
}

/// How many of the newest running commands run on each agent.
async fn running(client: &Client) -> Result<BTreeMap<String, u32>, ClientError> {
    let query = CommandQuery { status: vec!["running".to_owned()], ..CommandQuery::default() };
    let mut counts = BTreeMap::new();
    for command in client.commands(&query, COMMANDS).await?.items {
        let route = ["commands", &command.id, "invocations"];
        let mut there = client.each::<Value>(&route, vec![("state", "running".to_owned())]);
        while let Some(invocation) = there.next().await {
            if let Some(agent) = invocation?["agent"].as_str() {
                *counts.entry(agent.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fullest_disk_counts_and_what_nobody_said_stays_open() {
        let latest = |series: Value| LatestTelemetry {
            agent: "id-web".to_owned(),
            agent_name: "web".to_owned(),
            site: "eu".to_owned(),
            status: "online".to_owned(),
            at: None,
            received_at: None,
            clock_skew_ms: 0,
            is_stale: true,
            series: serde_json::from_value(series).expect("series"),
            missing: Vec::new(),
        };
        let running = BTreeMap::from([("id-web".to_owned(), 2)]);
        let full =
            load(latest(json!({"cpu.total": 7.5, "disk.used_pct{/}": 40.0, "disk.used_pct{/a}": 90.0})), &running);
        assert_eq!((full.cpu_percent, full.disk_percent, full.memory_percent), (Some(7.5), Some(90.0), None));
        assert_eq!(full.running, 2);
        let silent = load(latest(json!({})), &BTreeMap::new());
        assert_eq!((silent.cpu_percent, silent.disk_percent, silent.running), (None, None, 0));
    }
}
