//! The command line of `viworks-host`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// The ViWorkS host: takes commands, owns agents' sessions, tells what happened.
#[derive(Debug, Parser)]
#[command(name = "viworks-host", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the host until SIGTERM or Ctrl-C; a second signal ends it at once.
    Serve(Serve),
    /// Look at the configuration and start nothing.
    #[command(subcommand)]
    Config(ConfigAction),
    /// Compile one plugin from standard input; the host runs this in a child it can kill.
    #[command(hide = true)]
    CompileWorker,
}

/// Flags of `serve`; they win over file and environment.
#[derive(Debug, Default, clap::Args)]
pub struct Serve {
    /// TOML file; see config/viworks-host.toml for every key.
    #[arg(long, value_name = "FILE", env = "VIWORKS_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    /// Where the API listens.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub bind: Option<SocketAddr>,
    /// Where agents connect.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub agents_bind: Option<SocketAddr>,
    /// Where keys and the embedded store are kept.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Listen on other than loopback without TLS: tokens travel in the clear.
    #[arg(long)]
    pub insecure_plaintext: bool,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Say whether it can be used.
    Check(Serve),
}

impl Serve {
    /// The configuration these flags lead to.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn configuration(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), std::env::vars(), |config| {
            config.server.bind = self.bind.unwrap_or(config.server.bind);
            config.server.agents_bind = self.agents_bind.unwrap_or(config.server.agents_bind);
            config.server.insecure_plaintext |= self.insecure_plaintext;
            if let Some(dir) = &self.data {
                config.data.dir.clone_from(dir);
            }
        })
    }
}
