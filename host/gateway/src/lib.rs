//! The agents' door: sockets in, plans out.
//!
//! `session` is one agent's conversation without a socket; `pump` gives it one. `connected` is where
//! the rest of the host finds the sessions there are.

pub mod collector;
pub mod slots;
pub mod signals;
pub mod waiting;
pub mod session;
pub mod alarm;
pub mod connected;
pub mod patience;
pub mod problem;
pub mod certificate;
pub mod room;
pub mod handshake;
pub mod anteroom;
pub mod readings;
pub mod reported;
pub mod pump;
pub mod join;
pub mod router;
