//! The frames between host and agent: JSON text over one WebSocket, each `{"type": …}`.
//! `docs/protocol.md` tells the same story in words; `schemas/json/wire/` as JSON Schema.
//!
//! Invariant: nothing here knows a socket. Frames are values; `codec` turns them into text and back.

pub mod limits;
pub mod facts;
pub mod sample;
pub mod frame;
mod tagged;
pub mod codec;
pub mod certificate;
pub mod join;
