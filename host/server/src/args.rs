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
    /// Make, check and restore backups
    #[command(subcommand)]
    Backup(BackupAction),
    /// Change the keys in the data directory
    #[command(subcommand)]
    Keys(KeysAction),
    /// Look after the audit log in the store
    #[command(subcommand)]
    Audit(AuditAction),
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

/// Where a host's configuration and data are.
#[derive(Debug, Default, clap::Args)]
pub struct Place {
    /// TOML file, as the host has it.
    #[arg(long, value_name = "FILE", env = "VIWORKS_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    /// Where keys and the embedded store are kept.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Sign access tokens with a fresh key, also while the host runs; nobody is logged out.
    RotateTokenKey(Place),
    /// Give the cluster a new signing key that the present one signs. Restart the host then: agents follow at
    /// their next session, and what was signed before stays good until its own time is over.
    Rotate(Place),
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditAction {
    /// Drop old entries and leave a sealed checkpoint; an embedded store's host must not run. Export them first.
    Prune {
        /// Whose.
        #[command(flatten)]
        place: Place,
        /// Entries of so many days stay.
        #[arg(long, value_name = "DAYS")]
        keep_days: u32,
    },
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupAction {
    /// Make a backup of the embedded store and the keys, also while the host runs; prints where it is.
    Create {
        /// Whose.
        #[command(flatten)]
        place: Place,
        /// The folder in which `backup-TIME` is made.
        #[arg(value_name = "FOLDER")]
        into: PathBuf,
    },
    /// Check a backup, every byte of it, and say what is in it.
    Verify {
        /// The backup.
        #[arg(value_name = "BACKUP")]
        path: PathBuf,
    },
    /// Put a backup in place while no host runs; what was not over in it is held until somebody releases it.
    Restore {
        /// Where to.
        #[command(flatten)]
        place: Place,
        /// The backup.
        #[arg(value_name = "BACKUP")]
        path: PathBuf,
        /// Set aside the store and the keys that are there.
        #[arg(long)]
        replace: bool,
        /// The cluster's new epoch, above all that its agents have seen; by itself it is the time in
        /// milliseconds.
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
    },
    /// Take over a store that was put back by other means, as pg_restore, before a host starts on it.
    Adopt {
        /// Whose.
        #[command(flatten)]
        place: Place,
        /// As for `restore`.
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
    },
}

impl Place {
    /// The configuration these flags lead to.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn configuration(&self) -> Result<Config, ConfigError> {
        Serve { config: self.config.clone(), data: self.data.clone(), ..Serve::default() }.configuration()
    }
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
