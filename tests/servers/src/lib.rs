//! Real servers for tests, benchmarks and `cargo xtask up`: each started on a folder of its own and on
//! a free port or a socket in that folder, and ended by its process id.
//!
//! Invariant: nothing here knows ViWorkS.

pub mod need;
pub mod port;
pub mod place;
pub mod postgres;
pub mod redis;
pub mod shared;
mod supervised;
pub mod docker;
pub mod registry;
pub mod manager;
