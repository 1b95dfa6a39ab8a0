//! The program as its users meet it: the real binary against a small host that speaks the API.
#![expect(clippy::unwrap_used, reason = "a test's own host and hands may fail loudly anywhere")]

mod accounts;
mod delivery;
mod ending;
mod escaping;
mod figures;
mod following;
mod help;
mod host;
mod looking;
mod program;
mod running;
mod tables;
mod shell;
mod shells;
mod terminal;
