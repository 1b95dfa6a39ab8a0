//! `viworks command …`: what was asked for, and what became of it.

mod delivery;
mod show;

use api::command::Command;
use api::page::Page;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::{Client, CommandQuery};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::{age, parse_length};
use crate::output::{Format, Sink};
use crate::watch::Finished;

/// Shortest beginning of an id that is taken for it.
const MIN_PREFIX: usize = 6;
/// Newest commands among which a beginning is looked for.
const PREFIX_SEARCH: usize = 500;

/// What to do with commands.
#[derive(Clone, Debug, Subcommand)]
pub enum CommandCommand {
    /// List commands, newest first
    List(ListOptions),
    /// Show a command and how it went on each agent
    Show {
        /// Its id, or at least 6 characters of its beginning
        command: String,
    },
    /// Run a command again where it failed, or where it never started
    Retry(delivery::RetryOptions),
    /// Count its agents by site, state and reason
    Rollup {
        /// Its id, or at least 6 characters of its beginning
        command: String,
    },
    /// Count the agents on which it ended alike, by result or one value in it
    Results(delivery::ResultsOptions),
    /// Ask a command to end; what runs is stopped, what waits never starts
    Cancel {
        /// Its id, or at least 6 characters of its beginning
        command: String,
    },
    /// Let go what is held since a backup was restored; an agent that ran it already runs it no second time
    Release {
        /// Its id, or at least 6 characters of its beginning
        command: String,
    },
}

/// Which commands to list.
#[derive(Clone, Debug, Args)]
pub struct ListOptions {
    /// Only with this status, e.g. running or failed; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// Only of this verb
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Only on this agent
    #[arg(short, long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only at this site
    #[arg(short, long, value_name = "SITE")]
    pub site: Option<String>,
    /// Only of this priority
    #[arg(long, value_name = "LEVEL")]
    pub priority: Option<String>,
    /// Only accepted since then: RFC 3339, or a length of time ago like 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only accepted before then: RFC 3339, or a length of time ago like 30m
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

impl Row for Command {
    const COLUMNS: &'static [&'static str] =
        &["command", "verb", "status", "agents", "age", "by", "summary", "priority", "plugin", "completed"];
    const NARROW: usize = 7;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let all: u32 = self.counts.values().sum();
        let ok = self.counts.get("succeeded").copied().unwrap_or(0);
        vec![
            self.id.clone(),
            self.verb.clone(),
            self.status.clone(),
            format!("{ok}/{all}"),
            age(&self.created_at, now),
            self.submitter.clone(),
            self.summary.clone(),
            self.priority.clone(),
            format!("{} {}", self.plugin, self.plugin_version),
            self.completed_at.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses. Targets that did not succeed when retried are no error but an [`Exit`].
pub async fn run(
    command: CommandCommand,
    context: Option<&str>,
    client: &Client,
    sink: &Sink,
) -> Result<Exit, Failure> {
    match command {
        CommandCommand::List(options) => {
            let limit = options.limit as usize;
            let page = client.commands(&query(options, Utc::now())?, limit).await?;
            sink.list(&page, "no commands")?;
            if page.next_cursor.is_some() {
                sink.say(&format!("there are more than {limit}: narrow the list, or raise --limit"))?;
            }
        }
        CommandCommand::Show { command } => {
            let id = full_id(client, &command).await?;
            let command = client.command(&id).await?;
            let Page { items: invocations, .. } = client.invocations(&id).await?;
            let finished = Finished { command, invocations };
            let tried = match sink.format {
                Format::Table | Format::Wide => show::tried(client, &finished).await?,
                Format::Json | Format::Yaml | Format::Ndjson | Format::Name => String::new(),
            };
            sink.one(&finished, &id, || show::page(&finished) + &tried)?;
        }
        CommandCommand::Retry(options) => return delivery::retry(options, context, client, sink).await,
        CommandCommand::Rollup { command } => delivery::rollup(&command, client, sink).await?,
        CommandCommand::Results(options) => delivery::results(options, client, sink).await?,
        CommandCommand::Cancel { command } => {
            let id = full_id(client, &command).await?;
            let answer = client.cancel(&id).await?;
            sink.one(&answer, &id, || format!("{}\n", answer.status))?;
            let said = match answer.requested {
                0 => format!("command {id} was over already: nothing to cancel"),
                1 => format!("asked 1 agent to end command {id}; watch it with `viworks logs {id} -f`"),
                n => format!("asked {n} agents to end command {id}; watch it with `viworks logs {id} -f`"),
            };
            sink.say(&said)?;
        }
        CommandCommand::Release { command } => {
            let id = full_id(client, &command).await?;
            let answer = client.release(&id).await?;
            sink.one(&answer, &id, || format!("{}\n", answer.status))?;
            let said = match answer.released {
                0 => format!("nothing of command {id} is held since a restore"),
                n => format!("released on {n} agents; watch it with `viworks logs {id} -f`"),
            };
            sink.say(&said)?;
        }
    }
    Ok(Exit::Ok)
}

/// The id that `text` is or begins. A whole id is taken as it is.
///
/// # Errors
/// When no recent command begins so, or several do.
pub async fn full_id(client: &Client, text: &str) -> Result<String, Failure> {
    if text.len() >= 36 || text.len() < MIN_PREFIX || !text.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Ok(text.to_owned());
    }
    let recent = client.commands(&CommandQuery::default(), PREFIX_SEARCH).await?.items;
    let wanted = text.to_ascii_lowercase();
    let matches: Vec<&Command> = recent.iter().filter(|command| command.id.starts_with(&wanted)).collect();
    match matches.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(Failure::usage(format!(
            "none of the newest {PREFIX_SEARCH} commands begins with `{text}`: give its whole id"
        ))),
        several => {
            let ids: Vec<String> =
                several.iter().take(5).map(|command| format!("\n  {} {}", command.id, command.verb)).collect();
            Err(Failure::usage(format!("{} commands begin with `{text}`:{}", several.len(), ids.concat())))
        }
    }
}

fn query(options: ListOptions, now: DateTime<Utc>) -> Result<CommandQuery, Failure> {
    let ListOptions { status, verb, agent, site, priority, since, until, limit: _ } = options;
    Ok(CommandQuery { status, verb, agent, site, priority, since: instant(since, now)?, until: instant(until, now)? })
}

/// RFC 3339 as it is; a length of time counted back from now.
fn instant(text: Option<String>, now: DateTime<Utc>) -> Result<Option<String>, Failure> {
    let Some(text) = text else { return Ok(None) };
    if DateTime::parse_from_rfc3339(&text).is_ok() {
        return Ok(Some(text));
    }
    let back =
        parse_length(&text).ok().and_then(|length| now.checked_sub_signed(chrono::TimeDelta::from_std(length).ok()?));
    match back {
        Some(then) => Ok(Some(then.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))),
        None => {
            Err(Failure::usage(format!("`{text}` is no time: write 2h for two hours ago, or 2026-01-31T12:00:00Z")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_lengths_ago() {
        let now = DateTime::parse_from_rfc3339("2026-01-02T00:00:00Z").unwrap().to_utc();
        let read = |text: &str| instant(Some(text.to_owned()), now).map_err(|failure| failure.exit);
        assert_eq!(read("2026-01-01T12:00:00+01:00"), Ok(Some("2026-01-01T12:00:00+01:00".to_owned())));
        assert_eq!(read("2h"), Ok(Some("2026-01-01T22:00:00Z".to_owned())));
        assert_eq!(read("yesterday"), Err(Exit::Usage));
        assert_eq!(read("999999999999d"), Err(Exit::Usage));
    }
}
