//! What end-to-end tests are made of: a real host, real agents, a client, and an agent played by the
//! test itself. Everything runs from the binaries beside the test program, on loopback, in temporary
//! folders.
//!
//! Invariant: nothing waits on time. Every wait looks at a level and has a ceiling.

pub mod wait;
pub mod page;
pub mod programs;
pub mod python;
pub mod process;
pub mod client;
pub mod events;
pub mod receiver;
pub mod store;
pub mod host;
pub mod machine;
pub mod compiled;
pub mod dock;
pub mod cli;
pub mod gate;
pub mod played;
pub mod oracle;
pub mod load;
pub mod proxy;
pub mod balancer;
pub mod namespaces;
pub mod control_group;
pub mod cluster;
pub mod strace;
