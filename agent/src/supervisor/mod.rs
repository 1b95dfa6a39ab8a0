//! The small process that spawns, watches and outlives: a parent that died cannot wait for its child
//! or read its pipes, so the agent is nobody's parent.

pub mod attempt;
pub mod begin;
pub mod blot;
pub mod client;
mod door;
pub mod failure;
pub mod growth;
pub mod memory;
pub mod peer;
pub mod process;
pub mod protocol;
pub mod server;
pub mod sink;
pub mod spare;
pub mod step;
