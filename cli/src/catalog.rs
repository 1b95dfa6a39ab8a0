//! `viworks verb …` and what the host says about its plugins.

use std::collections::BTreeSet;

use api::plugin::{Plugin, PluginSignature};
use api::verb::Verb;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, escape};
use crate::{manual, run};

/// What to do with verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum VerbCommand {
    /// List the verbs that plugins provide
    List,
    /// Show a verb's manual page
    Show {
        /// Its name, e.g. docker.ps
        verb: String,
    },
}

impl Row for Verb {
    const COLUMNS: &'static [&'static str] = &["verb", "effect", "summary", "plugin", "version", "idempotent", "needs"];
    const NARROW: usize = 4;

    fn cells(&self, _now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.effect.clone(),
            self.summary.clone(),
            self.plugin.clone(),
            self.plugin_version.clone(),
            if self.idempotent { "yes".into() } else { "no".into() },
            self.needs.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for Plugin {
    const COLUMNS: &'static [&'static str] =
        &["plugin", "state", "version", "verbs", "trouble", "file", "faults", "signer", "digest"];
    const NARROW: usize = 5;

    fn cells(&self, _now: DateTime<Utc>) -> Vec<String> {
        let trouble = self.refusal.as_ref().map(|refusal| format!("gate {}: {}", refusal.gate, refusal.cause));
        vec![
            self.name.clone(),
            self.state.clone(),
            self.version.clone().unwrap_or_default(),
            if self.kind.as_deref() == Some("rule") { "(a rule)".into() } else { self.verbs.join(",") },
            trouble.unwrap_or_default(),
            self.file.clone(),
            self.faults.to_string(),
            self.signature.as_ref().map(signer).unwrap_or_default(),
            self.digest.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Whose signature it is, or what is wrong with it.
fn signer(signature: &PluginSignature) -> String {
    let PluginSignature { standing, key_id, signer, comment: _ } = signature;
    match (standing.as_str(), signer, key_id) {
        ("good", Some(name), _) => name.clone(),
        (standing, _, Some(id)) => format!("{standing} ({id})"),
        (standing, _, None) => standing.to_owned(),
    }
}

/// Lists or shows verbs. `reserved` are the long flags of `viworks run`.
///
/// # Errors
/// What the host refuses.
pub async fn verbs(
    command: VerbCommand,
    reserved: &BTreeSet<String>,
    client: &Client,
    sink: &Sink,
) -> Result<Exit, Failure> {
    match command {
        VerbCommand::List => {
            sink.list(&client.verbs().await?, "no verbs: no plugin is loaded; `viworks plugin list` says why")?;
        }
        VerbCommand::Show { verb } => {
            let verb = run::known_verb(client, &verb).await?;
            sink.one(&verb, &verb.name, || manual::page(&verb, reserved))?;
        }
    }
    Ok(Exit::Ok)
}

/// Lists the host's plugins, and says how to mend those it refuses.
///
/// # Errors
/// What the host refuses.
pub async fn plugins(client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let page = client.plugins().await?;
    sink.list(&page, "no plugins: put a .wasm file into the host's plugin folder")?;
    for (plugin, refusal) in page.items.iter().filter_map(|plugin| plugin.refusal.as_ref().map(|why| (plugin, why))) {
        sink.say(&escape::line(&format!("{}: {} ({}): {}", plugin.file, refusal.cause, refusal.code, refusal.cure)))?;
    }
    Ok(Exit::Ok)
}
