//! `viworks run VERB`: check, ask, submit, follow, say how it ended.

mod again;
mod arguments;
mod delivery;
mod follow;
mod options;
mod preview;
mod scan;

use std::ffi::OsString;
use std::time::Instant;

use api::command::NewCommand;
use api::verb::{PlanRequest, Verb};
use chrono::Utc;
use clap::FromArgMatches;
use clap::error::ErrorKind;
use serde_json::Value;
use viworks_client::{Client, ClientError, new_key};

use crate::context::{Choice, DEFAULT_CONFIRM_ABOVE, Store};
use crate::exit::Exit;
use crate::failure::{Failure, describe};
use crate::output::{Format, Sink};
use crate::schema::{Flag, flags};

pub(crate) use again::Again;
pub use follow::FollowOptions;
pub(crate) use follow::{Following, follow};
pub use options::{RunOptions, base_command};

/// What was said before the word `run`.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `--context`
    pub context: Option<String>,
    /// `-o`
    pub format: Option<Format>,
}

/// Runs a verb; `words` is what follows `run` on the command line.
///
/// # Errors
/// When it was refused, declined or not followed to its end. Targets that did not succeed are no
/// error but [`Exit::TargetsFailed`].
pub async fn run(words: Vec<OsString>, said: Said, store: &Store) -> Result<Exit, Failure> {
    let words = readable(words)?;
    let base = base_command();
    let scanned = scan::scan(&base, &words)?;
    let Some(verb) = &scanned.verb else {
        return refuse_or_help(base, &words);
    };
    let choice = Choice::of_environment(scanned.value("context").or_else(|| said.context.clone()));
    let client = choice.client(store)?;
    let verb = known_verb(&client, verb).await?;
    let flags = flags(&verb.args_schema, &options::reserved(&base));
    let full = options::with_flags(base, &verb, &flags);

    let matches =
        match full.clone().try_get_matches_from(std::iter::once("run").chain(words.iter().map(String::as_str))) {
            Ok(matches) => matches,
            Err(error) => return refused(&error),
        };
    let options = RunOptions::from_arg_matches(&matches).map_err(|error| Failure::usage(error.to_string()))?;
    let sink = Sink::of_process(options.output.or(said.format).unwrap_or_default());
    let args = arguments::collect(&options, &flags, &matches, &verb)?;
    let target = options.target()?;
    let explain = |error: ClientError| explained(error, &flags);

    if options.dry_run {
        let plan = client.preview(&verb.name, &PlanRequest { args, target }).await.map_err(explain)?;
        return preview::print(&plan, &sink);
    }
    if !options.yes {
        let above = store.read()?.confirm_above.unwrap_or(DEFAULT_CONFIRM_ABOVE);
        preview::confirm(&client, &verb, &args, &target, above).await.map_err(|error| match error {
            preview::Declined::Client(error) => explain(error),
            preview::Declined::Said(failure) => failure,
        })?;
    }

    let mut command = NewCommand {
        priority: options.priority.map(|priority| priority.to_string()),
        start_within_ms: options.start_within.map(options::millis),
        run_timeout_ms: options.timeout.map(options::millis),
        ..NewCommand::new(&verb.name, args, target)
    };
    options.delivery.apply(&mut command, Utc::now())?;
    let files = options.follow.files()?;
    let key = new_key();
    let started = Instant::now();
    let accepted = client.submit(&command, &key).await.map_err(explain)?;
    preview::say_excluded(&accepted.excluded, &sink)?;
    if options.detach {
        let id = accepted.id.clone();
        sink.one(&accepted, &id, || format!("{id}\n"))?;
        return Ok(Exit::Ok);
    }
    let context = scanned.value("context").or(said.context);
    let again = again::line(&full, &words, context.as_deref(), &verb, &flags, &command.args);
    let following = Following { accepted: &accepted, started, options: &options.follow, files };
    follow(&client, following, sink, &again).await
}

/// `viworks run` as it is on a line with these words: with the flags of its verb, if `known` knows it.
pub(crate) fn completing(words: &[String], known: impl FnOnce(&str) -> Option<Verb>) -> clap::Command {
    let base = base_command();
    let named = scan::scan(&base, words).ok().and_then(|scanned| scanned.verb);
    match named.and_then(|name| known(&name)) {
        Some(verb) => {
            let flags = flags(&verb.args_schema, &options::reserved(&base));
            options::with_flags(base, &verb, &flags)
        }
        None => base,
    }
}

/// The long flags of `viworks run` itself, which verbs cannot have.
pub fn reserved_flags() -> std::collections::BTreeSet<String> {
    options::reserved(&base_command())
}

/// The verb, or which ones have a name like it.
///
/// # Errors
/// When there is no such verb, or the host refuses.
pub async fn known_verb(client: &Client, name: &str) -> Result<Verb, Failure> {
    match client.verb(name).await {
        Ok(verb) => Ok(verb),
        Err(error) if error.status() == Some(404) || error.code() == Some("unknown_verb") => {
            let known = client.verbs().await.map(|page| page.items).unwrap_or_default();
            let near = arguments::nearest(name, known.iter().map(|verb| verb.name.as_str()));
            let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
            Err(Failure::usage(format!("no verb `{name}`{hint}\n  `viworks verb list` shows what there is")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A refusal whose pointers are named by the flags that set them.
fn explained(error: ClientError, flags: &[Flag]) -> Failure {
    let ClientError::Problem { problem, retry_after } = &error else { return error.into() };
    let message = describe(problem, *retry_after, |pointer| options::flag_of(pointer, flags));
    Failure { message, ..error.into() }
}

fn readable(words: Vec<OsString>) -> Result<Vec<String>, Failure> {
    words
        .into_iter()
        .map(|word| {
            word.into_string().map_err(|word| {
                Failure::usage(format!("`{}` is not UTF-8, and JSON carries nothing else", word.to_string_lossy()))
            })
        })
        .collect()
}

/// No verb was named: the help that was asked for, or what is missing.
fn refuse_or_help(base: clap::Command, words: &[String]) -> Result<Exit, Failure> {
    match base.try_get_matches_from(std::iter::once("run").chain(words.iter().map(String::as_str))) {
        Ok(_) => Err(Failure::usage("name a verb: viworks run VERB")),
        Err(error) => refused(&error),
    }
}

/// What clap has to say: help is data, a refusal is a usage error.
fn refused(error: &clap::Error) -> Result<Exit, Failure> {
    error.print()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Exit::Ok),
        _ => Ok(Exit::Usage),
    }
}

/// The arguments as an object: what the schema's flags are laid over.
pub(crate) type Arguments = serde_json::Map<String, Value>;
