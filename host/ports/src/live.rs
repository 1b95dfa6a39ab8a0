//! Live events: what the store committed, told to whoever listens. Losing one costs latency, never
//! truth: every listener reads the event log again when told that it lagged.

use std::sync::Arc;

use async_trait::async_trait;
use domain::event::Event;
use plan::id::CommandId;

/// Tells and listens.
pub trait Live: Send + Sync {
    /// Tells all listeners, in order. Never waits: a listener that is too slow lags.
    fn publish(&self, events: &[Arc<Event>]);

    /// Listens to one command, or with `None` to everything but output.
    fn subscribe(&self, command: Option<CommandId>) -> Box<dyn Subscription>;
}

/// One listener; dropping it ends it.
#[async_trait]
pub trait Subscription: Send {
    /// The next event. Cancel safe.
    async fn next(&mut self) -> Heard;
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// Some were missed: read the event log from the last one seen.
    Lagged,
    /// There will be no more.
    Closed,
}
