//! `viworks login` and `viworks logout`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::auth::Login;
use chrono::Utc;
use clap::Args;
use tls::Trusted;
use viworks_client::{Client, ClientError, FixedToken, Held, Nobody, ServerUrl, Vault};

use super::choose::server;
use super::{Choice, Context, ContextVault, Store, is_name};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Sink;
use crate::prompt;

/// How to log in.
#[derive(Clone, Debug, Args)]
pub struct LoginOptions {
    /// The host's address, e.g. `https://viworks.example.com`
    pub url: String,
    /// What to call this context; the host's name when absent
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// User name; asked for when absent
    #[arg(long, short, value_name = "USER", conflicts_with = "credential")]
    pub user: Option<String>,
    /// Read the password from this file (- is standard input); asked for when absent
    #[arg(long, value_name = "FILE", conflicts_with = "credential")]
    pub password_file: Option<PathBuf>,
    /// Read user name and password from this JSON file, {"name": …, "password": …}
    #[arg(long, value_name = "FILE")]
    pub credential: Option<PathBuf>,
    /// Come with the API key in this file (- is standard input) instead of a password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_file", "credential"])]
    pub api_key_file: Option<PathBuf>,
    /// PEM file with the authorities that may speak for the host; this machine's when absent
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    pub ca: Option<PathBuf>,
    /// The pin of the host's own TLS key, as the host logs it at start
    #[arg(long, value_name = "PIN")]
    pub pin: Option<String>,
}

/// Logs in and keeps the tokens in a context, which becomes the current one.
///
/// # Errors
/// When the host refuses or cannot be reached, or the tokens cannot be kept.
pub async fn login(options: LoginOptions, store: &Store, sink: &Sink) -> Result<Exit, Failure> {
    let url = server(&options.url)?;
    let name = options.name.clone().unwrap_or_else(|| url.authority());
    if !is_name(&name) {
        return Err(Failure::usage(format!("`{name}` is no name for a context: use letters, digits and . _ : - @")));
    }
    if url.is_exposed() {
        sink.say(&format!("warning: {url} is plain HTTP: whoever is on the way can read the password"))?;
    }
    let ca = options.ca.as_deref().map(std::path::absolute).transpose();
    let ca = ca.map_err(|error| Failure::usage(format!("--ca: {error}")))?;
    let trusted = super::trusted(options.pin.as_deref(), ca.as_deref())?;
    let (user, held) = match &options.api_key_file {
        Some(file) => with_key(&url, &trusted, file).await?,
        None => {
            let credential = credential(&options)?;
            let tokens = Client::new(url.clone(), &trusted, Arc::new(Nobody))?.login(&credential).await?;
            (credential.name, Held::from_tokens(tokens, Utc::now()))
        }
    };
    store.edit(|contexts| {
        let mut context = Context {
            url: url.to_string(),
            ca,
            pin: options.pin.clone(),
            user: user.clone(),
            access_token: None,
            refresh_token: None,
            expires_at: None,
        };
        context.hold(&held);
        contexts.contexts.insert(name.clone(), context);
        contexts.current = Some(name.clone());
        Ok::<(), Failure>(())
    })?;
    sink.say(&format!("logged in to {url} as {user}; `{name}` is the current context"))?;
    Ok(Exit::Ok)
}

/// Ends the login at the host and forgets its tokens. They are forgotten even if the host is away.
///
/// # Errors
/// When there is no such context or the file cannot be written.
pub async fn logout(choice: &Choice, store: &Store, sink: &Sink) -> Result<Exit, Failure> {
    let contexts = store.read()?;
    let (name, context) = choice.context(&contexts)?;
    let vault = ContextVault::new(store.clone(), name);
    let refresh_token = vault.read().map_err(ClientError::from)?.and_then(|held| held.refresh_token);
    let told = match (refresh_token, ServerUrl::parse(&context.url)) {
        (Some(token), Ok(url)) => Client::new(url, &context.trusted()?, Arc::new(vault))?.logout(token).await,
        _ => Ok(()),
    };
    store.edit(|contexts| {
        if let Some(context) = contexts.contexts.get_mut(name) {
            context.access_token = None;
            context.refresh_token = None;
            context.expires_at = None;
        }
        Ok::<(), Failure>(())
    })?;
    match told {
        Ok(()) | Err(ClientError::NotLoggedIn { .. }) => sink.say(&format!("logged out of {} (context `{name}`)", context.url))?,
        Err(error) => sink.say(&format!(
            "forgot the tokens of context `{name}`, but the host did not hear of it ({error}): the login ends there by itself"
        ))?,
    }
    Ok(Exit::Ok)
}

/// Whose key it is, and the key as a token that needs no renewal.
async fn with_key(url: &ServerUrl, trusted: &Trusted, file: &Path) -> Result<(String, Held), Failure> {
    let key = read_text(file)?.trim().to_owned();
    let me = Client::new(url.clone(), trusted, Arc::new(FixedToken(key.clone())))?.me().await?;
    Ok((me.name, Held { access_token: key, refresh_token: None, expires_at: None }))
}

fn credential(options: &LoginOptions) -> Result<Login, Failure> {
    if let Some(path) = &options.credential {
        let text = read_text(path)?;
        return serde_json::from_str(&text).map_err(|error| {
            // The error's own text may quote a value.
            let (line, column) = (error.line(), error.column());
            Failure::usage(format!(
                "{} is no credential (line {line}, column {column}): it must be {{\"name\": …, \"password\": …}}",
                path.display()
            ))
        });
    }
    let name = match &options.user {
        Some(user) => user.clone(),
        None => prompt::ask("user: ").map_err(|error| unasked("user name", "--user", &error))?,
    };
    Ok(Login { name, password: password(options.password_file.as_deref(), "password: ")? })
}

/// A password from a file, from standard input, or asked for.
///
/// # Errors
/// When the file cannot be read or nobody can be asked.
pub fn password(file: Option<&Path>, question: &str) -> Result<String, Failure> {
    match file {
        Some(path) => {
            let text = read_text(path)?;
            // One line end is the editor's, not the password's.
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
        // Whoever pipes into us has nobody to ask; what comes is the password.
        None if !std::io::stdin().is_terminal() => {
            let given = password(Some(Path::new("-")), question)?;
            if given.is_empty() {
                return Err(Failure::usage("no password: type it at a terminal, pipe it in, or give --password-file"));
            }
            Ok(given)
        }
        None => prompt::ask_hidden(question).map_err(|error| unasked("password", "--password-file", &error)),
    }
}

fn unasked(what: &str, flag: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::Interrupted => Failure::new(Exit::Interrupted, "interrupted"),
        _ => Failure::usage(format!("cannot ask for the {what} ({error}): give it with {flag}")),
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}
