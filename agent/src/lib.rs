//! The agent on one machine: runs plans that are signed for it and allowed by its own policy, at most
//! once each, and remembers what it was doing.
//!
//! Reading order: time and disk, what the operator wrote, who the agent is, the processes it runs, the
//! protocol core, and the loop around it.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod document;
mod driver;
pub mod facts;
pub mod failure;
pub mod guard;
pub mod private_file;
pub mod certificate;
pub mod line;
pub mod identity;
pub mod join;
pub mod journal;
pub mod log;
pub mod machine;
pub mod policy;
pub mod verdict;
pub mod run;
pub mod doctor;
pub mod socket;
pub mod spool;
pub mod supervisor;
pub mod telemetry;
mod ways;
pub mod writer;

pub use crate::failure::RunError;
pub use crate::run::{Options, run};
