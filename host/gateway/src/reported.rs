//! What one session has reported: judged here, handed on, and never waited for.

use std::sync::Arc;

use domain::telemetry::report::{Reading, Refusal, Report, Watch};
use plan::id::AgentId;
use ports::latest::Text;
use services::directory::Latest;
use wire::sample::Sample;

use crate::readings::readings;
use crate::room::Gateway;

/// Refusals of one session that are told one by one; after them every hundredth is.
const TOLD: u64 = 3;

/// The memory of one session.
#[derive(Debug, Default)]
pub struct Reported {
    watch: Watch,
    refused: u64,
}

impl Reported {
    /// Judges a sample. One that is believed becomes the latest and goes on its way to the store; of another the
    /// agent is named, and nothing else happens.
    pub fn take(&mut self, gateway: &Gateway, agent: AgentId, sample: Sample) {
        let now = gateway.clock.now();
        let judged = readings(&sample).and_then(|readings| Ok((readings, self.watch.settle(sample.at_ms, now)?)));
        let (readings, (at, skew_ms)) = match judged {
            Ok(believed) => believed,
            Err(why) => return self.refuse(gateway, agent, why, "the whole sample is left out"),
        };
        let readings: Arc<[Reading]> = readings.into();
        let text =
            Text::later(move || serde_json::to_string(&sample).expect("a sample holds nothing that JSON cannot"));
        let latest = Latest { sample: text, at, received_at: now, skew_ms, readings: readings.clone() };
        gateway.directory.set_latest(agent, latest);
        gateway.ingest.take(Report { agent, at, received_at: now, readings });
    }

    /// Counts a sample that is not believed, and names the agent.
    pub fn refuse(&mut self, gateway: &Gateway, agent: AgentId, why: Refusal, detail: &str) {
        gateway.ingest.refuse(why);
        self.refused += 1;
        if self.refused <= TOLD || self.refused.is_multiple_of(100) {
            let detail: String = detail.chars().take(200).collect();
            tracing::warn!(%agent, %why, detail, refused = self.refused, "telemetry that cannot be is refused");
        }
    }
}
