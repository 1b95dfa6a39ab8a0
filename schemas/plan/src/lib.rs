//! The plan language: what one agent is to do, how it ended, who may allow it, and the signed
//! envelope it travels in. Host, agent and plugin SDK all read these types; their JSON text form is
//! their definition.
//!
//! Invariant: nothing here knows a clock, a socket, a database or a plugin.

#[cfg(not(target_family = "wasm"))]
pub mod id;
pub mod effect;
pub mod step;
pub mod outcome;
pub mod policy;
#[cfg(not(target_family = "wasm"))]
pub mod envelope;
#[cfg(not(target_family = "wasm"))]
pub mod keyring;
#[cfg(not(target_family = "wasm"))]
pub mod secret;
pub mod rule;
pub mod manifest;
pub mod packed;
#[cfg(not(target_family = "wasm"))]
pub mod golden;
