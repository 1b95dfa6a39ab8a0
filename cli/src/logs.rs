//! `viworks logs COMMAND`: what its agents wrote.

use std::collections::BTreeMap;

use api::command::Invocation;
use clap::Args;
use plan::outcome::Stream;
use viworks_client::Client;

use crate::beginning;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::lines::Lines;
use crate::output::{Format, Sink};
use crate::watch::{Ending, Watch, missing};

/// Whose output to show.
#[derive(Clone, Debug, Args)]
pub struct LogsOptions {
    /// Its id, or at least 6 characters of its beginning
    pub command: String,
    /// Go on until the command is over
    #[arg(short, long)]
    pub follow: bool,
    /// Only of these agents, by name or id
    #[arg(short, long = "agent", value_name = "NAME", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// Show equal outputs once, under the names of all that wrote them
    #[arg(long)]
    pub group: bool,
}

/// Shows it.
///
/// # Errors
/// What the host refuses; [`Exit::Usage`] when it does not run on an agent that was named.
pub async fn run(options: LogsOptions, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    let id = beginning::command(client, &options.command).await?;
    let command = client.command(&id).await?;
    let invocations = client.invocations(&id).await?.items;
    let chosen = chosen(&options.agents, &invocations, &id)?;
    if options.follow || options.group || command.completed_at.is_some() {
        let names: BTreeMap<String, String> =
            invocations.iter().map(|one| (one.agent.clone(), one.agent_name.clone())).collect();
        let only =
            if options.agents.is_empty() { Vec::new() } else { chosen.iter().map(|one| one.agent.clone()).collect() };
        let mut watch = Watch::new(client, &id, names, *sink).only(only).folded(options.group);
        return match watch.follow(None).await? {
            Ending::Over(end) => {
                if options.follow || options.group || matches!(sink.format, Format::Json | Format::Yaml) {
                    watch.conclude(&end, None).await?;
                }
                Ok(Exit::Ok)
            }
            Ending::Interrupted => {
                Err(Failure::new(Exit::Interrupted, format!("stopped watching; command {id} goes on by itself")))
            }
            Ending::TimedOut => Ok(Exit::NotDone),
        };
    }
    match sink.format {
        Format::Json | Format::Yaml => sink.document(&chosen)?,
        Format::Ndjson => chosen.iter().try_for_each(|one| sink.document(one))?,
        Format::Table | Format::Wide | Format::Name => kept(&id, &chosen, client, sink).await?,
    }
    sink.say(&format!("command {id} is not over yet: -f goes on showing what comes"))?;
    Ok(Exit::Ok)
}

/// The invocations on the agents that were named, or all.
fn chosen<'a>(agents: &[String], invocations: &'a [Invocation], id: &str) -> Result<Vec<&'a Invocation>, Failure> {
    if agents.is_empty() {
        return Ok(invocations.iter().collect());
    }
    agents
        .iter()
        .map(|agent| {
            invocations
                .iter()
                .find(|one| one.agent == *agent || one.agent_name == *agent)
                .ok_or_else(|| Failure::usage(format!("command {id} does not run on `{agent}`")))
        })
        .collect()
}

/// Prints what is kept so far, one agent after the other.
async fn kept(id: &str, invocations: &[&Invocation], client: &Client, sink: &Sink) -> Result<(), Failure> {
    let mut lines = Lines::new(sink.look());
    for one in invocations {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut at = 0;
            loop {
                let part = client.output(id, &one.agent, stream.as_str(), at).await?;
                let (asked, mut out) = (at, std::io::stdout().lock());
                for (offset, bytes) in part.pieces.into_iter().chain([(part.next, Vec::new())]) {
                    if offset > at {
                        lines.finish(&one.agent_name, &mut out)?;
                        sink.say(&missing(&one.agent_name, offset - at, stream))?;
                    }
                    lines.push(&one.agent_name, stream, &bytes, &mut out)?;
                    at = at.max(offset + bytes.len() as u64);
                }
                if at == asked {
                    break;
                }
            }
        }
        lines.finish(&one.agent_name, &mut std::io::stdout().lock())?;
    }
    Ok(())
}
