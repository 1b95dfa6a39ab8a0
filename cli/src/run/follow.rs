//! Following what was accepted to its end, and the exit code that end is worth.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::command::Accepted;
use clap::Args;
use viworks_client::Client;

use super::again::Again;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Sink;
use crate::output::moment::parse_length;
use crate::watch::{Ending, LogFiles, Watch};

/// How a command is followed.
#[derive(Clone, Debug, Default, Args)]
pub struct FollowOptions {
    /// Stop following after this long and exit with 3; the command goes on
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub wait: Option<Duration>,
    /// Show output at the end, and equal outputs once, under the names of all that wrote them
    #[arg(long)]
    pub group: bool,
    /// Write each agent's output into a file of this new folder besides
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

impl FollowOptions {
    /// Takes the folder for output, so that it is refused before anything runs.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn files(&self) -> Result<Option<LogFiles>, Failure> {
        self.log_dir.as_deref().map(LogFiles::in_folder).transpose()
    }
}

/// What is followed, and how.
pub(crate) struct Following<'a> {
    /// The command, just accepted.
    pub accepted: &'a Accepted,
    /// When it was asked for.
    pub started: Instant,
    /// How.
    pub options: &'a FollowOptions,
    /// [`FollowOptions::files`]
    pub files: Option<LogFiles>,
}

/// Follows until it is over, Ctrl-C, or waiting is up; then says how to run it again.
///
/// # Errors
/// When it could not be followed to its end. Targets that did not succeed are no error.
pub(crate) async fn follow(
    client: &Client,
    following: Following<'_>,
    sink: Sink,
    again: &Again,
) -> Result<Exit, Failure> {
    let Following { accepted, started, options, files } = following;
    let id = &accepted.id;
    let names: BTreeMap<String, String> =
        accepted.targets.iter().map(|target| (target.agent.clone(), target.agent_name.clone())).collect();
    let mut watch = Watch::new(client, id, names, sink).folded(options.group).also_into(files)?;
    let wait = options.wait;
    let ending = match watch.follow(wait).await {
        Ok(ending) => ending,
        Err(mut failure) => {
            let said = [std::mem::take(&mut failure.message), goes_on(id)];
            failure.message = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
            return Err(failure);
        }
    };
    match ending {
        Ending::Interrupted => Err(Failure::new(Exit::Interrupted, format!("stopped watching\n{}", goes_on(id)))),
        Ending::TimedOut => {
            Err(Failure::new(Exit::NotDone, format!("not over yet, and --wait is up\n{}", goes_on(id))))
        }
        Ending::Over(end) => {
            let elapsed = started.elapsed();
            let missed = tokio::select! {
                missed = watch.conclude(&end, Some(elapsed)) => missed?,
                _ = tokio::signal::ctrl_c() => return Err(Failure::new(Exit::Interrupted, format!("command {id} is over: {}", end.status))),
            };
            let lines: String = again.lines(id, &missed).iter().map(|line| format!("\n  {line}")).collect();
            if !lines.is_empty() {
                sink.say(&format!("to run it again where it did not succeed:{lines}"))?;
            }
            Ok(Exit::of_command(&end.status))
        }
    }
}

/// What somebody who no longer watches can still do.
fn goes_on(id: &str) -> String {
    format!(
        "command {id} goes on by itself; watch it with `viworks logs {id} -f`, end it with `viworks command cancel {id}`"
    )
}
