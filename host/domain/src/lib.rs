//! What is true: ids, time, states and their transitions, queue order, roles, targets.
//!
//! Invariant: pure. No clock, no chance, no I/O, no serde, no SQL. Everything that varies is an argument.

pub mod time;
pub mod priority;
pub mod attempt;
pub mod counts;
pub mod command;
pub mod output;
pub mod restore;
pub mod deadline;
pub mod agent;
pub mod nearest;
pub mod expression;
pub mod group;
pub mod target;
pub mod rollout;
pub mod retry;
pub mod terms;
pub mod verb;
pub mod plugin;
pub mod alert;
pub mod access;
pub mod event;
pub mod audit;
pub mod telemetry;
