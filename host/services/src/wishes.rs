//! Brings wishes to end an attempt to whoever can fulfil them. A cancel or a halt is recorded by the host
//! that was told; only the host that owns the agent's session knows what was sent, so it looks for such
//! records by itself. Takes no input; looking twice does no harm: a session asks its agent once.

use std::sync::Arc;
use std::time::Duration;

use ports::delivery::Delivery;
use ports::error::StoreError;
use ports::link::{Link, Settle};
use tokio_util::sync::CancellationToken;

use crate::cancel::SettleUnowned;
use crate::rhythm::Rhythm;

/// Rows read from the store at once.
const STEP: u32 = 500;
/// Between looks: this is how late a wish of another host may come.
const EVERY: Duration = Duration::from_secs(1);

/// The use case.
pub struct Wishes {
    /// Rows.
    pub delivery: Arc<dyn Delivery>,
    /// Connected agents.
    pub link: Arc<dyn Link>,
    /// Settles what no session here owns.
    pub settle: Arc<SettleUnowned>,
}

impl Wishes {
    /// Looks again and again until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut rhythm = Rhythm::new(EVERY, stop);
        while rhythm.next().await {
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "wishes to end attempts could not be looked for; trying again in a second");
            }
        }
    }

    /// Looks once and passes on what is there.
    ///
    /// # Errors
    /// The store's; what was passed on until then stays so.
    pub async fn step(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let wished = self.delivery.wished(after, STEP).await?;
            after = wished.last().map(|open| (open.key.command, open.agent));
            let whole = wished.len() == STEP as usize;
            for open in wished {
                let why = if open.cancel_requested { Settle::Cancel } else { Settle::Halt };
                if !self.link.settle(open, why) {
                    self.settle.run(open, why).await?;
                }
            }
            if !whole {
                return Ok(());
            }
        }
    }
}
