//! The product's side of a repetition: a fresh host, a fresh fleet, everything once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use servers::redis::Redis;

use crate::args::{Agent, All};
use crate::fleet::Fleet;
use crate::http::Origin;
use crate::identity::Identities;
use crate::operator::Operator;
use crate::report::{Measured, round};
use crate::runs::broadcast::{self, Shape};
use crate::runs::commands::{self, DRAIN, Load, Pace};
use crate::runs::idle;
use crate::runs::ledger_check::Check;
use crate::store::{Kind, Store};
use crate::suite::Size;
use crate::suite::host::{Host, Setting};
use crate::usage::memory_of;

/// Light load: commands per second.
pub const LIGHT: f64 = 50.0;
/// Shares of saturation that latencies are taken at.
const HALF: f64 = 0.5;
const MOST: f64 = 0.8;
/// Accepted commands looked up after each load.
const SAMPLE: usize = 2_000;

/// What the product does, taken once.
pub struct Product {
    /// Memory of its idle connections, and how soon it was ready.
    pub idle: Measured,
    /// Saturated.
    pub commands: Measured,
    /// One command to all.
    pub broadcast: Measured,
    /// Open loop at [`LIGHT`].
    pub light: Measured,
    /// Open loop at half of what `commands` reached.
    pub half: Measured,
    /// Open loop at four fifths of it.
    pub most: Measured,
    /// GET one agent.
    pub read_agent: Measured,
    /// GET one command.
    pub read_command: Measured,
}

impl Product {
    /// Starts a host, takes all of it, ends the host.
    ///
    /// # Errors
    /// When the host does not start or cannot be asked.
    pub async fn measure(asked: &All, store: &Store, size: Size) -> Result<Product> {
        let database = store.fresh()?;
        // On a server it is one of several hosts that might be: they call each other by Redis.
        let redis = match store.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Redis::start().context("Redis")?),
        };
        let address = redis.as_ref().map(Redis::url);
        let setting = Setting { redis: address.as_deref(), ..Setting::default() };
        let host = Host::start_as(&asked.host, &asked.plugins, &asked.work, &database, setting).await?;
        let fresh = idle::settled_memory(host.pid).await?;
        let operator = Operator::login(&host.api, &host.credential).await?;
        let door = Origin::parse(&host.agents)?;
        let identities = Identities::obtain(&operator, &door, size.agents, None).await?;
        let joined = memory_of(host.pid)?;
        let agent = Agent { verify_every: asked.verify_every, flush_each: false, no_telemetry: false, output_bytes: 3 };
        let fleet = Fleet::connect(&door, &identities, agent.behaviour()).await?;
        let mut idle = idle::run("idle", size.agents, host.pid, fresh, size.warmup).await?;
        idle.note("connected_in_s", round(fleet.connected_in.as_secs_f64()));
        idle.note("ready_in_ms", round(host.ready_in.as_secs_f64() * 1e3));
        idle.note("rss_fresh_bytes", fresh.rss);
        idle.note("rss_joined_bytes", joined.rss);

        let load = |pace, in_flight, duration: Duration| Load {
            in_flight,
            duration,
            warmup: size.warmup,
            pace,
            check: Check::Sample(SAMPLE),
            patience: DRAIN,
            priority: None,
            host_pid: Some(host.pid),
        };
        let (mut saturated, _) =
            commands::run(&operator, &fleet, &load(Pace::Closed, size.in_flight, size.load)).await?;
        saturated.note("store_bytes", store.bytes(&database)?);
        let broadcast = broadcast::run(&operator, &fleet, Shape::Plain, size.broadcasts, Some(host.pid)).await?;
        let read = crate::reads(&operator, size.connections, size.warmup, size.short, Some(host.pid)).await?;
        let pace = Pace::Open { rate: LIGHT, poisson: false };
        let (mut light, _) = commands::run(&operator, &fleet, &load(pace, 64, size.load)).await?;
        light.scenario = "commands-light".to_owned();
        let pace = |share: f64| Pace::Open { rate: part(&saturated, share), poisson: false };
        let (mut at_half, _) = commands::run(&operator, &fleet, &load(pace(HALF), size.in_flight, size.load)).await?;
        at_half.scenario = "commands-half".to_owned();
        let (mut at_most, _) = commands::run(&operator, &fleet, &load(pace(MOST), size.in_flight, size.load)).await?;
        at_most.scenario = "commands-most".to_owned();
        fleet.close().await?;
        host.end().await?;
        let [read_agent, read_command] = <[Measured; 2]>::try_from(read).expect("agents, then commands");
        let (half, most) = (at_half, at_most);
        Ok(Product { idle, commands: saturated, broadcast, light, half, most, read_agent, read_command })
    }

    /// Half and four fifths of what it can do, commands per second.
    pub fn rates(&self) -> [f64; 2] {
        [HALF, MOST].map(|share| part(&self.commands, share))
    }

    /// All findings, in the order they were taken.
    pub fn into_findings(self) -> Vec<Measured> {
        let Product { idle, commands, broadcast, light, half, most, read_agent, read_command } = self;
        vec![idle, commands, broadcast, light, half, most, read_agent, read_command]
    }
}

fn part(saturated: &Measured, share: f64) -> f64 {
    (saturated.rate * share).max(1.0)
}
