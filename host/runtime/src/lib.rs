//! Verbs and rules answered by WebAssembly components: the sandbox they run in, the nine gates they pass to get
//! in, and the folder they are loaded from while the host runs.
//!
//! Invariant: nothing here knows a database, a socket or an agent; a guest sees nothing but its arguments.

// The sandbox: where guests run, what they see, how they end.
mod tier;

mod engine;
mod ticker;

mod guest;
mod world;

mod fault;

mod abi;

mod pool;

// The gates: what a file passes before it may serve.
pub mod minisign;
mod trust;
mod refusal;
mod signature;
pub mod schema;

mod compile;
mod build;
mod execute;
mod evaluate;
mod gates;

// What serves: verbs and rules, the picture of all of them, and the folder it follows.
mod memo;
mod verbs;
mod rules;

mod registry;
mod published;

mod claims;
mod judge;
mod assembly;

mod folder;
mod settle;
mod watch;

mod kept;
mod loader;
mod handle;
pub mod service;
pub mod tool;

pub use compile::{CacheError, CacheOptions, Compile, compile_worker_main};
pub use engine::{Allocation, EngineError};
pub use gates::operator::DefaultGrants;
pub use handle::{Handle, NotRunning};
pub use published::Transition;
pub use refusal::Code;
pub use service::{BuildError, Options, Service};
pub use signature::Signatures;
pub use tier::Tier;
pub use trust::{Trust, TrustError, TrustedKey};
