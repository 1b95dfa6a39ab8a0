//! Asking commands to end: one by its id, or all that a filter means.

use api::bulk::{CancelMany, CancelledMany, CancelledOne};
use api::command::Command;
use api::page::Page;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;
use domain::command::Status;
use viworks_client::{Client, CommandQuery};

use super::filters::Filters;
use crate::beginning;
use crate::context::{DEFAULT_CONFIRM_ABOVE, Store};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, count, table};
use crate::prompt;
use crate::watch::is_over;

/// Both ways to say what is meant.
const USAGE: &str = "viworks command cancel [OPTIONS] <COMMAND>
       viworks command cancel [OPTIONS] <--all | --status, --verb, --agent, --site, --priority, --since, --until>";

/// Which commands are to end.
#[derive(Clone, Debug, Args)]
#[command(override_usage = USAGE)]
pub struct CancelOptions {
    /// Its id, or at least 6 characters of its beginning
    #[arg(required_unless_present_any = FILTERS, conflicts_with_all = FILTERS)]
    pub command: Option<String>,
    /// All that are not over
    #[arg(long, conflicts_with_all = &FILTERS[1..])]
    pub all: bool,
    /// Only with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = PossibleValuesParser::new(open()))]
    pub status: Vec<String>,
    /// Which of them.
    #[command(flatten)]
    pub filters: Filters,
    /// At most this many, the newest; with filters
    #[arg(long, value_name = "N", default_value_t = 500, conflicts_with = "command", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// List what would be asked to end, and ask nothing
    #[arg(long, conflicts_with = "command")]
    pub dry_run: bool,
    /// Do not ask, however many there are
    #[arg(short, long)]
    pub yes: bool,
}

/// The options that mean many commands.
const FILTERS: [&str; 8] = {
    let [verb, agent, site, priority, since, until] = Filters::IDS;
    ["all", "status", verb, agent, site, priority, since, until]
};

/// Statuses of commands that are not over.
fn open() -> impl Iterator<Item = &'static str> {
    Status::ALL.into_iter().filter(|status| !status.is_terminal()).map(Status::as_str)
}

/// Asks it, or all of them.
pub(super) async fn cancel(
    options: CancelOptions,
    store: &Store,
    client: &Client,
    sink: &Sink,
) -> Result<Exit, Failure> {
    match &options.command {
        Some(command) => one(command, client, sink).await,
        None => many(options, store, client, sink).await,
    }
}

async fn one(command: &str, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let id = beginning::command(client, command).await?;
    let answer = client.cancel(&id).await?;
    sink.one(&answer, &id, || format!("{}\n", answer.status))?;
    let said = match answer.requested {
        0 => format!("command {id} was over already: nothing to cancel"),
        n => {
            let agents = count::of(n, "agent", "agents");
            format!("asked {agents} to end command {id}; watch it with `viworks logs {id} -f`")
        }
    };
    sink.say(&said)?;
    Ok(Exit::Ok)
}

async fn many(options: CancelOptions, store: &Store, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let (dry_run, yes) = (options.dry_run, options.yes);
    let mut filter = filter(options, Utc::now())?;
    if dry_run || !yes {
        let meant = meant(&filter, client).await?;
        if dry_run {
            sink.list(&meant, "no command that is not over is meant")?;
            sink.say("dry run: nothing was asked to end")?;
            return Ok(Exit::Ok);
        }
        confirm(&meant.items, store.read()?.confirm_above.unwrap_or(DEFAULT_CONFIRM_ABOVE))?;
        // What is accepted after the question is not what the answer was about.
        filter.until = filter.until.or_else(|| just_after(&meant.items));
    }
    let answer = client.cancel_many(&filter).await?;
    sink.many(&answer, &answer.items, |one| &one.id, || page(&answer))?;
    sink.say(&said(&answer))?;
    Ok(Exit::Ok)
}

fn filter(options: CancelOptions, now: DateTime<Utc>) -> Result<CancelMany, Failure> {
    let CancelOptions { status, filters, limit, command: _, all: _, dry_run: _, yes: _ } = options;
    let Filters { verb, agent, site, priority, since, until } = filters.read(now)?;
    let status = if status.is_empty() { open().map(str::to_owned).collect() } else { status };
    Ok(CancelMany {
        status: Some(status),
        verb,
        agent,
        priority,
        site: site.map(|site| vec![site]),
        since,
        until,
        limit: Some(limit),
    })
}

/// The commands that the filter means now.
async fn meant(filter: &CancelMany, client: &Client) -> Result<Page<Command>, Failure> {
    let CancelMany { status, verb, agent, priority, site, since, until, limit } = filter.clone();
    let query = CommandQuery {
        status: status.unwrap_or_default(),
        verb,
        agent,
        site: site.map(|sites| sites.join(",")),
        priority,
        since,
        until,
    };
    Ok(client.commands(&query, limit.unwrap_or(500) as usize).await?)
}

/// Asks where more than `above` commands, or runs of them on agents, would end.
fn confirm(meant: &[Command], above: u64) -> Result<(), Failure> {
    let runs = |command: &Command| -> u64 {
        command.counts.iter().filter(|(state, _)| !is_over(state)).map(|(_, count)| u64::from(*count)).sum()
    };
    let (commands, runs) = (meant.len() as u64, meant.iter().map(runs).sum::<u64>());
    if commands.max(runs) <= above {
        return Ok(());
    }
    let (of, runs) = (count::of(commands, "command", "commands"), count::of(runs, "run on an agent", "runs on agents"));
    let question = format!("{of} would end, {runs}\ntype {commands} to go on: ");
    let declined = |why: String| Failure::new(Exit::NotDone, format!("declined: {why}; --yes does not ask"));
    let answer = prompt::ask(&question).map_err(|error| declined(format!("{of} would end, and {error}")))?;
    if answer == commands.to_string() { Ok(()) } else { Err(declined("nothing was asked to end".to_owned())) }
}

/// The first moment after all of them were accepted, as the host's clock has it.
fn just_after(meant: &[Command]) -> Option<String> {
    let accepted = meant.iter().filter_map(|one| DateTime::parse_from_rfc3339(&one.created_at).ok());
    let newest = accepted.max()?.to_utc();
    Some((newest + TimeDelta::microseconds(1)).to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn page(answer: &CancelledMany) -> String {
    let row = |one: &CancelledOne| vec![one.id.clone(), one.status.clone(), one.requested.to_string()];
    match answer.items.as_slice() {
        [] => String::new(),
        items => table::grid(&["command", "status", "agents asked"], items.iter().map(row)),
    }
}

fn said(answer: &CancelledMany) -> String {
    let CancelledMany { commands, requested, items: _, more } = answer;
    let said = match commands {
        0 => return "no command that is not over is meant: nothing to cancel".to_owned(),
        commands => {
            let (runs, of) = (count::of(*requested, "run", "runs"), count::of(*commands, "command", "commands"));
            format!("asked {runs} of {of} to end")
        }
    };
    if *more { format!("{said}; there are more: say it again when these are over") } else { said }
}
