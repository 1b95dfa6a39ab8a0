//! `viworks api-key …`: keys with which programs come.

use std::time::Duration;

use api::access::{ApiKey, NewApiKey};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::Client;

use crate::beginning;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::parse_length;
use crate::output::{Sink, moment};
use crate::user::{GrantFlags, Role, in_words};

/// What to do with API keys.
#[derive(Clone, Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key of yours and print it, this once
    Create(CreateKey),
    /// List your keys; for an admin everybody's
    List,
    /// Revoke a key for ever
    Revoke {
        /// Its id, or at least 6 characters of its beginning
        id: String,
    },
}

/// A key to be made.
#[derive(Clone, Debug, Args)]
pub struct CreateKey {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// At most what you are: viewer, operator or admin; what you are when absent
    #[arg(long, value_name = "ROLE", hide_possible_values = true)]
    pub role: Option<Role>,
    /// How long it is good, e.g. 24h; 90 days when absent
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub ttl: Option<Duration>,
    /// What it may do of what you may; all of it when absent.
    #[command(flatten)]
    pub grant: GrantFlags,
}

impl Row for ApiKey {
    const COLUMNS: &'static [&'static str] = &["id", "user", "name", "role", "state", "used", "grants"];
    const NARROW: usize = 6;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.id.clone(),
            self.user_name.clone(),
            self.name.clone().unwrap_or_default(),
            self.role.clone(),
            state(self, now).to_owned(),
            self.last_used_at.as_deref().map_or_else(|| "never".to_owned(), |used| moment::age(used, now)),
            grants(self),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: ApiKeyCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        ApiKeyCommand::Create(new) => {
            let CreateKey { name, role, ttl, grant } = new;
            let wanted = NewApiKey {
                name,
                role: role.map(|role| role.as_str().to_owned()),
                grants: grant.given().map(|grant| vec![grant]),
                ttl_s: ttl.map(|ttl| ttl.as_secs()),
            };
            let made = client.create_api_key(&wanted).await?;
            sink.say(&format!(
                "key {} of {}, good until {}",
                made.about.id, made.about.user_name, made.about.expires_at
            ))?;
            sink.one(&made, &made.key, || format!("{}\n", made.key))?;
        }
        ApiKeyCommand::List => sink.list(&client.api_keys().await?, "no API keys")?,
        ApiKeyCommand::Revoke { id } => {
            let id = beginning::api_key(client, &id).await?;
            client.revoke_api_key(&id).await?;
            sink.say(&format!("API key {id} is revoked"))?;
        }
    }
    Ok(Exit::Ok)
}

fn state(key: &ApiKey, now: DateTime<Utc>) -> &'static str {
    if key.revoked_at.is_some() {
        return "revoked";
    }
    let over = key.expires_at.parse::<DateTime<Utc>>().is_ok_and(|end| end <= now);
    if over { "expired" } else { "good" }
}

fn grants(key: &ApiKey) -> String {
    key.grants.as_deref().map_or_else(|| "its owner's".to_owned(), in_words)
}
