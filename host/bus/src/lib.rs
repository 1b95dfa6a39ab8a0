//! The bus answered by machines: live events from the store to whoever listens.
//!
//! Invariant: nothing here is ever the only copy. Whatever is dropped can be read again from the store.

pub mod local;
pub mod gaps;
mod reports;
pub mod redis;
mod lots;
pub mod paces;
pub mod board;
