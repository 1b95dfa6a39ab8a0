//! What a command came to on many machines, and running it again on some of them.

use std::time::Instant;

use api::delivery::{GroupBody, ShareBody};
use clap::Args;
use viworks_client::{Client, new_key};

use crate::beginning;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape, table};
use crate::run::{Again, FollowOptions, Following, follow};
use crate::watch::{Only, label};

/// Most characters of a value or a list of agents in a table.
const CELL_CHARS: usize = 60;

/// Where to run it again.
#[derive(Clone, Debug, Args)]
pub struct RetryOptions {
    /// Its id, or at least 6 characters of its beginning
    pub command: String,
    /// failed: where it may have run and did not succeed; never-started: where it certainly never started
    #[arg(long, value_name = "WHICH", hide_possible_values = true)]
    pub only: Only,
    /// Print the new command's id and do not follow it
    #[arg(long, conflicts_with_all = ["wait", "group", "log_dir"])]
    pub detach: bool,
    /// How it is followed.
    #[command(flatten)]
    pub follow: FollowOptions,
}

/// By what to count.
#[derive(Clone, Debug, Args)]
pub struct ResultsOptions {
    /// Its id, or at least 6 characters of its beginning
    pub command: String,
    /// A JSON Pointer into the result, e.g. /os/name; the whole result when not said
    #[arg(long, value_name = "POINTER")]
    pub by: Option<String>,
    /// At most this many groups, the largest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// Submits the follow-up and follows it, as `viworks run` does.
pub(super) async fn retry(
    options: RetryOptions,
    context: Option<&str>,
    client: &Client,
    sink: &Sink,
) -> Result<Exit, Failure> {
    let id = beginning::command(client, &options.command).await?;
    let files = options.follow.files()?;
    let started = Instant::now();
    let accepted = client.retry(&id, options.only.as_str(), &new_key()).await?;
    for out in &accepted.excluded {
        sink.say(&format!("without {}: {}", escape::line(&out.agent_name), escape::line(&out.why)))?;
    }
    if options.detach {
        sink.one(&accepted, &accepted.id, || format!("{}\n", accepted.id))?;
        return Ok(Exit::Ok);
    }
    let following = Following { accepted: &accepted, started, options: &options.follow, files };
    follow(client, following, *sink, &Again::of_retry(context)).await
}

/// How many agents are where.
pub(super) async fn rollup(command: &str, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let id = beginning::command(client, command).await?;
    let rollup = client.rollup(&id).await?;
    let row = |share: &ShareBody| {
        let ShareBody { site, state, reason, count, changed_at: _ } = share;
        vec![
            site.clone(),
            label(state, reason.as_deref()).to_owned(),
            reason.clone().unwrap_or_default(),
            count.to_string(),
        ]
    };
    sink.one(&rollup, &id, || table::grid(&["site", "state", "reason", "count"], rollup.items.iter().map(row)))?;
    Ok(())
}

/// Which agents ended alike.
pub(super) async fn results(options: ResultsOptions, client: &Client, sink: &Sink) -> Result<(), Failure> {
    let id = beginning::command(client, &options.command).await?;
    let groups = client.results(&id, options.by.as_deref(), options.limit).await?;
    let row = |group: &GroupBody| {
        let GroupBody { state, value, count, agents } = group;
        let value = if value.is_null() { String::new() } else { value.to_string() };
        let more = if agents.len() < *count as usize { ", …" } else { "" };
        vec![
            count.to_string(),
            label(state, None).to_owned(),
            cut(&value),
            cut(&format!("{}{more}", agents.join(", "))),
        ]
    };
    sink.one(&groups, &id, || table::grid(&["count", "state", "value", "agents"], groups.items.iter().map(row)))?;
    if groups.items.len() == options.limit as usize {
        sink.say("there may be more groups: raise --limit, or look at one value with --by /pointer")?;
    }
    Ok(())
}

/// What fits into a row; `-o json` has all of it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(cut("grün"), "grün");
        assert_eq!(cut(&"ü".repeat(CELL_CHARS)), "ü".repeat(CELL_CHARS));
        assert_eq!(cut(&"ü".repeat(CELL_CHARS + 1)), format!("{}…", "ü".repeat(CELL_CHARS)));
    }
}
