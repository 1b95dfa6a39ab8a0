//! What people and scripts read. Standard output is data, standard error is chatter.

pub mod colour;
pub mod count;
pub mod format;
pub mod lines;
pub mod moment;
pub mod table;
pub mod yaml;

pub use screen::escape;

pub use format::{Format, Sink};
