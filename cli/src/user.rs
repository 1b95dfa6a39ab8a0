//! `viworks user …`: who may do what, for admins.

use std::path::PathBuf;

use api::access::{NewGrants, UserPatch};
use api::auth::{Grant, NewUser, User};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use viworks_client::Client;

use crate::context::password;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::format::Row;
use crate::output::{Sink, moment, table};

/// How often grants are read anew, when others change them at the same time.
const ADD_TRIES: u32 = 5;

/// What to do with users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// List users
    List,
    /// Show one user
    Show {
        /// Its name or id
        user: String,
    },
    /// Make a user
    Create(CreateUser),
    /// Change a user's role or password, or end its logins
    Change(ChangeUser),
    /// Say where a user may act and with what, in place of what was said before
    Grant {
        /// Its name or id
        user: String,
        /// The grant.
        #[command(flatten)]
        grant: GrantFlags,
        /// Keep the grants it has, and add this one
        #[arg(long)]
        add: bool,
    },
    /// Delete a user: its logins end, its API keys are revoked, and what it has queued is not sent
    Delete {
        /// Its name or id
        user: String,
    },
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
    /// Where it may act and with what; ordinary when absent.
    #[command(flatten)]
    pub grant: GrantFlags,
}

/// What is changed of a user.
#[derive(Clone, Debug, Args)]
pub struct ChangeUser {
    /// Its name or id
    pub user: String,
    /// What it may do at all from now on: viewer, operator or admin
    #[arg(long, value_name = "ROLE", hide_possible_values = true)]
    pub role: Option<Role>,
    /// Read a new password from this file (- is standard input); every login ends
    #[arg(long, value_name = "FILE", conflicts_with = "new_password")]
    pub password_file: Option<PathBuf>,
    /// Ask for a new password; every login ends
    #[arg(long)]
    pub new_password: bool,
    /// End every login
    #[arg(long)]
    pub end_logins: bool,
}

/// One grant; what is not said is as for an ordinary user.
#[derive(Clone, Debug, Default, Args)]
pub struct GrantFlags {
    /// Sites to act on, * for any run of characters; all when absent
    #[arg(short, long = "site", value_name = "PATTERN", value_delimiter = ',')]
    pub sites: Vec<String>,
    /// Verbs to run, e.g. docker.*; all when absent
    #[arg(long = "verb", value_name = "PATTERN", value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// Effects to cause: read, change, destroy, host; read and change when absent
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
    /// Its name.
    pub fn as_str(self) -> &'static str {
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
        UserCommand::Show { user } => {
            let user = client.user(&user).await?;
            sink.one(&user, &user.name, || card(&user))?;
        }
        UserCommand::Change(change) => {
            let user = client.change_user(&change.user, &patch(&change)?).await?;
            sink.one(&user, &user.name, || card(&user))?;
        }
        UserCommand::Grant { user, grant, add } => {
            let grant = grant.whole();
            if add {
                added(client, &user, grant).await?;
            } else {
                client.set_grants(&user, &NewGrants { grants: vec![grant] }, None).await?;
            }
            let user = client.user(&user).await?;
            sink.one(&user, &user.name, || card(&user))?;
        }
        UserCommand::Delete { user } => {
            client.delete_user(&user).await?;
            sink.say(&format!("user `{user}` is deleted"))?;
        }
        UserCommand::Create(new) => {
            let grants = new.grant.given().map(|grant| vec![grant]);
            let password = password(new.password_file.as_deref(), &format!("password for {}: ", new.name))?;
            let user = NewUser { name: new.name, password, role: new.role.as_str().to_owned(), grants };
            let user = client.create_user(&user).await?;
            sink.one(&user, &user.name, || card(&user))?;
        }
    }
    Ok(Exit::Ok)
}

/// Adds a grant to those that were read. Where somebody else changed them in between, they are read again.
async fn added(client: &Client, user: &str, grant: Grant) -> Result<(), Failure> {
    let mut tries = 1;
    loop {
        let read = client.grants(user).await?;
        let mut grants = read.value.grants;
        if grants.contains(&grant) {
            return Ok(());
        }
        grants.push(grant.clone());
        match client.set_grants(user, &NewGrants { grants }, read.tag.as_deref()).await {
            Err(error) if error.status() == Some(412) && tries < ADD_TRIES => tries += 1,
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn patch(change: &ChangeUser) -> Result<UserPatch, Failure> {
    let ChangeUser { user, role, password_file, new_password, end_logins } = change;
    let password = match (password_file, new_password) {
        (Some(file), _) => Some(password(Some(file), "")?),
        (None, true) => Some(password(None, &format!("new password for {user}: "))?),
        (None, false) => None,
    };
    let role = role.map(|role| role.as_str().to_owned());
    if role.is_none() && password.is_none() && !end_logins {
        return Err(Failure::usage("nothing to change: give --role, --password-file, --new-password or --end-logins"));
    }
    Ok(UserPatch { role, grants: None, password, end_logins: end_logins.then_some(true) })
}

impl GrantFlags {
    /// The grant they describe.
    pub fn whole(self) -> Grant {
        let or = |given: Vec<String>, usual: &[&str]| {
            if given.is_empty() { usual.iter().map(|word| (*word).to_owned()).collect() } else { given }
        };
        let GrantFlags { sites, verbs, effects } = self;
        Grant { sites: or(sites, &["*"]), verbs: or(verbs, &["*"]), effects: or(effects, &["read", "change"]) }
    }

    /// The same, if they say anything.
    pub fn given(self) -> Option<Grant> {
        let GrantFlags { sites, verbs, effects } = &self;
        (!sites.is_empty() || !verbs.is_empty() || !effects.is_empty()).then(|| self.whole())
    }
}

/// Grants in one line.
pub fn in_words(grants: &[Grant]) -> String {
    let said = grants
        .iter()
        .map(|grant| format!("{} on {} at {}", grant.effects.join("+"), grant.verbs.join("+"), grant.sites.join("+")));
    said.collect::<Vec<_>>().join("; ")
}

/// An admin holds every grant, whatever is listed.
fn grants(user: &User) -> String {
    if user.role == Role::Admin.as_str() { "every".to_owned() } else { in_words(&user.grants) }
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
