//! What the host knows of every agent now, in as few questions as there are.

use std::collections::BTreeMap;

use futures_util::stream::{StreamExt as _, iter};
use serde_json::Value;
use viworks_client::{Client, ClientError, CommandQuery};

use super::Load;

/// Agents whose telemetry is asked for; a table longer than this is read by nobody.
const SAMPLED: usize = 100;
/// Questions at once.
const AT_ONCE: usize = 8;
/// Newest running commands that are looked into.
const COMMANDS: usize = 20;

/// One line for each agent.
pub(super) async fn loads(client: &Client, site: Option<&str>) -> Result<Vec<Load>, ClientError> {
    let query = site.map(|site| ("site", site.to_owned())).into_iter().collect();
    let agents = client.agents(query).await?.items;
    let online: Vec<String> =
        agents.iter().filter(|agent| agent.status != "offline").take(SAMPLED).map(|agent| agent.id.clone()).collect();
    let samples: BTreeMap<String, Value> = iter(online)
        .map(async |id| {
            // One that cannot be had is a gap in the table, and no reason to show none.
            let sample = client.telemetry(&id).await.ok().and_then(|answer| answer.sample);
            (id, sample.unwrap_or_default())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let running = running(client).await?;
    let rows = agents.into_iter().filter(|agent| agent.revoked_at.is_none()).map(|agent| {
        let sample = samples.get(&agent.id).unwrap_or(&Value::Null);
        let disks = sample["disks"].as_array().into_iter().flatten().filter_map(used_percent);
        Load {
            cpu_percent: sample["cpu_percent"].as_f64(),
            memory_percent: used_percent(&sample["memory"]),
            disk_percent: disks.max_by(f64::total_cmp),
            load: sample["load"][0].as_f64(),
            running: running.get(&agent.id).copied().unwrap_or(0),
            name: agent.name,
            site: agent.site,
            status: agent.status,
            last_seen: agent.last_seen,
        }
    });
    Ok(rows.collect())
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

fn used_percent(usage: &Value) -> Option<f64> {
    let usage = usage.get("usage").unwrap_or(usage);
    let (used, total) = (usage["used_bytes"].as_f64()?, usage["total_bytes"].as_f64()?);
    (total > 0.0).then(|| used / total * 100.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn use_is_a_part_of_the_whole() {
        assert_eq!(used_percent(&json!({"used_bytes": 1, "total_bytes": 4})), Some(25.0));
        assert_eq!(used_percent(&json!({"mount": "/", "usage": {"used_bytes": 1, "total_bytes": 2}})), Some(50.0));
        assert_eq!(used_percent(&json!({"used_bytes": 0, "total_bytes": 0})), None);
        assert_eq!(used_percent(&Value::Null), None);
    }
}
