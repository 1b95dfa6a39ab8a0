//! `viworks user …`: who may do what, for admins.

use std::path::PathBuf;

use api::auth::{Grant, NewUser, User};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use crate::client::Client;
use crate::context::password;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, moment, table};

/// What to do with users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// List users
    List,
    /// Make a user
    Create(CreateUser),
}

/// A user to be made.
#[derive(Clone, Debug, Args)]
pub struct CreateUser {
    /// Its name: letters, digits and . _ -
    pub name: String,
    /// What it may do at all: viewer, operator or admin
    #[arg(long, value_name = "ROLE", hide_possible_values = true)]
    pub role: Role,
    /// Read the password from this file (- is standard input); asked for when absent
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Sites it may act on, * for any run of characters; all when absent
    #[arg(short, long = "site", value_name = "PATTERN", value_delimiter = ',')]
    pub sites: Vec<String>,
    /// Verbs it may run, e.g. docker.*; all when absent
    #[arg(long = "verb", value_name = "PATTERN", value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// Effects it may cause: read, change, destroy, host; read and change when absent
    #[arg(long = "effect", value_name = "EFFECT", value_delimiter = ',')]
    pub effects: Vec<String>,
}

/// What a user may do at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Runs verbs within its grants.
    Operator,
    /// Manages.
    Admin,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl Row for User {
    const COLUMNS: &'static [&'static str] = &["user", "role", "grants", "age", "id"];
    const NARROW: usize = 4;

    fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        vec![self.name.clone(), self.role.clone(), grants(self), moment::age(&self.created_at, now), self.id.clone()]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Does it.
///
/// # Errors
/// What the host refuses.
pub async fn run(command: UserCommand, client: &Client, sink: &Sink) -> Result<Exit, Failure> {
    match command {
        UserCommand::List => sink.list(&client.users().await?, "no users")?,
        UserCommand::Create(new) => {
            let grants = own_grants(&new);
            let password = password(new.password_file.as_deref(), &format!("password for {}: ", new.name))?;
            let user = NewUser { name: new.name, password, role: new.role.as_str().to_owned(), grants };
            let user = client.create_user(&user).await?;
            sink.one(&user, &user.name, || card(&user))?;
        }
    }
    Ok(Exit::Ok)
}

/// The one grant that the flags describe; none when they say nothing.
fn own_grants(new: &CreateUser) -> Option<Vec<Grant>> {
    let CreateUser { sites, verbs, effects, .. } = new;
    if sites.is_empty() && verbs.is_empty() && effects.is_empty() {
        return None;
    }
    let or = |given: &[String], usual: &[&str]| {
        if given.is_empty() { usual.iter().map(|word| (*word).to_owned()).collect() } else { given.to_vec() }
    };
    Some(vec![Grant { sites: or(sites, &["*"]), verbs: or(verbs, &["*"]), effects: or(effects, &["read", "change"]) }])
}

fn grants(user: &User) -> String {
    let said = user
        .grants
        .iter()
        .map(|grant| format!("{} on {} at {}", grant.effects.join("+"), grant.verbs.join("+"), grant.sites.join("+")));
    said.collect::<Vec<_>>().join("; ")
}

fn card(user: &User) -> String {
    table::card(&[
        ("user", user.name.clone()),
        ("role", user.role.clone()),
        ("grants", grants(user)),
        ("id", user.id.clone()),
        ("created", user.created_at.clone()),
    ])
}
