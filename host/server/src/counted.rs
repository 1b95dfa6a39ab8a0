//! Live events on their way through the count of what waits.

use std::sync::Arc;

use domain::event::Event;
use plan::id::CommandId;
use ports::live::{Live, Subscription};
use services::backlog::Backlog;

/// Tells the count first, then whoever listens.
pub struct Counted {
    /// Who tells listeners.
    pub live: Arc<dyn Live>,
    /// The count.
    pub backlog: Arc<Backlog>,
}

impl Live for Counted {
    fn publish(&self, events: &[Arc<Event>]) {
        self.backlog.heard(events);
        self.live.publish(events);
    }

    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription> {
        self.live.subscribe(command)
    }
}
