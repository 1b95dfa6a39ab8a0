//! The behaviours of every store, on a real PostgreSQL, and what is PostgreSQL's own.

#[path = "../behaviours/mod.rs"]
mod behaviours;
mod lab;
mod restoring;

behaviours!(lab::Database);
