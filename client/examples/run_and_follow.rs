//! Runs a program on every machine, shows what they write, and ends with 1 where it failed.
//!
//! ```text
//! VIWORKS_PASSWORD=… cargo run -p viworks-client --example run_and_follow -- http://127.0.0.1:8080 admin uptime
//! ```

use std::error::Error;
use std::process::ExitCode;

use serde_json::json;
use viworks_client::api::command::NewCommand;
use viworks_client::api::target::TargetBody;
use viworks_client::{Client, CommandEvent, Login, Notice, Patience, ServerUrl, Trusted, new_key};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, program, args @ ..] = words.as_slice() else {
        return Err("usage: run_and_follow URL USER PROGRAM [ARG]...".into());
    };
    let login = Login { name: name.clone(), password: std::env::var("VIWORKS_PASSWORD")? };
    let client = Client::connect(ServerUrl::parse(url)?, &Trusted::System, &login).await?;
    let status = run_and_follow(&client, program, args, |line| println!("{line}")).await?;
    Ok(if status == "succeeded" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Submits it for everybody and tells each event in a line; the status it ends with.
///
/// # Errors
/// What the host refuses, or that it is away for longer than patience lasts.
pub async fn run_and_follow(
    client: &Client,
    program: &str,
    args: &[String],
    mut tell: impl FnMut(&str),
) -> Result<String, Box<dyn Error>> {
    let everybody = TargetBody { all: true, ..TargetBody::default() };
    let command = NewCommand::new("exec.run", json!({ "program": program, "args": args }), everybody);
    // Sent again with the same key it would still be one command.
    let accepted = client.submit(&command, &new_key()).await?;
    let name = |id: &str| {
        let target = accepted.targets.iter().find(|target| target.agent == id);
        target.map_or_else(|| id.to_owned(), |target| target.agent_name.clone())
    };
    let mut events = client.follow(&accepted.id, None, Patience::default());
    while let Some(notice) = events.next().await? {
        match notice {
            Notice::Event(CommandEvent::State(state)) => tell(&format!("{} is {}", name(&state.agent), state.state)),
            Notice::Event(CommandEvent::End(end)) => return Ok(end.status),
            Notice::Event(CommandEvent::Output(_) | CommandEvent::Status(_)) => {}
            Notice::Lost { cause } => tell(&format!("the host is away: {cause}")),
            Notice::Back => tell("the host is back"),
        }
    }
    Err("the events ended before the command did".into())
}
