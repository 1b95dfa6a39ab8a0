//! `viworks command …`: what was asked for, and what became of it.

mod cancel;
mod delivery;
mod filters;
mod show;

use api::command::Command;
use api::page::Page;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use viworks_client::{Client, CommandQuery};

use crate::beginning;
use crate::context::Store;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::moment::age;
use crate::output::{Format, Sink, count};
use crate::watch::Finished;
use filters::Filters;

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
    /// Ask a command to end, or all that a filter means; what runs is stopped, what waits never starts, on every agent
    Cancel(cancel::CancelOptions),
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
    /// Which of them.
    #[command(flatten)]
    pub filters: Filters,
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
    store: &Store,
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
            let id = beginning::command(client, &command).await?;
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
        CommandCommand::Cancel(options) => return cancel::cancel(options, store, client, sink).await,
        CommandCommand::Release { command } => {
            let id = beginning::command(client, &command).await?;
            let answer = client.release(&id).await?;
            sink.one(&answer, &id, || format!("{}\n", answer.status))?;
            let said = match answer.released {
                0 => format!("nothing of command {id} is held since a restore"),
                n => format!("released on {}; watch it with `viworks logs {id} -f`", count::of(n, "agent", "agents")),
            };
            sink.say(&said)?;
        }
    }
    Ok(Exit::Ok)
}

fn query(options: ListOptions, now: DateTime<Utc>) -> Result<CommandQuery, Failure> {
    let ListOptions { status, filters, limit: _ } = options;
    let Filters { verb, agent, site, priority, since, until } = filters.read(now)?;
    Ok(CommandQuery { status, verb, agent, site, priority, since, until })
}
