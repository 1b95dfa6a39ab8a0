//! `viworks context …`.

use api::page::Page;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;

use super::{Choice, Context, Store};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, table};

/// What to do with contexts.
#[derive(Clone, Debug, Subcommand)]
pub enum ContextCommand {
    /// List the hosts you have logged in to
    List,
    /// Make a context the current one
    Use {
        /// Its name, as `viworks context list` shows it
        name: String,
    },
    /// Forget a host; `viworks logout` first makes what it gave you worth nothing
    Delete {
        /// Its name, as `viworks context list` shows it
        name: String,
    },
    /// Show the context in use
    Show {
        /// Another one than that in use
        name: Option<String>,
    },
}

/// A context without its secrets.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    name: String,
    url: String,
    user: String,
    current: bool,
    logged_in: bool,
    expires_at: Option<String>,
}

impl Shown {
    fn new(name: &str, context: &Context, current: bool) -> Shown {
        Shown {
            name: name.to_owned(),
            url: context.url.clone(),
            user: context.user.clone(),
            current,
            logged_in: context.access_token.is_some(),
            expires_at: context.expires_at.clone(),
        }
    }
}

impl Row for Shown {
    const COLUMNS: &'static [&'static str] = &["current", "name", "url", "user", "login"];
    const NARROW: usize = 5;

    fn cells(&self, _now: DateTime<Utc>) -> Vec<String> {
        let mark = if self.current { "*" } else { " " };
        let login = if self.logged_in { "yes" } else { "logged out" };
        vec![mark.into(), self.name.clone(), self.url.clone(), self.user.clone(), login.into()]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Does it.
///
/// # Errors
/// When there is no such context or the file cannot be used.
pub fn run(command: ContextCommand, choice: &Choice, store: &Store, sink: &Sink) -> Result<Exit, Failure> {
    let contexts = store.read()?;
    let is_current = |name: &str| choice.context.as_deref().or(contexts.current.as_deref()) == Some(name);
    match command {
        ContextCommand::List => {
            let items = contexts.contexts.iter().map(|(name, context)| Shown::new(name, context, is_current(name)));
            sink.list(&Page { items: items.collect(), next_cursor: None }, "no contexts: run `viworks login URL`")?;
        }
        ContextCommand::Use { name } => {
            store.edit(|contexts| {
                let chosen = Choice { context: Some(name.clone()), ..Choice::default() };
                chosen.context(contexts)?;
                contexts.current = Some(name.clone());
                Ok::<(), Failure>(())
            })?;
            sink.say(&format!("`{name}` is the current context"))?;
        }
        ContextCommand::Delete { name } => {
            store.edit(|contexts| {
                let chosen = Choice { context: Some(name.clone()), ..Choice::default() };
                chosen.context(contexts)?;
                contexts.contexts.remove(&name);
                contexts.current.take_if(|current| *current == name);
                Ok::<(), Failure>(())
            })?;
            sink.say(&format!("`{name}` is forgotten"))?;
        }
        ContextCommand::Show { name } => {
            let choice = Choice { context: name.or_else(|| choice.context.clone()), ..choice.clone() };
            let (name, context) = choice.context(&contexts)?;
            let shown = Shown::new(name, context, is_current(name));
            sink.one(&shown, name, || {
                table::card(&[
                    ("context", name.to_owned()),
                    ("host", context.url.clone()),
                    ("user", context.user.clone()),
                    ("login", if shown.logged_in { "yes".into() } else { "logged out".into() }),
                    ("kept in", store.path().display().to_string()),
                ])
            })?;
            for (variable, set) in [("VIWORKS_URL", choice.url.is_some()), ("VIWORKS_TOKEN", choice.token.is_some())] {
                if set {
                    sink.say(&format!("{variable} is set and takes precedence"))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}
