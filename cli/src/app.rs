//! The tree of commands and what each of them leads to.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use viworks_client::Client;

use crate::agent::{self, AgentCommand};
use crate::alert::{self, AlertCommand};
use crate::api_key::{self, ApiKeyCommand};
use crate::audit::{self, AuditCommand};
use crate::catalog::{self, VerbCommand};
use crate::channel::{self, ChannelCommand};
use crate::command::{self, CommandCommand};
use crate::complete::{self, CompletionsOptions};
use crate::context::{self, Choice, ContextCommand, LoginOptions, Store};
use crate::dev::{self, DevOptions};
use crate::doctor::{self, DoctorOptions};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::group::{self, GroupCommand};
use crate::health::{self, HealthOptions};
use crate::logs::{self, LogsOptions};
use crate::man::{self, ManOptions};
use crate::output::{Format, Sink};
use crate::plugin::{self, PluginCommand};
use crate::run::{self, Said};
use crate::statistics;
use crate::stewardship::{self, OrderCommand};
use crate::telemetry::{self, TelemetryCommand};
use crate::top::{self, TopOptions};
use crate::user::{self, UserCommand};

const AFTER_HELP: &str = "\
Examples:
  viworks login https://viworks.example.com
  viworks run exec.run --site eu-1 -- uptime
  viworks logs 0193f2c4 -f

Environment: VIWORKS_URL, VIWORKS_TOKEN, VIWORKS_CONTEXT, VIWORKS_CONFIG, NO_COLOR
Exit codes:  0 ok, 1 error, 2 usage or refused arguments, 3 cancelled, declined or waited too long,
             4 not logged in or forbidden, 5 did not succeed everywhere, 6 nobody matched,
             130 interrupted";

/// Run vetted commands on fleets of machines, and learn the truth about what happened
#[derive(Clone, Debug, Parser)]
#[command(name = "viworks", version, after_help = AFTER_HELP, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How to print data: table, wide, json, yaml, ndjson or name
    #[arg(short, long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// What to do
    #[command(subcommand)]
    pub noun: Noun,
}

/// What everything is about.
#[derive(Clone, Debug, Subcommand)]
pub enum Noun {
    /// Log in to a host
    Login(LoginOptions),
    /// Log out of a host
    Logout,
    /// Choose among the hosts you have logged in to
    #[command(subcommand)]
    Context(ContextCommand),
    /// See machines and let new ones in
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Give targets a name
    #[command(subcommand)]
    Group(GroupCommand),
    /// See what can be run
    #[command(subcommand)]
    Verb(VerbCommand),
    /// Run a verb on agents and follow it
    #[command(disable_help_flag = true)]
    Run {
        /// A verb, who to run it on, and its flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "VERB ...")]
        words: Vec<OsString>,
    },
    /// See and cancel what was run
    #[command(subcommand)]
    Command(CommandCommand),
    /// Show what a command's agents wrote
    Logs(LogsOptions),
    /// Build, check, see and steer plugins
    #[command(subcommand)]
    Plugin(PluginNoun),
    /// Manage users and what they may do
    #[command(subcommand)]
    User(UserCommand),
    /// See who did what, and whether that record is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Make and revoke keys with which programs come
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// See what is wrong, take it, silence it
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Say where people are told of alerts
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// See what machines say of themselves, now and in the past
    #[command(subcommand)]
    Telemetry(TelemetryCommand),
    /// Show how well agents, sites and the fleet are, and what their scores are made of
    Health(HealthOptions),
    /// Count agents and commands, and show how fast it goes
    Statistics,
    /// Show how loaded the machines are, and what runs on them
    Top(TopOptions),
    /// Look for what keeps this program, the host or its fleet from working
    Doctor(DoctorOptions),
    /// Start a host and an agent on this machine to try things out, until Ctrl-C
    Dev(DevOptions),
    /// Print what teaches a shell to complete verbs, flags and names
    Completions(CompletionsOptions),
    /// Write a manual page for each command into a folder
    Man(ManOptions),
}

/// What to do with plugins.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginNoun {
    /// List the plugins of the host
    List,
    /// What a host's operator wants of them.
    #[command(flatten)]
    Order(OrderCommand),
    /// What needs no host.
    #[command(flatten)]
    Author(PluginCommand),
}

/// The command tree, with the help of `run` as it is before a verb is named.
pub fn command_tree() -> clap::Command {
    let help = run::base_command().render_help();
    Arguments::command().mut_subcommand("run", |command| command.override_help(help))
}

/// Runs the program with these words, the first of which is its own name.
pub fn main_with(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match command_tree().try_get_matches_from(words) {
        Ok(matches) => Arguments::from_arg_matches(&matches),
        Err(error) => Err(error),
    };
    let exit = match arguments {
        Ok(arguments) => dispatch(arguments),
        // Clap knows which of its messages are help, and gives usage errors a 2.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let exit = exit.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            eprintln!("viworks: {}", failure.message);
        }
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Error, format!("cannot start: {error}")))?;
    let done = runtime.block_on(online(arguments));
    // Nothing is left to wait for but threads that read a terminal or wait for a lock.
    runtime.shutdown_background();
    done
}

async fn online(arguments: Arguments) -> Result<Exit, Failure> {
    let Arguments { context, output, noun } = arguments;
    let sink = Sink::of_process(output.unwrap_or_default());
    // Looked for where it is needed: authors need no host, and a build machine may have no home.
    let store = Store::of_environment;
    let choice = Choice::of_environment(context.clone());
    let client = || -> Result<Client, Failure> { choice.client(&store()?) };
    match noun {
        Noun::Login(options) => context::login(options, &store()?, &sink).await,
        Noun::Logout => context::logout(&choice, &store()?, &sink).await,
        Noun::Context(command) => context::run(command, &choice, &store()?, &sink),
        Noun::Agent(command) => agent::run(command, &client()?, &sink).await,
        Noun::Group(command) => group::run(command, &client()?, &sink).await,
        Noun::Verb(command) => catalog::verbs(command, &run::reserved_flags(), &client()?, &sink).await,
        Noun::Run { words } => run::run(words, Said { context, format: output }, &store()?).await,
        Noun::Command(command) => command::run(command, context.as_deref(), &store()?, &client()?, &sink).await,
        Noun::Logs(options) => logs::run(options, &client()?, &sink).await,
        Noun::Plugin(PluginNoun::List) => catalog::plugins(&client()?, &sink).await,
        Noun::Plugin(PluginNoun::Order(command)) => stewardship::run(command, &client()?, &sink).await,
        Noun::Plugin(PluginNoun::Author(command)) => plugin::run(command, &sink).await,
        Noun::User(command) => user::run(command, &client()?, &sink).await,
        Noun::Audit(command) => audit::run(command, client, &sink).await,
        Noun::Alert(command) => alert::run(command, &client()?, &sink).await,
        Noun::Channel(command) => channel::run(command, &client()?, &sink).await,
        Noun::Telemetry(command) => telemetry::run(command, &client()?, &sink).await,
        Noun::Health(options) => health::run(options, &client()?, &sink).await,
        Noun::Statistics => statistics::run(&client()?, &sink).await,
        Noun::Top(options) => top::run(options, &client()?, &sink).await,
        Noun::Doctor(options) => doctor::run(options, &choice, &sink).await,
        Noun::Dev(options) => dev::run(options, &sink).await,
        Noun::Completions(options) => complete::script(&options, &sink),
        Noun::Man(options) => man::pages(&options, command_tree(), &sink),
        Noun::ApiKey(command) => api_key::run(command, &client()?, &sink).await,
    }
}
