//! B1, B2, B3, B5 and F1 with thousands of agents: memory, CPU while nothing happens, all of them coming back after a
//! restart, and one command to all, each beside the same on a bare hub.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::baseline::hub::Hub;
use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::broadcast::{self, Shape};
use crate::runs::idle;
use crate::suite::ground::Ground;
use crate::table::{Goal, Row};
use crate::usage::{Memory, Meter, memory_of, used_by};

/// The memory a host may have, MiB.
const MEMORY_MIB: f64 = 256.0;
/// The share of a core that it may use while nothing happens, with [`FULL`] agents.
const IDLE_SHARE: f64 = 0.04;
/// As many as 20,000 open files allow; a quick look has those of the other axes.
const FULL: usize = 19_500;
/// Between two heartbeats of agents that are watched while nothing happens, and between two of their samples.
const BEAT: Duration = Duration::from_secs(30);

/// What the bare hub does with as many agents.
struct Bare {
    /// What it has of its own for each, bytes.
    memory: f64,
    /// All of them connected, seconds.
    connected_s: f64,
    /// Its CPU for each, microseconds.
    connect_us: f64,
    /// One command to all, microseconds.
    fan_out_us: f64,
}

/// All that is measured with `ground.asked.crowd` agents.
///
/// # Errors
/// When hub or host do not start, or a run does not count.
pub async fn run(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let agents = ground.asked.crowd;
    let quick = ground.asked.quick;
    let bare = bare(ground, agents).await?;
    let (host, operator, door) = ground.host().await?;
    let identities = Identities::obtain(&operator, &door, agents, None).await?;
    // Who has joined is known; what a session takes comes on top of that.
    let fresh = idle::settled_memory(host.pid).await?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    let joined = idle::settled_memory(host.pid).await?;
    let to_all = broadcast::run(&operator, &fleet, Shape::Plain, if quick { 4 } else { 10 }, Some(host.pid)).await?;
    let to_all = ground.keep(to_all)?;
    // Every agent has said how its machine is, and that is kept.
    tokio::time::sleep(BEAT + Duration::from_secs(3)).await;
    let faults = fleet.faults();
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    let rss = memory_of(host.pid)?.rss;

    // The host goes, and takes every session with it.
    let host = host.again(&ground.asked.host).await?;
    drop(fleet);
    let back = Origin::parse(&host.agents)?;
    let meter = Meter::start(Some(host.pid));
    let fleet = Fleet::connect(&back, &identities, ground.behaviour()).await?;
    let mut storm = Measured::new("crowd-reconnect", json!({ "agents": agents }));
    storm.cost = meter.stop();
    storm.operations = agents as u64;
    storm.rate = agents as f64 / fleet.connected_in.as_secs_f64();
    storm.note("all_back_in_s", round(fleet.connected_in.as_secs_f64()));
    storm.note("host_ready_in_ms", round(host.ready_in.as_secs_f64() * 1e3));
    let storm = ground.keep(storm)?;
    // Whoever is back works: one command to all of them ends.
    let operator = Operator::login(&host.api, &host.credential).await?;
    let after = broadcast::run(&operator, &fleet, Shape::Plain, 1, Some(host.pid)).await?;
    ground.keep(after)?;
    let back_s = fleet.connected_in.as_secs_f64();
    fleet.close().await?;
    host.end().await?;

    let mib = rss as f64 / f64::from(1 << 20);
    let storm_us = storm.server_us().unwrap_or(f64::NAN);
    let memory = each(fresh, joined, agents);
    let rows = [
        ("B1", "memory of each ÷ hub's", "B", Goal::AtMost(2.0), memory, bare.memory),
        ("B2", "host's memory ÷ 256 MiB", "MiB", Goal::AtMost(1.0), mib, MEMORY_MIB),
        ("B5", "all back after a restart ÷ bare connects", "s", Goal::AtMost(3.0), back_s, bare.connected_s),
        ("B5", "host's CPU for each that comes back ÷ hub's", "µs", Goal::AtMost(3.0), storm_us, bare.connect_us),
        ("F1", "one command to all ÷ hub's fan-out", "µs", Goal::AtMost(2.5), to_all.latency.p50_us, bare.fan_out_us),
    ];
    let named = |what: &str| format!("{agents} agents: {what}");
    let rows = rows
        .into_iter()
        .map(|(axis, what, unit, goal, ours, beside)| Row::new(axis, &named(what), unit, goal, ours, beside));
    Ok(rows.chain([calm(ground, if quick { agents } else { FULL }).await?]).collect())
}

/// What a host does while nothing happens but heartbeats and samples.
async fn calm(ground: &Ground<'_>, agents: usize) -> Result<Row> {
    let (host, operator, door) = ground.calm_host(BEAT).await?;
    let identities = Identities::obtain(&operator, &door, agents, None).await?;
    let before = memory_of(host.pid)?;
    let fleet = Fleet::connect(&door, &identities, ground.behaviour()).await?;
    // Every agent's heartbeat and sample fall due at least once.
    let hold = if ground.asked.quick { BEAT + Duration::from_secs(3) } else { 4 * BEAT };
    let mut calm = idle::run("crowd-idle", agents, host.pid, before, hold).await?;
    calm.faults.extend(fleet.faults());
    let calm = ground.keep(calm)?;
    fleet.close().await?;
    host.end().await?;
    let share = calm.cost.server_cpu_s.unwrap_or(f64::NAN) / calm.cost.seconds;
    let what = format!("{agents} agents: CPU while idle ÷ 4 % of a core");
    Ok(Row::new("B3", &what, "of a core", Goal::AtMost(1.0), share, IDLE_SHARE))
}

/// Memory that is nobody else's, for each of `agents` that came in between.
fn each(before: Memory, after: Memory, agents: usize) -> f64 {
    after.private.saturating_sub(before.private) as f64 / agents.max(1) as f64
}

async fn bare(ground: &Ground<'_>, agents: usize) -> Result<Bare> {
    let mut hub = Hub::start(agents).await?;
    let connect_us = used_by(hub.pid())?.cpu * 1e6 / agents as f64;
    let connected_s = hub.connected_in.as_secs_f64();
    let memory = each(hub.before, idle::settled_memory(hub.pid()).await?, agents);
    let mut connects = Measured::new("hub-connect", json!({ "agents": agents }));
    connects.note("connected_in_s", round(connected_s));
    connects.note("server_us_per_agent", round(connect_us));
    connects.note("memory_per_agent_bytes", memory.round());
    ground.keep(connects)?;
    let fan_out = ground.keep(hub.fan_out(4).await?)?;
    hub.end().await?;
    Ok(Bare { memory, connected_s, connect_us, fan_out_us: fan_out.latency.p50_us })
}
