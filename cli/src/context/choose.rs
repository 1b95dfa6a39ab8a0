//! Which host is meant, and with whose tokens.
//!
//! Invariant: a stored token goes to the address it was given by, and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;

use viworks_client::{Client, FixedToken, ServerUrl, Vault};

use super::store::Store;
use super::{Context, ContextVault, Contexts};
use crate::exit::Exit;
use crate::failure::Failure;

/// What the command line and the environment say about it.
#[derive(Clone, Default)]
pub struct Choice {
    /// `--context` or `VIWORKS_CONTEXT`.
    pub context: Option<String>,
    /// `VIWORKS_URL`.
    pub url: Option<String>,
    /// `VIWORKS_TOKEN`.
    pub token: Option<String>,
    /// `VIWORKS_CA`: with a token, the file of authorities.
    pub ca: Option<PathBuf>,
    /// `VIWORKS_PIN`: with a token, the pin of the host's key.
    pub pin: Option<String>,
}

impl Choice {
    /// Adds what the environment says to a context named on the command line.
    pub fn of_environment(context: Option<String>) -> Choice {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Choice {
            context: context.or_else(|| set("VIWORKS_CONTEXT")),
            url: set("VIWORKS_URL"),
            token: set("VIWORKS_TOKEN"),
            ca: set("VIWORKS_CA").map(PathBuf::from),
            pin: set("VIWORKS_PIN"),
        }
    }

    /// A client of the host that is meant.
    ///
    /// # Errors
    /// When nobody is logged in there, or what was said contradicts itself.
    pub fn client(&self, store: &Store) -> Result<Client, Failure> {
        let contexts = store.read()?;
        let url = self.url.as_deref().map(server).transpose()?;
        let vault: Arc<dyn Vault>;
        let (server_url, trusted);
        let said = || super::trusted(self.pin.as_deref(), self.ca.as_deref());
        if let Some(token) = &self.token {
            (server_url, trusted) = match url {
                Some(url) => (url, said()?),
                None => {
                    let (_, context) = self.context(&contexts)?;
                    (server(&context.url)?, context.trusted()?)
                }
            };
            vault = Arc::new(FixedToken(token.clone()));
        } else {
            let (name, context) = match &url {
                Some(url) => self.context_at(&contexts, url)?,
                None => self.context(&contexts)?,
            };
            (server_url, trusted) = (server(&context.url)?, context.trusted()?);
            vault = Arc::new(ContextVault::new(store.clone(), name));
        }
        Ok(Client::new(server_url, &trusted, vault)?)
    }

    /// The context that is meant, by name or because it is the current one.
    ///
    /// # Errors
    /// When there is none.
    pub fn context<'a>(&self, contexts: &'a Contexts) -> Result<(&'a str, &'a Context), Failure> {
        let Some(name) = self.context.as_ref().or(contexts.current.as_ref()) else {
            return Err(Failure::new(Exit::NotAllowed, "not logged in: run `viworks login URL`"));
        };
        contexts.contexts.get_key_value(name).map(|(name, context)| (name.as_str(), context)).ok_or_else(|| {
            let known: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
            let known =
                if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
            Failure::usage(format!("no context `{name}`: {known}"))
        })
    }

    /// The context whose login is at `url`.
    fn context_at<'a>(&self, contexts: &'a Contexts, url: &ServerUrl) -> Result<(&'a str, &'a Context), Failure> {
        let is_there = |context: &Context| ServerUrl::parse(&context.url).is_ok_and(|known| known == *url);
        if self.context.is_some() {
            let (name, context) = self.context(contexts)?;
            if !is_there(context) {
                let at = &context.url;
                return Err(Failure::usage(format!(
                    "VIWORKS_URL is {url}, but context `{name}` is at {at}: unset one of them"
                )));
            }
            return Ok((name, context));
        }
        let current = contexts.current.as_ref().and_then(|name| contexts.contexts.get_key_value(name));
        current
            .into_iter()
            .chain(&contexts.contexts)
            .find(|(_, context)| is_there(context))
            .map(|(name, context)| (name.as_str(), context))
            .ok_or_else(|| {
                Failure::new(
                    Exit::NotAllowed,
                    format!(
                        "not logged in to {url} (from VIWORKS_URL): run `viworks login {url}` or set VIWORKS_TOKEN"
                    ),
                )
            })
    }
}

/// An address, or how to write it.
pub(super) fn server(text: &str) -> Result<ServerUrl, Failure> {
    ServerUrl::parse(text).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("contexts.toml");
        let text = "current = \"a\"\n[contexts.a]\nurl = \"http://a.test\"\nuser = \"u\"\naccess_token = \"ta\"\n\
                    [contexts.b]\nurl = \"http://b.test\"\nuser = \"u\"\naccess_token = \"tb\"\n";
        std::fs::write(&path, text).unwrap();
        (directory, Store::at(path))
    }

    fn chosen(context: Option<&str>, url: Option<&str>, token: Option<&str>) -> Result<String, u8> {
        let (_directory, store) = store();
        let own = |text: Option<&str>| text.map(str::to_owned);
        let choice = Choice { context: own(context), url: own(url), token: own(token), ..Choice::default() };
        choice.client(&store).map(|client| client.server().to_string()).map_err(|failure| failure.exit.code())
    }

    #[test]
    fn a_token_never_goes_to_another_address() {
        for (context, url, token, expected) in [
            (None, None, None, Ok("http://a.test")),
            (Some("b"), None, None, Ok("http://b.test")),
            (Some("c"), None, None, Err(2)),
            (None, Some("http://b.test/"), None, Ok("http://b.test")),
            (None, Some("http://c.test"), None, Err(4)),
            (Some("a"), Some("http://b.test"), None, Err(2)),
            (None, Some("http://c.test"), Some("t"), Ok("http://c.test")),
            (None, None, Some("t"), Ok("http://a.test")),
            (None, Some("c.test"), Some("t"), Err(2)),
        ] {
            let found = chosen(context, url, token);
            assert_eq!(found.as_deref().map_err(|code| *code), expected, "{context:?} {url:?} {token:?}");
        }
    }

    #[test]
    fn without_any_context_the_way_in_is_named() {
        let store = Store::at("/nonexistent/contexts.toml");
        let failure = Choice::default().client(&store).unwrap_err();
        assert_eq!(failure.exit, Exit::NotAllowed);
        assert!(failure.message.contains("viworks login"), "{}", failure.message);
    }
}
