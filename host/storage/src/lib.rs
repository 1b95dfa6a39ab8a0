//! The store: commands, agents, users and what happened, answered by databases. What both databases
//! need is here and pure; each has its own folder.
//!
//! Every hot write is batched naturally: while one commit is on its way to the disk the next batch
//! gathers, and an idle store commits a lone write at once.
//!
//! Invariant: nobody is told of a write before the commit that holds it is on disk.

mod again;
mod alarms;
mod coverage;
mod fence;
mod fold;
mod intake;
mod job;
pub mod packed;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod page;
pub mod postgres;
mod rollup;
pub mod sqlite;
mod staged;
mod tally;
mod terms;
mod text;
mod tiers;
mod trail;
mod versions;
