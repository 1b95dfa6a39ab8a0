//! What the same machine does without the product: a hub that stores nothing, a store that sends
//! nothing, a route that does neither. Gates are ratios to these, taken in the same run.

pub mod hub;
pub mod hub_server;
pub mod life;
pub mod route;
