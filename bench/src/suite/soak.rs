//! I1: a long time at a third of what it can do: memory and rate stay where they are.

use std::time::Duration;

use anyhow::Result;

use crate::fleet::Fleet;
use crate::identity::Identities;
use crate::runs::commands::{self, DRAIN, Load, Pace};
use crate::runs::ledger_check::Check;
use crate::suite::ground::Ground;
use crate::table::{Goal, Row};
use crate::usage::memory_of;

/// Simulated agents.
const AGENTS: usize = 500;
/// Share of saturation.
const SHARE: f64 = 0.3;
/// Stretches that the time is cut into, the first of which is warm-up.
const STRETCHES: u32 = 6;
/// What the memory may grow by in ten minutes, as a share.
const GROWTH: f64 = 0.01;

/// Saturates a host for ten seconds, then goes on at a third of that.
///
/// # Errors
/// When the host does not start, or a stretch does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let (host, operator, door) = ground.host().await?;
    let identities = Identities::obtain(&operator, &door, AGENTS, None).await?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    let load = |pace, duration| Load {
        in_flight: 128,
        duration,
        warmup: Duration::from_secs(2),
        pace,
        check: Check::Sample(2_000),
        patience: DRAIN,
        priority: None,
        host_pid: Some(host.pid),
    };
    let most = commands::run(&operator, &fleet, &load(Pace::Closed, Duration::from_secs(10))).await?.0;
    let most = ground.keep(most)?;
    let pace = Pace::Open { rate: (most.rate * SHARE).max(1.0), poisson: true };
    let stretch = ground.asked.soak / STRETCHES;
    let mut seen = Vec::new();
    for number in 0..STRETCHES {
        let (mut found, _) = commands::run(&operator, &fleet, &load(pace, stretch)).await?;
        let rss = memory_of(host.pid)?.rss;
        found.scenario = "soak".to_owned();
        found.note("stretch", number + 1);
        found.note("rss_bytes", rss);
        seen.push((ground.keep(found)?.rate, rss as f64));
    }
    let again = commands::run(&operator, &fleet, &load(Pace::Closed, Duration::from_secs(10))).await?.0;
    let again = ground.keep(again)?;
    fleet.close().await?;
    host.end().await?;
    let (Some((first_rate, first_rss)), Some((last_rate, last_rss))) = (seen.get(1), seen.last()) else {
        return Ok(Vec::new());
    };
    // From the end of the second stretch to the end of the last.
    let minutes = stretch.as_secs_f64() * f64::from(STRETCHES - 2) / 60.0;
    let allowed = first_rss * (1.0 + GROWTH * minutes / 10.0);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let time = format!("{} min at 30 %", (ground.asked.soak.as_secs_f64() / 60.0).round());
    let rate = format!("{time}: rate of the last stretch ÷ an early one");
    let able = format!("{time}: saturation after it ÷ before it");
    let memory = format!("{time}: memory ÷ early memory + 1 % in 10 min");
    Ok(vec![
        Row::new("I1", &rate, "/s", Goal::AtLeast(0.95), *last_rate, *first_rate),
        Row::new("I1", &able, "/s", Goal::AtLeast(0.95), again.rate, most.rate),
        Row::new("I1", &memory, "MiB", Goal::AtMost(1.0), mib(*last_rss), mib(allowed)),
    ])
}
