//! What every axis stands on: the programs under measurement, a store, the file of results, and fresh hosts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::args::{Agent, Axes};
use crate::behaviour::Behaviour;
use crate::conditions::Conditions;
use crate::http::Origin;
use crate::operator::Operator;
use crate::report::Measured;
use crate::store::{Kind, Store};
use crate::suite::host::{Host, Setting};
use crate::suite::keep;

/// One store's ground.
pub struct Ground<'a> {
    /// What was asked for.
    pub asked: &'a Axes,
    /// Which store.
    pub kind: Kind,
    /// It.
    pub store: Store,
    /// Under which conditions.
    pub conditions: Conditions,
    /// The file of results.
    pub json: &'a Path,
}

impl<'a> Ground<'a> {
    /// Starts the store and looks around.
    ///
    /// # Errors
    /// When there is no such store here.
    pub async fn start(asked: &'a Axes, kind: Kind, json: &'a Path) -> Result<Ground<'a>> {
        let store = Store::start(kind, &asked.work)?;
        let conditions = Conditions::look(&asked.work, &store.durability()?).await;
        Ok(Ground { asked, kind, store, conditions, json })
    }

    /// A fresh host on a fresh database, an operator who is logged in, and the agents' door.
    ///
    /// # Errors
    /// When the host does not start.
    pub async fn host(&self) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
        self.host_with(&self.asked.plugins).await
    }

    /// The same with other plugins.
    ///
    /// # Errors
    /// When the host does not start.
    pub async fn host_with(&self, plugins: &Path) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
        greeted(Host::start(&self.asked.host, plugins, &self.asked.work, &self.store.fresh()?).await?).await
    }

    /// A fresh host whose agents say seldom that they live.
    ///
    /// # Errors
    /// When the host does not start.
    pub async fn calm_host(&self, heartbeat: Duration) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
        let heartbeat_ms = Some(u64::try_from(heartbeat.as_millis())?);
        self.host_as(&self.store.fresh()?, Setting { heartbeat_ms, ..Setting::default() }).await
    }

    /// A host on this database, as `setting` says.
    ///
    /// # Errors
    /// When the host does not start.
    pub async fn host_as(&self, url: &str, setting: Setting<'_>) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
        let Axes { host, plugins, work, .. } = self.asked;
        greeted(Host::start_as(host, plugins, work, url, setting).await?).await
    }

    /// One more beside `first`, as `setting` says.
    ///
    /// # Errors
    /// When the host does not start.
    pub async fn host_beside(
        &self,
        first: &Host,
        url: &str,
        setting: Setting<'_>,
    ) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
        let Axes { host, plugins, work, .. } = self.asked;
        greeted(first.beside(host, plugins, work, url, setting).await?).await
    }

    /// How simulated agents behave on all axes: on a real fleet checking signatures is not the host's machine's work.
    pub fn behaviour(&self) -> Behaviour {
        Agent { verify_every: 16, flush_each: false, no_telemetry: false, output_bytes: 3 }.behaviour()
    }

    /// Prints and keeps one finding.
    ///
    /// # Errors
    /// When it cannot be kept, or does not count.
    pub fn keep(&self, found: Measured) -> Result<Measured> {
        let found = found.conclude(self.conditions.cores);
        let faults = found.faults.join("; ");
        let counts = keep(found.clone(), &self.conditions, Some(self.json))?;
        anyhow::ensure!(counts, "{}: {faults}", found.scenario);
        Ok(found)
    }

    /// What was added to the results since they were `before` bytes long.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn added(&self, before: u64) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.json).context("results")?;
        let fresh = text.get(usize::try_from(before)?..).unwrap_or_default();
        fresh.lines().map(|line| serde_json::from_str(line).context("a line of results")).collect()
    }

    /// How long the results are.
    pub fn written(&self) -> u64 {
        std::fs::metadata(self.json).map_or(0, |file| file.len())
    }
}

/// Who works with it, and where its agents knock.
async fn greeted(host: Host) -> Result<(Host, Arc<Operator>, Arc<Origin>)> {
    let operator = Operator::login(&host.api, &host.credential).await?;
    let door = Origin::parse(&host.agents)?;
    Ok((host, operator, door))
}
