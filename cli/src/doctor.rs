//! `viworks doctor`: whether this program, the host and its fleet are ready, part by part, in the order in which
//! one needs the other.

mod fleet;
mod host;

use clap::Args;
use viworks_client::{Client, Persistence};

use crate::context::{Choice, Contexts, Store};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Sink};

pub use screen::report::{Check, Outcome, Report};

/// What to look at.
#[derive(Clone, Debug, Args)]
pub struct DoctorOptions {}

/// Looks at everything and says what it found.
///
/// # Errors
/// When it cannot be printed. What is broken is no error but [`Exit::Error`].
pub async fn run(_options: DoctorOptions, choice: &Choice, sink: &Sink) -> Result<Exit, Failure> {
    let report = examine(choice).await;
    match sink.format {
        Format::Table | Format::Wide => sink.print(&report.page("All in all it", sink.look().colour))?,
        Format::Json | Format::Yaml => sink.document(&report)?,
        Format::Ndjson => report.checks.iter().try_for_each(|check| sink.document(check))?,
        Format::Name => sink.print(&report.broken_names())?,
    }
    Ok(if report.is_broken() { Exit::Error } else { Exit::Ok })
}

async fn examine(choice: &Choice) -> Report {
    let mut report = Report::default();
    let Some(client) = configuration(choice, &mut report) else { return report };
    // A doctor looks once; waiting would hide what is to be seen.
    let client = client.persisting(Persistence::NONE);
    if !host::examine(&client, choice, &mut report).await {
        return report;
    }
    if host::login(&client, &mut report).await {
        fleet::plugins(&client, &mut report).await;
        fleet::agents(&client, &mut report).await;
    }
    report
}

/// Whether this program knows whom to ask.
fn configuration(choice: &Choice, report: &mut Report) -> Option<Client> {
    const SECTION: &str = "configuration";
    let store = match Store::of_environment() {
        Ok(store) => store,
        Err(failure) => {
            report.broken(SECTION, failure.message, "set VIWORKS_CONFIG to a file of yours");
            return None;
        }
    };
    let contexts = match store.read() {
        Ok(contexts) => contexts,
        Err(error) => {
            report.broken(SECTION, error.to_string(), "mend the file, or move it away and log in again");
            return None;
        }
    };
    match choice.client(&store) {
        Ok(client) => {
            report.well(SECTION, format!("{} can be read", store.path().display()));
            report.well(SECTION, chosen(choice, &contexts, &client));
            Some(client)
        }
        Err(failure) => {
            let hint = "`viworks context list` shows the hosts you know, `viworks login URL` adds one";
            report.broken(SECTION, failure.message, hint);
            None
        }
    }
}

fn chosen(choice: &Choice, contexts: &Contexts, client: &Client) -> String {
    let server = client.server();
    match (&choice.token, &choice.url, choice.context(contexts)) {
        (Some(_), _, _) => format!("the host is {server}, with the token in VIWORKS_TOKEN"),
        (None, Some(_), _) => format!("the host is {server}, from VIWORKS_URL"),
        (None, None, Ok((name, _))) => format!("the host is {server}, from context `{name}`"),
        (None, None, Err(_)) => format!("the host is {server}"),
    }
}
