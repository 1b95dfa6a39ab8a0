//! The behaviours of every store, on SQLite, and what is SQLite's own.

#[path = "../behaviours/mod.rs"]
mod behaviours;
mod file;
mod lab;
mod restoring;

behaviours!(lab::File);
