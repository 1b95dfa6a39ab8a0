//! The repository's chores: `cargo xtask up | test | check | counts | bench | plugins | schemas`.
//!
//! Invariant: stays light. It compiles in seconds and knows the house only through its doors: the
//! binaries, the REST API and Cargo's own graph.

mod bench;
mod check;
mod counts;
mod plugins;
mod program;
mod schemas;
mod test;
mod toolchain;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build everything, start a host and an agent on this machine, and leave them ready to use
    Up(up::Options),
    /// Build everything and run every test; the last line says how many passed and failed
    Test,
    /// Run every check besides the tests: format, lints, docs, the house's own rules, licences
    Check(check::Options),
    /// Count the instructions of the hottest functions, and fail when one takes more than it did
    Counts(counts::Options),
    /// Build everything for release and measure it, beside baselines: one table of all axes
    Bench(bench::Options),
    /// Build every plugin into target/plugins
    Plugins,
    /// Bring schemas/json up to date
    Schemas(schemas::Options),
    /// Become another program, with signals let through and ending when the starter ends
    #[command(hide = true)]
    Exec(up::ExecOptions),
}

fn main() -> ExitCode {
    let outcome = match Options::parse().chore {
        Chore::Up(options) => up::run(&options),
        Chore::Test => test::run(),
        Chore::Check(options) => check::run(&options),
        Chore::Counts(options) => counts::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Plugins => plugins::run(),
        Chore::Schemas(options) => schemas::run(&options),
        Chore::Exec(options) => up::become_program(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
