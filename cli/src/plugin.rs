//! `viworks plugin …`: from a crate to a component that a host loads, and looking at one without a host.

mod embedded;
pub mod vendor;
pub mod new;

pub mod toolchain;
pub mod component;
pub mod explain;
pub mod check;
pub mod build;
pub mod stamp;
pub mod golden;
pub mod inspect;
pub mod run;
pub mod diff;
pub mod fuzz;
pub mod bench;
pub mod sign;
pub mod verify;
pub mod install;
pub mod dev;

use std::path::Path;

use clap::Subcommand;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};

pub use build::{Built, build};

/// What an author does with a plugin.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a project with one verb, its tests and golden cases; needs no network
    New(new::NewOptions),
    /// Give a project the SDK of this program in place of the one it has
    Sdk(new::SdkOptions),
    /// Compile a plugin, make it a component and stamp it with its manifest
    Build(build::BuildOptions),
    /// Play a project's golden cases natively and in the host's sandbox; both must agree
    Test(golden::TestOptions),
    /// Write into a component, built by other means, what it says of itself
    Stamp(stamp::StampOptions),
    /// Lead a file through the gates that a host has in front of it
    Check(check::CheckOptions),
    /// Explain why a gate refuses, by the code it names
    Explain(explain::ExplainOptions),
    /// Show what a file says of itself, without running it
    Inspect(inspect::InspectOptions),
    /// Print the plan a verb makes of arguments, without any host
    Run(run::RunOptions),
    /// Say what changed between two files, and which version that needs
    Diff(diff::DiffOptions),
    /// Ask what chance makes of schemas and samples: no trap, the same answer twice, nothing beyond the grants
    Fuzz(fuzz::FuzzOptions),
    /// Time calls here, and hold what they take everywhere against a budget
    Bench(bench::BenchOptions),
    /// Make a pair of keys to sign plugins with
    Keygen(sign::KeygenOptions),
    /// Sign a file, for hosts that ask who made it
    Sign(sign::SignOptions),
    /// Say who signed a file, and whether that counts
    Verify(verify::VerifyOptions),
    /// Build a project at every change, and put it into the folder of a running host
    Dev(dev::DevOptions),
    /// Put a file into a host's plugin folder, if all gates let it through
    Install(install::InstallOptions),
}

/// Does what an author asked for.
///
/// # Errors
/// What went wrong, with the exit code it means.
pub async fn run(command: PluginCommand, sink: &Sink) -> Result<Exit, Failure> {
    let sink = *sink;
    // Compilers and sandboxes block; whatever else runs here should not stand still for it.
    let work = tokio::task::spawn_blocking(move || match command {
        PluginCommand::New(options) => new::command(&options, &sink),
        PluginCommand::Sdk(options) => new::sdk_command(&options, &sink),
        PluginCommand::Test(options) => golden::command(&options, &sink),
        PluginCommand::Stamp(options) => stamp::command(&options, &sink),
        PluginCommand::Explain(options) => explain::command(&options, &sink),
        PluginCommand::Diff(options) => diff::command(&options, &sink),
        PluginCommand::Fuzz(options) => fuzz::command(&options, &sink),
        PluginCommand::Bench(options) => bench::command(&options, &sink),
        PluginCommand::Dev(options) => dev::command(&options, &sink),
        PluginCommand::Keygen(options) => sign::keygen(&options, &sink),
        PluginCommand::Sign(options) => sign::sign(&options, &sink),
        PluginCommand::Verify(options) => verify::command(&options, &sink),
        PluginCommand::Install(options) => install::command(&options, &sink),
        PluginCommand::Build(options) => build::command(&options, &sink),
        PluginCommand::Check(options) => check::command(&options, &sink),
        PluginCommand::Inspect(options) => inspect::command(&options, &sink),
        PluginCommand::Run(options) => run::command(&options, &sink),
    });
    work.await.unwrap_or_else(|error| Err(Failure::new(Exit::Error, format!("the work ended early: {error}"))))
}

/// The bytes of a plugin file.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        let name = escape::line(&file.display().to_string());
        Failure::usage(format!("cannot read `{name}`: {error}"))
    })
}

/// The last part of a path, as a host would see it in its plugin folder.
fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
