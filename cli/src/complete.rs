//! Completion at the shell: words of the command line itself, and names that only the host knows.
//!
//! Invariant: it answers within a moment or not at all, and never writes a word of its own: whoever presses
//! a key wants to type, not to read why a host is away.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, ValueCompleter};
use clap_complete::env::Shells;
use viworks_client::{Client, ClientError, CommandQuery, Persistence};

use crate::context::{Choice, Store};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Sink, escape};
use crate::run;

/// Set by the script in the shell when it wants to know how a line may go on.
const VARIABLE: &str = "VIWORKS_COMPLETE";
/// The longest a key press waits for a host.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Newest commands that are offered.
const COMMANDS: usize = 50;

/// For which shell.
#[derive(Clone, Debug, Args)]
pub struct CompletionsOptions {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub shell: Shell,
}

/// A shell that can be taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash, 4.4 or later.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Prints the script that teaches a shell.
///
/// # Errors
/// When it cannot be written.
pub fn script(options: &CompletionsOptions, sink: &Sink) -> Result<Exit, Failure> {
    let name = match options.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Failure::usage(format!("`{name}` is no shell we know")))?;
    let mut text = Vec::new();
    shell.write_registration(VARIABLE, "viworks", "viworks", "viworks", &mut text)?;
    sink.print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Ok)
}

/// Answers the script, if it is the script that asks. `all` is the command line.
pub fn answer(words: impl IntoIterator<Item = OsString>, all: fn() -> Command) -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let words: Vec<OsString> = words.into_iter().collect();
    let typed: Vec<String> =
        words.iter().skip_while(|word| *word != "--").skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(|| tree(all(), &typed)).var(VARIABLE).bin("viworks").completer("viworks");
    match asked.try_complete(words, here.as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        Err(_) => Some(ExitCode::from(Exit::Error.code())),
    }
}

/// The command line with all that can be said of this line: `run` has the flags of the verb that stands there.
fn tree(all: Command, typed: &[String]) -> Command {
    let context = said_context(typed);
    let run = match typed.iter().position(|word| word == "run") {
        Some(at) => run::completing(&typed[at + 1..], |verb| {
            let (verb, client) = (verb.to_owned(), client(context.as_deref())?);
            ask(async move { client.verb(&verb).await })
        }),
        None => run::base_command(),
    };
    // The one place where a context is not called so, because every command has an option of that name.
    let contexts = |arg: clap::Arg| match arg.get_id() == "name" {
        true => arg.add(ArgValueCompleter::new(Names { kind: Kind::Context, context: None })),
        false => arg,
    };
    let tree = all.mut_subcommand("run", |_| run);
    let tree = tree.mut_subcommand("context", |noun| noun.mut_subcommands(|verb| verb.mut_args(contexts)));
    with_values(tree, context.as_deref())
}

/// The context that the line names.
fn said_context(typed: &[String]) -> Option<String> {
    let mut words = typed.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--context") {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            Some(_) | None => {}
        }
    }
    None
}

/// Every argument that takes a name offers the names there are.
fn with_values(command: Command, context: Option<&str>) -> Command {
    let offered = |arg: clap::Arg| {
        let kind = Kind::of(arg.get_id().as_str()).filter(|_| arg.get_action().takes_values());
        match kind {
            Some(kind) => arg.add(ArgValueCompleter::new(Names { kind, context: context.map(str::to_owned) })),
            None => arg,
        }
    };
    command.mut_args(offered).mut_subcommands(|inner| with_values(inner, context))
}

/// What an argument is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Agent,
    Verb,
    Command,
    Context,
    Site,
    Group,
    Plugin,
    Alert,
    Silence,
    Channel,
    Rule,
    User,
}

impl Kind {
    /// By the argument's id, which says what it means wherever it stands.
    fn of(id: &str) -> Option<Kind> {
        Some(match id {
            "agent" | "agents" => Kind::Agent,
            "verb" => Kind::Verb,
            "command" => Kind::Command,
            "context" => Kind::Context,
            "site" | "sites" => Kind::Site,
            "group" => Kind::Group,
            "plugin" => Kind::Plugin,
            "alert" => Kind::Alert,
            "silence" => Kind::Silence,
            "channel" => Kind::Channel,
            "rule" => Kind::Rule,
            "user" => Kind::User,
            _ => return None,
        })
    }
}

/// Names of one kind.
struct Names {
    kind: Kind,
    context: Option<String>,
}

impl ValueCompleter for Names {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let start = current.to_string_lossy().into_owned();
        let found = self.found().unwrap_or_default();
        let candidates = found.into_iter().filter(|(name, _)| name.starts_with(&start)).map(|(name, about)| {
            let about = (!about.is_empty()).then(|| escape::line(&about).into());
            CompletionCandidate::new(name).help(about)
        });
        candidates.collect()
    }
}

impl Names {
    /// Names and a word about each; a name that a terminal would obey is left out.
    fn found(&self) -> Option<Vec<(String, String)>> {
        let mut found = if self.kind == Kind::Context {
            let contexts = Store::of_environment().ok()?.read().ok()?.contexts;
            contexts.into_iter().map(|(name, context)| (name, context.url)).collect()
        } else {
            let (kind, client) = (self.kind, client(self.context.as_deref())?);
            ask(async move { fetch(kind, &client).await })?
        };
        found.retain(|(name, _)| *name == escape::line(name));
        Some(found)
    }
}

async fn fetch(kind: Kind, client: &Client) -> Result<Vec<(String, String)>, ClientError> {
    Ok(match kind {
        Kind::Agent => {
            let agents = client.agents(Vec::new()).await?.items;
            agents.into_iter().map(|agent| (agent.name, format!("{}, {}", agent.site, agent.status))).collect()
        }
        Kind::Site => {
            let agents = client.agents(Vec::new()).await?.items;
            let mut sites: Vec<String> = agents.into_iter().map(|agent| agent.site).collect();
            sites.sort();
            sites.dedup();
            sites.into_iter().map(|site| (site, String::new())).collect()
        }
        Kind::Verb => client.verbs().await?.items.into_iter().map(|verb| (verb.name, verb.summary)).collect(),
        Kind::Command => {
            let commands = client.commands(&CommandQuery::default(), COMMANDS).await?.items;
            commands.into_iter().map(|one| (one.id, format!("{} {}", one.verb, one.status))).collect()
        }
        Kind::Group => client.groups().await?.items.into_iter().map(|one| (one.name, String::new())).collect(),
        Kind::Plugin => client.plugins().await?.items.into_iter().map(|one| (one.name, one.state)).collect(),
        Kind::Alert => {
            let alerts = client.alerts(Vec::new()).await?.items;
            alerts.into_iter().map(|one| (one.id, format!("{}: {}", one.rule, one.message))).collect()
        }
        Kind::Silence => client.silences().await?.items.into_iter().map(|one| (one.id, one.comment)).collect(),
        Kind::Channel => client.channels().await?.items.into_iter().map(|one| (one.name, one.url)).collect(),
        Kind::Rule => client.alert_rules().await?.items.into_iter().map(|one| (one.name, one.summary)).collect(),
        Kind::User => client.users().await?.items.into_iter().map(|one| (one.name, one.role)).collect(),
        Kind::Context => Vec::new(),
    })
}

fn client(context: Option<&str>) -> Option<Client> {
    let choice = Choice::of_environment(context.map(str::to_owned));
    let client = choice.client(&Store::of_environment().ok()?).ok()?;
    Some(client.persisting(Persistence::NONE).answered_within(PATIENCE))
}

/// What is answered in time.
fn ask<T>(question: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, question).await });
    runtime.shutdown_background();
    answered.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_which_context_is_meant() {
        for (line, context) in [
            ("agent list", None),
            ("--context a agent list", Some("a")),
            ("run --context=b x", Some("b")),
            ("run --contexts x", None),
            ("agent list --context", None),
        ] {
            let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(said_context(&typed).as_deref(), context, "{line}");
        }
    }
}
