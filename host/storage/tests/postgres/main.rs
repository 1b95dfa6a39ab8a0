//! The behaviours of every store, on a real PostgreSQL, and what is PostgreSQL's own.

#[path = "../behaviours/mod.rs"]
mod behaviours;
mod days;
mod hosts;
mod lab;
mod order;
mod restoring;
mod opening;
mod pruning;
mod outages;
mod reading;
mod tls;

behaviours!(lab::Database);
