//! A9: what an urgent command waits for when a hundred thousand others, none of them urgent, wait as well.

use std::time::Duration;

use anyhow::Result;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::report::Measured;
use crate::runs::commands::{self, DRAIN, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::suite::ground::Ground;
use crate::table::{Goal, Row};

/// Agents that are there.
const HERE: usize = 100;
/// Agents that are away, so that what is theirs waits.
const AWAY: usize = 1_000;
/// Urgent commands a second.
const RATE: f64 = 50.0;

/// Urgent commands at a light rate, with nothing and then with very much waiting.
///
/// # Errors
/// When the host does not start, or a run does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let (host, operator, door) = ground.host().await?;
    let here = Identities::obtain(&operator, &door, HERE, None).await?;
    let fleet = Fleet::connect(&door, &here, ground.behaviour()).await?;
    let load = Load {
        in_flight: 64,
        duration: Duration::from_secs(if ground.asked.quick { 8 } else { 30 }),
        warmup: Duration::from_secs(1),
        pace: Pace::Open { rate: RATE, poisson: false },
        check: Check::Sample(200),
        patience: DRAIN,
        priority: Some("critical"),
        host_pid: Some(host.pid),
    };
    let (calm, _) = commands::run(&operator, &fleet, &load).await?;
    let calm = kept(ground, calm, "urgent-alone", 0)?;

    let away = Identities::obtain(&operator, &door, AWAY, None).await?;
    // Who was never there has no profile, and is no target.
    Fleet::connect(&door, &away, ground.behaviour()).await?.close().await?;
    let away: Vec<String> = away.agents.iter().map(|agent| agent.id.to_string()).collect();
    let body = json!({
        "verb": "exec.run", "args": { "program": "true" }, "priority": "low", "start_within_ms": 3_600_000,
        "target": { "agents": away },
    });
    let (body, mut client) = (body.to_string(), operator.client());
    let each = ground.asked.waiting.div_ceil(AWAY);
    for _ in 0..each {
        let _: IgnoredAny = operator.post(&mut client, "/api/v1/commands", body.as_bytes()).await?;
    }
    let (pressed, _) = commands::run(&operator, &fleet, &load).await?;
    let pressed = kept(ground, pressed, "urgent-before-many", each * AWAY)?;
    fleet.close().await?;
    host.end().await?;
    let what = format!("urgent at 50/s, p99: {} low ones waiting ÷ none", each * AWAY);
    let [ours, beside] = [pressed, calm].map(|found| found.latency.p99_us);
    Ok(vec![Row::new("A9", &what, "µs", Goal::AtMost(2.0), ours, beside)])
}

fn kept(ground: &Ground<'_>, mut found: Measured, name: &str, waiting: usize) -> Result<Measured> {
    found.scenario = name.to_owned();
    found.note("waiting", waiting);
    ground.keep(found)
}
