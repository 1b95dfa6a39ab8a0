//! `viworks-host`.

use std::process::ExitCode;

use clap::Parser as _;
use ports::clock::Clock as _;
use server::args::{Action, Args, AuditAction, ConfigAction, KeysAction};
use server::clock::WallClock;
use server::{backup, cluster_key, lifecycle, observe, token_keys, trail};
use tikv_jemallocator::Jemalloc;

/// Gives pages back that are free, and lets many threads ask side by side; set up in `.cargo/config.toml`. Of this
/// program alone: where few threads ask, the system's is as good.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match Args::parse().action {
        Action::CompileWorker => runtime::compile_worker_main(),
        Action::Config(ConfigAction::Check(flags)) => match flags.configuration() {
            Ok(_) => {
                println!("configuration ok");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error.into()),
        },
        Action::Backup(action) => chore(backup::run(action)),
        Action::Keys(KeysAction::Rotate(place)) => chore(async move {
            let config = place.configuration()?;
            cluster_key::rotate(&config).await
        }),
        Action::Keys(KeysAction::RotateTokenKey(place)) => chore(async move {
            let config = place.configuration()?;
            token_keys::rotate(&config, WallClock.now())
        }),
        Action::Audit(AuditAction::Prune { place, keep_days }) => chore(async move {
            let config = place.configuration()?;
            trail::prune(&config, keep_days, WallClock.now()).await
        }),
        Action::Serve(flags) => {
            let started = flags.configuration().map_err(anyhow::Error::from).and_then(|config| {
                observe::start(&config.logging)?;
                let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let ended = threads.block_on(lifecycle::run(config));
                // What still runs after a stop that was cut short is not waited for.
                threads.shutdown_background();
                ended
            });
            started.unwrap_or_else(|error| fail(&error))
        }
    }
}

/// Does it and prints what came of it.
fn chore(work: impl Future<Output = anyhow::Result<String>>) -> ExitCode {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match threads.map_err(anyhow::Error::from).and_then(|threads| threads.block_on(work)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("viworks-host: {error:#}");
    ExitCode::FAILURE
}
