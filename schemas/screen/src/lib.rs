//! What a person reads on a terminal of strangers' text, the same at every program: harmless characters, and
//! the page of a doctor.
//!
//! Invariant: knows nothing of hosts and agents.

pub mod escape;
pub mod report;
