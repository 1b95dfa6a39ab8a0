//! A verb's JSON Schema as people meet it: flags on a command line, lines on a manual page.
//!
//! Invariant: the host decides what fits a schema. Here it is only read, and what is not understood
//! can still be given as JSON.

mod flag;
mod property;
mod shape;
mod spell;

pub use flag::{Flag, flags};
pub use property::{Property, properties};
pub use shape::Shape;
pub(crate) use shape::{choices, resolve};
pub use spell::{command_line, quote};
