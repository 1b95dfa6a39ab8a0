//! The questions the host asks of machines: databases, plugins, clocks, other hosts. One trait a
//! file; who answers is decided in `server`.
//!
//! Invariant: no answer lives here, only questions.

pub mod error;
pub mod clock;
pub mod plugins;
pub mod plugin_life;
pub mod rules;
pub mod replies;
pub mod commands;
pub mod delivery;
pub mod agents;
pub mod hosts;
pub mod groups;
pub mod users;
pub mod api_keys;
pub mod passwords;
pub mod paces;
pub mod journal;
pub mod live;
pub mod link;
pub mod place;
pub mod latest;
pub mod seal;
pub mod restore;
pub mod telemetry;
pub mod alerts;
pub mod channels;
