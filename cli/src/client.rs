//! Talks to a host's REST API: one method for each route the command line needs, tokens renewed on
//! the way, errors told apart by what the caller can do about them.
//!
//! Invariant: knows nothing of terminals, files or flags. Where tokens live is the [`Vault`]'s affair.

mod access;
mod audit;
mod calls;
mod error;
mod events;
mod request;
mod session;
mod sse;
mod url;
mod vault;

use std::sync::Arc;
use std::time::Duration;

use tls::Trusted;

pub use api::agent::MadeJoinToken;
pub use calls::{CommandQuery, OutputPart};
pub use error::ClientError;
pub use events::{CommandEvent, EventStream, Notice, Patience};
pub use sse::{Frame, Parser, TooLong};
pub use url::{InvalidUrl, ServerUrl};
pub use vault::{Exchange, FixedToken, Held, Nobody, Vault, VaultError};

/// The longest wait for a TCP and TLS connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for an answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A host, and who we are to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: ServerUrl,
    vault: Arc<dyn Vault>,
}

impl Client {
    /// A client of `server`, if whom it believes says that it is it, that takes its tokens from `vault`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the TLS machinery cannot be set up.
    pub fn new(server: ServerUrl, trusted: &Trusted, vault: Arc<dyn Vault>) -> Result<Client, ClientError> {
        let mut builder = reqwest::Client::builder();
        if *trusted != Trusted::System {
            let settings = tls::client(trusted, None).map_err(|error| ClientError::untrusted(&server, &error))?;
            builder = builder.tls_backend_preconfigured(settings);
        }
        let http = builder
            .user_agent(concat!("viworks/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirected POST would arrive as a GET, and a token must not travel to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientError::setup(&error))?;
        Ok(Client { http, server, vault })
    }

    /// The host.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }
}
