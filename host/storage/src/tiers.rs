//! The tables of telemetry, and what it takes to make the rows of one from those of the one below.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::telemetry::rollup::{Bucket, Level, roll};
use domain::time::Timestamp;
use plan::id::AgentId;
use ports::error::StoreError;

use crate::packed;

/// Agents rolled up at once: so much is in memory, and written by one transaction.
pub(crate) const AGENTS_AT_ONCE: u32 = 100;

/// The table of a level.
pub(crate) fn table(level: Level) -> &'static str {
    match level {
        Level::Raw => "telemetry",
        Level::Minute => "telemetry_minutes",
        Level::Hour => "telemetry_hours",
    }
}

/// A row as it is read.
pub(crate) struct Row {
    pub agent: AgentId,
    pub at: Timestamp,
    pub report: Vec<u8>,
}

impl Row {
    /// What it says.
    pub fn bucket(&self, level: Level) -> Result<Bucket, StoreError> {
        packed::read(level, self.at, &self.report).map_err(|what| StoreError::Corrupt {
            table: table(level),
            key: format!("{}/{}", self.agent, self.at.0),
            what,
        })
    }
}

/// Buckets of `span` made of rows of the level `below`. A row that cannot be read is left out and said aloud: it
/// must not keep all others from being rolled up for ever.
pub(crate) fn rolled(rows: Vec<Row>, below: Level, span: Duration) -> Vec<Row> {
    let mut of_agents: BTreeMap<AgentId, Vec<Row>> = BTreeMap::new();
    for row in rows {
        of_agents.entry(row.agent).or_default().push(row);
    }
    let mut made = Vec::new();
    for (agent, mut rows) in of_agents {
        rows.sort_by_key(|row| row.at);
        let readable = rows.iter().filter_map(|row| {
            row.bucket(below).inspect_err(|error| tracing::error!(%error, "telemetry is left out of roll-ups")).ok()
        });
        let of_agent = roll(readable, span);
        made.extend(of_agent.iter().map(|bucket| Row { agent, at: bucket.start, report: packed::bucket(bucket) }));
    }
    made
}
