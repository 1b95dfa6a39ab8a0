//! Following what was accepted to its end, and the exit code that end is worth.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::command::Accepted;
use viworks_client::Client;

use super::again::Again;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Sink;
use crate::watch::{Ending, Watch};

/// Follows `accepted` until it is over, Ctrl-C, or `wait` is up; then says how to run it again.
///
/// # Errors
/// When it could not be followed to its end. Targets that did not succeed are no error.
pub(crate) async fn follow(
    client: &Client,
    accepted: &Accepted,
    started: Instant,
    wait: Option<Duration>,
    sink: Sink,
    again: &Again,
) -> Result<Exit, Failure> {
    let id = &accepted.id;
    let names: BTreeMap<String, String> =
        accepted.targets.iter().map(|target| (target.agent.clone(), target.agent_name.clone())).collect();
    let mut watch = Watch::new(client, id, names, sink);
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
        Ending::TimedOut => Err(Failure::new(Exit::NotDone, format!("not over yet, and waiting is\n{}", goes_on(id)))),
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
