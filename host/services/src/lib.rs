//! What the host does for those who ask: one use case a file. Each decides nothing that the domain
//! could decide, and asks machines only through ports.
//!
//! Invariant: no socket, no SQL, no HTTP status.

pub mod digest;
pub mod tag;
pub mod origin;
pub mod limiter;
pub mod rhythm;
pub mod audit;
pub mod refusals;
pub mod directory;
pub mod ingest;
pub mod rollups;
pub mod forget;
pub mod history;
pub mod doubt;
pub mod backlog;
pub mod meter;
pub mod replays;
pub mod groups;
pub mod submit;
pub mod follow_up;
pub mod cancel;
pub mod browse;
pub mod statistics;
pub mod explain;
pub mod enrol;
pub mod tenure;
pub mod census;
pub mod progress;
pub mod presence;
pub mod lease;
pub mod neighbours;
pub mod standing;
pub mod dispatch;
pub mod wishes;
pub mod reap;
pub mod release;
pub mod again;
pub mod rollouts;
pub mod restore;
mod grants;
pub mod accounts;
pub mod api_keys;
pub mod plugins;
pub mod chronicle;
pub mod judge;
pub mod failing;
pub mod feed;
pub mod telling;
pub mod alerting;
pub mod alerts;
pub mod backtest;
pub mod address;
pub mod webhook;
pub mod notify;
pub mod channels;
