//! A place among a listener's connections, handed on with the request to whoever keeps the socket.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What a connection takes up; given back when the last who has it drops it.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "held for its drop alone")] Arc<dyn Any + Send + Sync>);

impl Place {
    /// Whoever has the place holds this.
    pub fn holding(what: impl Any + Send + Sync) -> Place {
        Place(Arc::new(what))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}
