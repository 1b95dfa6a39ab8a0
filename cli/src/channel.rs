//! `viworks channel …`: where people are told of alerts.

use api::alert::AlertMatcher;
use api::channel::{Channel, ChannelMessage, ChannelPatch, NewChannel};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::Client;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, escape, moment, table};

/// What to do with channels.
#[derive(Clone, Debug, Subcommand)]
pub enum ChannelCommand {
    /// List channels
    List,
    /// Make a channel and print what its messages are signed with, this once
    Create(CreateChannel),
    /// Change a channel; what is not said stays, secrets too
    Update(UpdateChannel),
    /// Send a message of no alert, and say what came of it
    Test {
        /// Its name
        channel: String,
    },
    /// List a channel's messages, newest first
    Messages {
        /// Its name
        channel: String,
        /// Only those in this state: waiting, sent or dead
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
    },
    /// Drop a channel with its messages
    Delete {
        /// Its name
        channel: String,
    },
}

/// A channel to be made.
#[derive(Clone, Debug, Args)]
pub struct CreateChannel {
    /// Its name: lower-case letters, digits and . _ -
    name: String,
    /// Where messages go
    url: String,
    /// How they are written: webhook, signed as Standard Webhooks wants it, or slack
    #[arg(long, value_name = "KIND", default_value = "webhook")]
    kind: String,
    /// Only alerts of these rules
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    rule: Vec<String>,
    /// Only alerts of agents at these sites
    #[arg(long, value_name = "SITE", value_delimiter = ',')]
    site: Vec<String>,
    /// Only what is critical
    #[arg(long)]
    critical_only: bool,
    /// A template of the text, as Jinja, or @FILE
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// At most so many messages a minute
    #[arg(long, value_name = "NUMBER", default_value_t = 6)]
    per_minute: u32,
}

/// What is to be another way from now on.
#[derive(Clone, Debug, Args)]
pub struct UpdateChannel {
    /// Its name
    channel: String,
    /// Where messages go from now on
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Only alerts of these rules; with --site, instead of what it had
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    rule: Vec<String>,
    /// Only alerts of agents at these sites
    #[arg(long, value_name = "SITE", value_delimiter = ',')]
    site: Vec<String>,
    /// All alerts, whatever it was told before
    #[arg(long, conflicts_with_all = ["rule", "site"])]
    everything: bool,
    /// At least so bad: warning or critical
    #[arg(long, value_name = "SEVERITY")]
    at_least: Option<String>,
    /// A template of the text, as Jinja, or @FILE; empty is the plain text
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// At most so many messages a minute
    #[arg(long, value_name = "NUMBER")]
    per_minute: Option<u32>,
    /// Sign with another secret, and print it, this once
    #[arg(long)]
    new_secret: bool,
}

impl Row for Channel {
    const COLUMNS: &'static [&'static str] = &["channel", "kind", "to", "at least", "told", "id"];
    const NARROW: usize = 5;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.clone(),
            self.url.clone(),
            self.at_least.clone(),
            self.told_at.as_deref().map_or_else(|| "never".to_owned(), |told| moment::age(told, now)),
            self.id.clone(),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for ChannelMessage {
    const COLUMNS: &'static [&'static str] = &["message", "state", "made", "tries", "error", "body"];
    const NARROW: usize = 5;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.clone(),
            moment::age(&self.created_at, now),
            self.attempts.to_string(),
            self.error.clone().unwrap_or_default(),
            self.body.clone(),
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
pub async fn run(command: ChannelCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        ChannelCommand::List => {
            sink.list(&client.channels().await?, "no channels: `viworks channel create NAME URL` makes one")?;
        }
        ChannelCommand::Create(new) => {
            let channel = client.create_channel(&made(new)?).await?;
            sink.one(&channel, &channel.name, || card(&channel))?;
        }
        ChannelCommand::Update(update) => {
            let channel = client.change_channel(&update.channel, &changed(&update)?).await?;
            sink.one(&channel, &channel.name, || card(&channel))?;
        }
        ChannelCommand::Test { channel } => {
            let tried = client.test_channel(&channel).await?;
            let said = match (&tried.error, tried.status) {
                (Some(why), _) => format!("not delivered: {why}"),
                (None, Some(status)) => format!("delivered: it answered {status}"),
                (None, None) => "delivered".to_owned(),
            };
            sink.one(&tried, &channel, || escape::line(&said) + "\n")?;
            return Ok(if tried.delivered { Exit::Ok } else { Exit::Error });
        }
        ChannelCommand::Messages { channel, state } => {
            let query = state.into_iter().map(|state| ("state", state)).collect();
            sink.list(&client.channel_messages(&channel, query).await?, "no messages")?;
        }
        ChannelCommand::Delete { channel } => {
            client.delete_channel(&channel).await?;
            sink.say(&format!("deleted: nobody is told by `{channel}` any more"))?;
        }
    }
    Ok(Exit::Ok)
}

fn made(new: CreateChannel) -> Result<NewChannel, Failure> {
    let CreateChannel { name, url, kind, rule, site, critical_only, template, per_minute } = new;
    Ok(NewChannel {
        name,
        kind,
        url,
        matcher: AlertMatcher { rules: rule, sites: site, ..AlertMatcher::default() },
        at_least: if critical_only { "critical" } else { "warning" }.to_owned(),
        template: template.map(written).transpose()?,
        per_minute,
    })
}

fn changed(update: &UpdateChannel) -> Result<ChannelPatch, Failure> {
    let UpdateChannel { channel: _, url, rule, site, everything, at_least, template, per_minute, new_secret } =
        update.clone();
    let matcher = AlertMatcher { rules: rule, sites: site, ..AlertMatcher::default() };
    let matcher = (everything || matcher != AlertMatcher::default()).then_some(matcher);
    let is_said = [url.is_some(), matcher.is_some(), at_least.is_some(), template.is_some(), per_minute.is_some()];
    if !new_secret && !is_said.contains(&true) {
        return Err(Failure::new(Exit::Usage, "nothing is to be changed: say what, such as --per-minute 30"));
    }
    Ok(ChannelPatch { url, matcher, at_least, template: template.map(written).transpose()?, per_minute, new_secret })
}

/// A template as it is given, or what its file says.
fn written(text: String) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::new(Exit::Usage, format!("--template: {file}: {error}"))),
        None => Ok(text),
    }
}

fn card(channel: &Channel) -> String {
    let mut fields = vec![
        ("channel", channel.name.clone()),
        ("kind", channel.kind.clone()),
        ("to", channel.url.clone()),
        ("at least", channel.at_least.clone()),
    ];
    fields.extend(channel.secret.as_ref().map(|secret| ("secret", secret.clone())));
    table::card(&fields)
}
