//! `viworks agent …`: the machines, and how new ones come in.

use std::collections::BTreeMap;
use std::time::Duration;

use api::agent::{Agent, JoinToken, NewJoinToken};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::{Client, MadeJoinToken};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::{age, parse_length};
use crate::output::{Sink, table};
use crate::schema::quote;

/// What to do with agents.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentCommand {
    /// List agents
    List {
        /// Only with this status: online, degraded, offline or maintenance
        #[arg(long, value_name = "STATUS", value_delimiter = ',')]
        status: Vec<String>,
        /// Only at this site
        #[arg(short, long, value_name = "SITE")]
        site: Option<String>,
        /// Only those whose name contains this
        #[arg(short, long, value_name = "TEXT")]
        query: Option<String>,
    },
    /// Show one agent
    Show {
        /// Its name or id
        agent: String,
    },
    /// Make, list and revoke the tokens with which machines join
    #[command(subcommand)]
    JoinToken(JoinTokenCommand),
    /// Revoke an agent's key for ever: it has to join anew
    Revoke {
        /// Its name or id
        agent: String,
    },
}

/// What to do with join tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum JoinTokenCommand {
    /// Make a token and print the one line to paste on the machine
    Create(NewToken),
    /// List tokens
    List,
    /// Revoke a token that was not used yet
    Revoke {
        /// Its id
        id: String,
    },
}

/// A token to be made.
#[derive(Clone, Debug, Args)]
pub struct NewToken {
    /// The site its agent will belong to
    #[arg(short, long, value_name = "SITE")]
    pub site: Option<String>,
    /// A label its agent will have; may be repeated
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// How long it may be used, e.g. 15m; an hour when absent
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub ttl: Option<Duration>,
    /// The name the machine will ask for; its host name when absent
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where agents reach the host; this host's name and port 9090 when neither you nor the host says
    #[arg(long, value_name = "URL")]
    pub agents_url: Option<String>,
}

impl Row for Agent {
    const COLUMNS: &'static [&'static str] =
        &["name", "site", "status", "os", "engine", "seen", "labels", "capabilities", "version", "id"];
    const NARROW: usize = 7;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.site.clone(),
            status(self).to_owned(),
            format!("{}/{}", self.os, self.arch),
            self.container_engine.clone().unwrap_or_default(),
            self.last_seen.as_deref().map_or_else(|| "never".to_owned(), |seen| age(seen, now)),
            labels(&self.labels),
            self.capabilities.join(","),
            self.version.clone(),
            self.id.clone(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for JoinToken {
    const COLUMNS: &'static [&'static str] = &["id", "site", "state", "created", "by", "labels"];
    const NARROW: usize = 5;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let over = DateTime::parse_from_rfc3339(&self.expires_at).is_ok_and(|end| end <= now);
        let state = match (&self.revoked_at, &self.used_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(used)) => format!("used {} ago", age(used, now)),
            (None, None) if over => "expired".to_owned(),
            (None, None) => format!("good until {}", self.expires_at),
        };
        let created = age(&self.created_at, now);
        vec![self.id.clone(), self.site.clone(), state, created, self.created_by.clone(), labels(&self.labels)]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: AgentCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        AgentCommand::List { status, site, query } => {
            let mut pairs: Vec<(&str, String)> = Vec::new();
            if !status.is_empty() {
                pairs.push(("status", status.join(",")));
            }
            pairs.extend(site.map(|site| ("site", site)));
            pairs.extend(query.map(|text| ("q", text)));
            sink.list(&client.agents(pairs).await?, "no agents: `viworks agent join-token create` adds one")?;
        }
        AgentCommand::Show { agent } => {
            let agent = client.agent(&agent).await?;
            sink.one(&agent, &agent.name, || card(&agent))?;
        }
        AgentCommand::Revoke { agent } => {
            client.revoke_agent(&agent).await?;
            sink.say(&format!("revoked: the key of `{agent}` is worth nothing from now on"))?;
        }
        AgentCommand::JoinToken(JoinTokenCommand::Create(new)) => create(new, client, sink).await?,
        AgentCommand::JoinToken(JoinTokenCommand::List) => {
            sink.list(&client.join_tokens().await?, "no join tokens: `viworks agent join-token create` makes one")?;
        }
        AgentCommand::JoinToken(JoinTokenCommand::Revoke { id }) => {
            client.revoke_join_token(&id).await?;
            sink.say(&format!("revoked: nobody joins with token {id} any more"))?;
        }
    }
    Ok(Exit::Ok)
}

async fn create(new: NewToken, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let mut labels = BTreeMap::new();
    for label in &new.labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`{label}` is no label: write it as KEY=VALUE")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let wanted = NewJoinToken { site: new.site.clone(), labels, ttl_s: new.ttl.map(|ttl| ttl.as_secs()) };
    let made = client.create_join_token(&wanted).await?;
    let address = new.agents_url.clone().or_else(|| made.agents_url.clone());
    let guessed = address.is_none();
    let address = address.unwrap_or_else(|| format!("http://{}:9090", client.server().host()));
    let line = join_line(&made, &address, new.name.as_deref());
    sink.one(&made, &made.token.id, || line + "\n")?;
    sink.say(&format!(
        "paste this on the machine; the token is shown only now, works once, and until {}",
        made.token.expires_at
    ))?;
    if guessed {
        sink.say(&format!("{address} is a guess: name the agents' address with --agents-url if it is another"))?;
    }
    Ok(())
}

/// The one line that enrols a machine.
fn join_line(made: &MadeJoinToken, address: &str, name: Option<&str>) -> String {
    // The machine knows its own name better than we do.
    let name = name.map_or_else(|| "\"$(hostname)\"".to_owned(), quote);
    let token = made.token.token.as_deref().unwrap_or_default();
    format!("viworks-agent join {} --token {} --name {name}", quote(address), quote(token))
}

fn status(agent: &Agent) -> &str {
    if agent.revoked_at.is_some() { "revoked" } else { &agent.status }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn card(agent: &Agent) -> String {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    table::card(&[
        ("name", agent.name.clone()),
        ("id", agent.id.clone()),
        ("site", agent.site.clone()),
        ("status", status(agent).to_owned()),
        ("maintenance", if agent.maintenance { "yes".into() } else { "no".into() }),
        ("labels", labels(&agent.labels)),
        ("capabilities", agent.capabilities.join(", ")),
        ("host name", agent.hostname.clone()),
        ("system", format!("{} {} {}", agent.os, agent.kernel, agent.arch)),
        ("container engine", optional(&agent.container_engine)),
        ("compose", optional(&agent.compose)),
        ("agent version", agent.version.clone()),
        ("joined", agent.created_at.clone()),
        ("last seen", agent.last_seen.clone().unwrap_or_else(|| "never".to_owned())),
        ("revoked", optional(&agent.revoked_at)),
    ])
}
