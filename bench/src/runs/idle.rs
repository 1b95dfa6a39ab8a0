//! What a connected agent costs while nothing happens: memory, and CPU for its heartbeats.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::report::{Measured, round};
use crate::schedule::{nanos, now_ns};
use crate::usage::{Memory, Meter, memory_of};

/// How long the memory may go on moving after the last agent was welcomed.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The memory of `pid` once two looks agree to within a quarter of a per cent.
///
/// # Errors
/// When there is no such process.
pub async fn settled_memory(pid: u32) -> Result<Memory> {
    let until = now_ns() + nanos(SETTLE_WITHIN);
    let mut last = memory_of(pid)?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = memory_of(pid)?;
        if now.rss.abs_diff(last.rss) * 400 <= last.rss || now_ns() > until {
            return Ok(now);
        }
        last = now;
    }
}

/// What `agents` idle connections to process `pid` cost. `before` is its memory without them; `hold`
/// is for how long its CPU is watched.
///
/// # Errors
/// When the process is gone.
pub async fn run(scenario: &str, agents: usize, pid: u32, before: Memory, hold: Duration) -> Result<Measured> {
    let after = settled_memory(pid).await?;
    let meter = Meter::start(Some(pid));
    tokio::time::sleep(hold).await;
    let cost = meter.stop();
    let mut found = Measured::new(scenario, json!({ "agents": agents, "hold_s": hold.as_secs_f64() }));
    let per_agent = |after: u64, before: u64| after.saturating_sub(before) as f64 / agents.max(1) as f64;
    // Memory that did not grow says that the agents are too few to tell, not that they are free.
    if after.private > before.private {
        found.note("memory_per_agent_bytes", per_agent(after.private, before.private).round());
        found.note("rss_per_agent_bytes", per_agent(after.rss, before.rss).round());
    } else {
        found.note("too_few_agents", true);
    }
    found.note("rss_before_bytes", before.rss);
    found.note("rss_after_bytes", after.rss);
    if let Some(cpu) = cost.server_cpu_s {
        found.note("idle_share_of_a_core", round(cpu / cost.seconds));
    }
    found.cost = cost;
    Ok(found)
}
