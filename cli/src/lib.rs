//! `viworks`, the command line: operators follow commands on a fleet, authors build plugins.
//!
//! Invariant: standard output is data and standard error is chatter, so every command can be piped.

pub mod agent;
mod alert;
pub mod api_key;
pub mod audit;
pub mod app;
mod beginning;
pub mod catalog;
mod channel;
pub mod command;
pub mod complete;
pub mod context;
pub mod dev;
pub mod doctor;
pub mod exit;
pub mod failure;
mod group;
pub mod health;
mod instant;
pub mod logs;
pub mod man;
pub mod manual;
pub mod output;
pub mod plugin;
pub mod prompt;
pub mod run;
pub mod schema;
mod signals;
pub mod statistics;
pub mod stewardship;
pub mod telemetry;
pub mod top;
pub mod user;
pub mod watch;
