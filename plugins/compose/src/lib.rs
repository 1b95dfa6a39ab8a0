//! The `compose` plugin: projects up, down, listed and read, with `docker compose` (v2) and with
//! `docker-compose` 1.x, whichever the target's profile says.
//!
//! What a compose file may do to a machine is judged before it is planned; see [`rules`].

pub mod containers;
mod down;
pub mod file;
pub mod flavour;
mod logs;
mod ps;
pub mod rules;
pub mod source;
mod up;

use viworks_sdk::prelude::*;

pub use down::{Down, Gone, Images, Things};
pub use logs::{Line, Logs, Written};
pub use ps::Ps;
pub use up::{Pull, Recreate, Running, Service, Up};

plugin!(
    name = "compose",
    summary = "Compose projects: up, down, ps, logs",
    verbs: [Up, Down, Ps, Logs],
    grants: [
        allow("docker").args(["compose", "--ansi=never", "**"]).args(["ps", "--all", "**"]).args(["ps", "--no-trunc", "**"]).args(["network", "ls", "**"])
            .args(["volume", "ls", "**"]).env("*").stdin(),
        allow("docker-compose").args(["--ansi=never", "**"]).env("*").stdin(),
    ],
    effects: [Destroy, Host],
);
