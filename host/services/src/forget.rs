//! What is old enough is forgotten, in steps so small that whoever writes is never far from its turn: output, of which
//! what became of its command stays; join tokens that let nobody in any more, of which the audit log tells; and audit
//! entries, if an operator said how long they are kept, up to checkpoints that are sealed. To run twice, here or on two
//! hosts, does no harm.

use std::sync::Arc;
use std::time::Duration;

use domain::audit::Entry;
use domain::time::Timestamp;
use ports::agents::Agents;
use ports::clock::Clock;
use ports::commands::Commands;
use ports::error::StoreError;
use ports::journal::{Cut, Trail};
use tokio_util::sync::CancellationToken;

use crate::origin::Origin;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(300);
/// Between two steps.
const BREATH: Duration = Duration::from_millis(20);
/// Audit entries of one step, where a store does not drop them by days; and join tokens.
const STEP: u32 = 500;
/// How long a join token is shown after it was used, revoked or expired.
const SPENT_TOKENS: Duration = Duration::from_secs(30 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// The use case.
pub struct Forget {
    /// Where output is kept.
    pub commands: Arc<dyn Commands>,
    /// How long. More than an attempt can take, so that nothing goes of what still runs.
    pub output: Duration,
    /// Where join tokens are kept.
    pub agents: Arc<dyn Agents>,
    /// Where audit entries are kept.
    pub trail: Arc<dyn Trail>,
    /// How many days; for ever when absent.
    pub audit_days: Option<u32>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Forget {
    /// Looks again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.turn(&stop).await {
                tracing::warn!(%error, "what is old is not forgotten now; it will be");
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Forgets whatever is old enough, or until `stop`.
    ///
    /// # Errors
    /// The store's; the rest is for another turn.
    pub async fn turn(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = self.clock.now();
        while self.commands.forget_output(now - self.output).await? && !stop.is_cancelled() {
            tokio::time::sleep(BREATH).await;
        }
        while self.agents.forget_tokens(now - SPENT_TOKENS, STEP).await? > 0 && !stop.is_cancelled() {
            tokio::time::sleep(BREATH).await;
        }
        if let Some(days) = self.audit_days {
            let gone = prune(self.trail.as_ref(), days, now, stop).await?;
            if gone > 0 {
                tracing::info!(gone, "dropped audit entries older than {days} days, up to sealed checkpoints");
            }
        }
        Ok(())
    }
}

/// Drops audit entries that are older than so many days, or until `stop`; answers how many. That it was done is on
/// record with the first of them that goes.
///
/// # Errors
/// The store's; what is gone by then is gone, and on record.
pub async fn prune(trail: &dyn Trail, days: u32, now: Timestamp, stop: &CancellationToken) -> Result<u64, StoreError> {
    // Whole days, so that a host that looks all the time has something to drop, and to tell, once a day.
    let before = midnight(now) - DAY * days;
    let mut said = Some(entry(now, before, days));
    let mut gone = 0;
    loop {
        let step = trail.prune(Cut { before, most: STEP, at: now, audit: said.take() }).await?;
        gone += step;
        if step == 0 || stop.is_cancelled() {
            return Ok(gone);
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// The beginning of a day, UTC.
fn midnight(at: Timestamp) -> Timestamp {
    let day = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
    Timestamp(at.0.div_euclid(day) * day)
}

fn entry(now: Timestamp, before: Timestamp, days: u32) -> Entry {
    let details = serde_json::json!({ "before_ms": before.as_millis(), "keep_days": days }).to_string();
    Entry { details, ..Origin::default().entry(now, "system.audit_prune", None) }
}
