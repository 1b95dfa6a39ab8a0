//! `viworks agent …`: the machines, and how new ones come in.

mod change;

use std::collections::BTreeMap;
use std::time::Duration;

use api::agent::{Agent, JoinToken, NewJoinToken};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::{Client, MadeJoinToken};

use crate::beginning;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::{age, parse_length};
use crate::output::{Sink, table};
use crate::prompt;
use crate::schema::quote;

/// What to do with agents.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentCommand {
    /// List agents
    List {
        /// Only with this status: online, degraded, offline, maintenance or pending
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
    /// Change its site, its labels, or whether it is in maintenance
    Change(change::ChangeAgent),
    /// Make, list and revoke the tokens with which machines join
    #[command(subcommand)]
    JoinToken(JoinTokenCommand),
    /// Let in an agent that waits for approval
    Approve {
        /// Its name or id
        agent: String,
    },
    /// Have an agent make another key; the old one is refused for ever then
    RotateKey {
        /// Its name or id
        agent: String,
    },
    /// Delete an agent: its key is refused for ever, its name is free, its history stays
    Delete {
        /// Its name or id
        agent: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Revoke an agent's key for ever: it has to join anew
    Revoke {
        /// Its name or id
        agent: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
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
        /// Its id, or at least 6 characters of its beginning
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
    /// Its agent waits until `viworks agent approve` lets it in
    #[arg(long)]
    pub needs_approval: bool,
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
        AgentCommand::Change(options) => {
            let agent = change::change(&options, client).await?;
            sink.one(&agent, &agent.name, || card(&agent))?;
        }
        AgentCommand::Revoke { agent, yes } => {
            if !yes {
                confirm(&agent, "nothing was revoked")?;
            }
            client.revoke_agent(&agent).await?;
            sink.say(&format!("revoked: the key of `{agent}` is worth nothing from now on"))?;
        }
        AgentCommand::Approve { agent } => {
            client.approve_agent(&agent).await?;
            sink.say(&format!("approved: `{agent}` takes commands from now on"))?;
        }
        AgentCommand::RotateKey { agent } => {
            client.rotate_agent_key(&agent).await?;
            sink.say(&format!(
                "asked: `{agent}` makes another key now, or when it connects; `viworks agent show` says when it is done"
            ))?;
        }
        AgentCommand::Delete { agent, yes } => {
            if !yes {
                confirm(&agent, "nothing was deleted")?;
            }
            client.delete_agent(&agent).await?;
            sink.say(&format!("deleted: the key of `{agent}` is worth nothing from now on, and its name is free"))?;
        }
        AgentCommand::JoinToken(JoinTokenCommand::Create(new)) => create(new, client, sink).await?,
        AgentCommand::JoinToken(JoinTokenCommand::List) => {
            sink.list(&client.join_tokens().await?, "no join tokens: `viworks agent join-token create` makes one")?;
        }
        AgentCommand::JoinToken(JoinTokenCommand::Revoke { id }) => {
            let id = beginning::join_token(client, &id).await?;
            client.revoke_join_token(&id).await?;
            sink.say(&format!("revoked: nobody joins with token {id} any more"))?;
        }
    }
    Ok(Exit::Ok)
}

/// Asks whether an agent is to go: its name has to be typed. `otherwise` is what comes of another word.
fn confirm(agent: &str, otherwise: &str) -> Result<(), Failure> {
    let question = format!("`{agent}` can never come back under its key\ntype its name to go on: ");
    let declined = |why: String| Failure::new(Exit::NotDone, format!("declined: {why}; --yes does not ask"));
    let answer = prompt::ask(&question).map_err(|error| declined(error.to_string()))?;
    if answer == agent { Ok(()) } else { Err(declined(otherwise.to_owned())) }
}

async fn create(new: NewToken, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let labels = new.labels.iter().map(|text| label(text)).collect::<Result<_, _>>()?;
    let wanted = NewJoinToken {
        site: new.site.clone(),
        labels,
        ttl_s: new.ttl.map(|ttl| ttl.as_secs()),
        needs_approval: new.needs_approval,
    };
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

/// A label as it is written on the command line.
fn label(text: &str) -> Result<(String, String), Failure> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| Failure::usage(format!("`{text}` is no label: write it as KEY=VALUE")))?;
    Ok((key.to_owned(), value.to_owned()))
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
        ("key", agent.public_key.clone()),
        ("asked for another key", optional(&agent.rotation_asked_at)),
        ("joined", agent.created_at.clone()),
        ("last seen", agent.last_seen.clone().unwrap_or_else(|| "never".to_owned())),
        ("revoked", optional(&agent.revoked_at)),
    ])
}
