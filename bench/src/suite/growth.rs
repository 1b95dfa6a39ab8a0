//! How cost grows with the fleet: what a command to one agent takes of the host, and what one target of a command to all
//! takes, on fleets ten times as large as each other.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::args::Sizes;
use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::runs::commands::{self, DRAIN, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::suite::ground::Ground;
use crate::suite::sizes;
use crate::table::{Goal, Row};

/// A command's cost in the largest fleet, in those of the smallest.
const COMMAND: f64 = 1.4;
/// A target's cost in the largest fleet, in those of the dearest smaller one.
const TARGET: f64 = 1.5;

/// Commands first, then whole fleets.
///
/// # Errors
/// When a host does not start, or a run does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let fleets: &[usize] = if ground.asked.quick { &[100, 1_000] } else { &[100, 1_000, 10_000] };
    let few: &[usize] = &[1, 10];
    let mut costs = Vec::new();
    for agents in fleets {
        costs.push((*agents, command(ground, *agents).await?));
    }
    let mut rows = Vec::new();
    for (agents, cost) in &costs {
        let what = format!("host's CPU per command, {agents} agents");
        rows.push(Row::new("N", &what, "µs", Goal::Told, *cost, f64::NAN));
    }
    if let (Some((few, least)), Some((many, most))) = (costs.first(), costs.last()) {
        let what = format!("host's CPU per command, {many} agents ÷ {few}");
        rows.push(Row::new("N", &what, "µs", Goal::AtMost(COMMAND), *most, *least));
    }
    let before = ground.written();
    let asked = Sizes {
        host: ground.asked.host.clone(),
        plugins: ground.asked.plugins.clone(),
        store: ground.kind,
        agents: fleets.to_vec(),
        repeat: 4,
        at_most: None,
        work: ground.asked.work.clone(),
        verify_every: 16,
    };
    let good = sizes::run(&asked, Some(ground.json)).await?;
    for line in ground.added(before)?.iter().filter(|line| line["scenario"] == "sizes") {
        let shape = line["parameters"]["shape"].as_str().context("a shape")?;
        for (note, of) in [("time_ratio", "time"), ("cpu_ratio", "host's CPU")] {
            let what = format!("a target's {of}, {shape}, largest fleet ÷ dearest smaller");
            let ratio = line["notes"].get(note).and_then(Value::as_f64).unwrap_or(f64::NAN);
            rows.push(Row::new("N", &what, "", Goal::AtMost(TARGET), ratio, 1.0));
        }
    }
    // To how many is the curve's other end: what one target costs where there are hardly any.
    let asked = Sizes { agents: few.to_vec(), ..asked };
    let good = sizes::run(&asked, Some(ground.json)).await? && good;
    for line in ground.added(before)?.iter().filter(|line| line["scenario"] == "broadcast") {
        let (Some(agents), Some(shape)) = (line["parameters"]["agents"].as_u64(), line["parameters"]["shape"].as_str())
        else {
            continue;
        };
        let target = line["notes"]["us_per_target_p50"].as_f64().unwrap_or(f64::NAN);
        let what = format!("a target's time, {shape}, command to {agents}");
        rows.push(Row::new("N", &what, "µs", Goal::Told, target, f64::NAN));
    }
    if !good {
        rows.push(Row::faulty("growth"));
    }
    Ok(rows)
}

/// The host's CPU for one command to one of `agents`, microseconds.
async fn command(ground: &Ground<'_>, agents: usize) -> Result<f64> {
    let (host, operator, door) = ground.host().await?;
    let identities = Identities::obtain(&operator, &door, agents, None).await?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    let load = Load {
        in_flight: 64,
        duration: Duration::from_secs(if ground.asked.quick { 3 } else { 10 }),
        warmup: Duration::from_secs(1),
        pace: Pace::Closed,
        check: Check::Sample(500),
        patience: DRAIN,
        priority: None,
        host_pid: Some(host.pid),
    };
    let (mut found, _) = commands::run(&operator, &fleet, &load).await?;
    found.scenario = "growth".to_owned();
    let found = ground.keep(found)?;
    fleet.close().await?;
    host.end().await?;
    Ok(found.server_us().unwrap_or(f64::NAN))
}
