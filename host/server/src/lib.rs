//! Wires the rooms together and owns every task: configuration, keys, composition, lifecycle.
//! Binary `viworks-host`.

pub mod clock;
pub mod config;
pub mod keys;
pub mod token_keys;
pub mod cluster_key;
pub mod observe;
pub mod key_pair;
pub mod agent_authority;
pub mod certificate;
pub mod crowd;
pub mod patient;
pub mod listen;
pub mod store;
pub mod counted;
pub mod courier;
pub mod calls;
pub mod readiness;
mod doors;
mod alerts;
mod plugins;
pub mod compose;
pub mod lifecycle;
pub mod bootstrap;
pub mod backup;
pub mod alike;
pub mod trail;
pub mod args;
