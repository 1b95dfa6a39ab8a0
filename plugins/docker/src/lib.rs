//! The `docker` plugin.
