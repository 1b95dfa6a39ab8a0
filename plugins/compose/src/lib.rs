//! The `compose` plugin.
