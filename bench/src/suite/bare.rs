//! The bare side of a repetition.

use anyhow::Result;

use crate::baseline::hub::Hub;
use crate::baseline::life::Way;
use crate::baseline::{life, route};
use crate::report::Measured;
use crate::runs::idle;
use crate::store::{Kind, Store};
use crate::suite::Size;
use crate::suite::product::LIGHT;

/// What the machine does without the product, taken once.
pub struct Bare {
    /// Whole life in batches of 64; on PostgreSQL by four connections beside each other.
    pub life_64: Measured,
    /// Whole life, one at a time; knows the median commit.
    pub life_1: Measured,
    /// Memory of the hub's idle connections.
    pub hub_idle: Measured,
    /// The same, as rarely as the product is asked under light load.
    pub life_rare: Measured,
    /// Hub, one command under way.
    pub hub_light: Measured,
    /// Hub, as rarely as the product is asked under light load.
    pub hub_rare: Measured,
    /// Hub, saturated.
    pub hub_load: Measured,
    /// Hub at the rate that is half of what the product can do.
    pub hub_half: Option<Measured>,
    /// Hub at the rate that is four fifths of it.
    pub hub_most: Option<Measured>,
    /// Hub, one command to all.
    pub hub_fan_out: Measured,
    /// A JSON route behind a JWT.
    pub route: Measured,
}

impl Bare {
    /// Takes all of it. `rates` are half and four fifths of what the product can do, when that is known.
    ///
    /// # Errors
    /// When a baseline cannot be run.
    pub async fn measure(store: &Store, size: Size, rates: Option<[f64; 2]>) -> Result<Bare> {
        // A server serves several connections at once; an embedded store has one that writes.
        let lanes = if store.kind() == Kind::Postgres { 4 } else { 1 };
        let one = Way { batch: 1, lanes: 1, rate: None };
        let life_64 = life::run(store, Way { batch: 64, lanes, rate: None }, size.warmup, size.short).await?;
        let life_1 = life::run(store, one, size.warmup, size.short).await?;
        let life_rare = life::run(store, Way { rate: Some(LIGHT), ..one }, size.warmup, size.short).await?;
        let mut hub = Hub::start(size.agents).await?;
        let hub_idle = idle::run("hub-idle", size.agents, hub.pid(), hub.before, size.warmup).await?;
        let hub_light = hub.closed(1, size.warmup, size.short).await?;
        let hub_rare = hub.open(LIGHT, size.warmup, size.short).await?;
        let hub_load = hub.closed(size.in_flight, size.warmup, size.short).await?;
        let (mut hub_half, mut hub_most) = (None, None);
        if let Some([half, most]) = rates {
            hub_half = Some(hub.open(half, size.warmup, size.short).await?);
            hub_most = Some(hub.open(most, size.warmup, size.short).await?);
        }
        let hub_fan_out = hub.fan_out(size.broadcasts).await?;
        hub.end().await?;
        let route = route::run(size.connections, size.warmup, size.short).await?;
        Ok(Bare {
            life_64,
            life_1,
            life_rare,
            hub_idle,
            hub_light,
            hub_rare,
            hub_load,
            hub_half,
            hub_most,
            hub_fan_out,
            route,
        })
    }

    /// The least a durable command can take: a round trip and two commits, one after the other. Microseconds.
    pub fn floor_us(&self) -> f64 {
        floor(&self.hub_light, &self.life_1)
    }

    /// The same on a machine that idles between two commands, as it does under light load. Microseconds.
    pub fn rare_floor_us(&self) -> f64 {
        floor(&self.hub_rare, &self.life_rare)
    }

    /// CPU of one command's bare parts: route, store and hub. Microseconds.
    pub fn cpu_us(&self) -> f64 {
        let parts = [&self.route, &self.life_64, &self.hub_load];
        parts.into_iter().map(|part| part.server_us().unwrap_or(f64::NAN)).sum()
    }

    /// All findings, in the order they were taken.
    pub fn into_findings(self) -> Vec<Measured> {
        let stores = [self.life_64, self.life_1, self.life_rare];
        let hubs = [self.hub_idle, self.hub_light, self.hub_rare, self.hub_load];
        let paced = self.hub_half.into_iter().chain(self.hub_most);
        stores.into_iter().chain(hubs).chain(paced).chain([self.hub_fan_out, self.route]).collect()
    }
}

fn floor(hub: &Measured, life: &Measured) -> f64 {
    hub.latency.p50_us + 2.0 * life.noted("commit_p50_us").unwrap_or(f64::NAN)
}
