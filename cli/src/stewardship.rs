//! What an operator wants of a host's plugins: see one and what became of it, switch it off or on, go back, try
//! again, consent.

use api::plugin::{Plugin, PluginPassage, PluginVersion};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::age;
use crate::output::{Sink, count, escape, table};

/// What to do with a host's plugin.
#[derive(Clone, Debug, Subcommand)]
pub enum OrderCommand {
    /// Show a plugin of the host: how it stands, and its versions
    Show {
        /// Its name
        plugin: String,
    },
    /// Show what happened to a plugin of the host, newest first
    History {
        /// Its name
        plugin: String,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: usize,
    },
    /// Let a plugin of the host serve again that was disabled
    Enable {
        /// Its name
        plugin: String,
    },
    /// Switch a plugin of the host off; its queued commands are rejected
    Disable {
        /// Its name
        plugin: String,
    },
    /// Go back to the version that served before
    Rollback {
        /// Its name
        plugin: String,
    },
    /// Try a version again that was quarantined, rolled back or refused
    Retry {
        /// Its name
        plugin: String,
    },
    /// Consent to what the waiting version asks for
    Approve {
        /// Its name
        plugin: String,
    },
}

impl Row for PluginPassage {
    const COLUMNS: &'static [&'static str] = &["ago", "version", "from", "to", "why", "by", "digest", "at"];
    const NARROW: usize = 6;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            age(&self.at, now),
            self.version.clone().unwrap_or_default(),
            self.from.clone().unwrap_or_default(),
            self.to.clone(),
            self.why.clone().unwrap_or_default(),
            self.actor.clone().unwrap_or_default(),
            self.digest.clone().unwrap_or_default(),
            self.at.clone(),
        ]
    }

    fn name(&self) -> String {
        self.to.clone()
    }
}

/// Carries out what the operator wants.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: OrderCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let (plugin, order) = match command {
        OrderCommand::Show { plugin } => {
            let plugin = client.plugin(&plugin).await?;
            sink.one(&plugin, &plugin.name, || page(&plugin))?;
            return Ok(Exit::Ok);
        }
        OrderCommand::History { plugin, limit } => {
            sink.list(&client.plugin_history(&plugin, limit).await?, "nothing happened to it yet")?;
            return Ok(Exit::Ok);
        }
        OrderCommand::Enable { plugin } => (plugin, "enable"),
        OrderCommand::Disable { plugin } => (plugin, "disable"),
        OrderCommand::Rollback { plugin } => (plugin, "rollback"),
        OrderCommand::Retry { plugin } => (plugin, "retry"),
        OrderCommand::Approve { plugin } => (plugin, "approve"),
    };
    let plugin = client.order_plugin(&plugin, order).await?;
    sink.one(&plugin, &plugin.name, || page(&plugin))?;
    Ok(Exit::Ok)
}

/// A plugin for people.
fn page(plugin: &Plugin) -> String {
    let now = Utc::now();
    let mut text = format!("{} · {}", escape::line(&plugin.name), plugin.state);
    if let Some(version) = &plugin.version {
        text += &format!(" · {}", escape::line(version));
    }
    if !plugin.enabled {
        text += " · disabled by an order";
    }
    text += &format!(" · {} · {}\n", count::of(plugin.faults, "fault", "faults"), escape::line(&plugin.file));
    if !plugin.verbs.is_empty() {
        text += &format!("verbs: {}\n", escape::line(&plugin.verbs.join(", ")));
    }
    if let Some(refusal) = &plugin.refusal {
        text += &escape::line(&format!("trouble: {} (gate {}, {})", refusal.cause, refusal.gate, refusal.code));
        text += &format!("\ncure: {}\n", escape::line(&refusal.cure.replace("NAME", &plugin.name)));
    }
    let row = |version: &PluginVersion| {
        let digest: String = version.digest.chars().take(12).collect();
        let why = version.why.clone().unwrap_or_default();
        [version.version.clone(), version.state.clone(), age(&version.since, now), digest, why].to_vec()
    };
    if !plugin.versions.is_empty() {
        text += &table::grid(&["version", "state", "since", "digest", "why"], plugin.versions.iter().map(row));
    }
    text
}
