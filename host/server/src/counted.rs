//! Live events on their way through the counts: of what waits, and of what happens.

use std::sync::Arc;

use domain::event::Event;
use plan::id::CommandId;
use ports::live::{Live, Subscription};
use services::backlog::Backlog;
use services::meter::Meter;

/// Tells the counts first, then whoever listens.
pub struct Counted {
    /// Who tells listeners.
    pub live: Arc<dyn Live>,
    /// How much waits.
    pub backlog: Arc<Backlog>,
    /// What happens.
    pub meter: Arc<Meter>,
}

impl Live for Counted {
    fn publish(&self, events: &[Arc<Event>]) {
        self.backlog.heard(events);
        self.meter.heard(events);
        self.live.publish(events);
    }

    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription> {
        self.live.subscribe(command)
    }
}
