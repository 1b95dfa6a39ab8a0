//! The bodies of `/api/v1`: what REST reads and writes, what the CLI sends and prints, what OpenAPI
//! describes. Mirrors of the domain, converted field by field at the door.
//!
//! Invariant: names here are public and only grow inside v1.

pub mod problem;
pub mod page;
pub mod words;
pub mod auth;
pub mod access;
pub mod agent;
pub mod group;
pub mod target;
pub mod verb;
pub mod command;
pub mod bulk;
pub mod delivery;
pub mod plugin;
pub mod alert;
pub mod channel;
pub mod system;
pub mod telemetry;
pub mod statistics;
pub mod audit;
