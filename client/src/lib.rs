//! A typed client of a ViWorkS host: one method for each route, tokens renewed on the way, events followed
//! across broken connections, errors told apart by what the caller can do about them.
//!
//! ```no_run
//! use viworks_client::api::command::NewCommand;
//! use viworks_client::api::target::TargetBody;
//! use viworks_client::{Client, CommandEvent, Login, Notice, Patience, ServerUrl, Trusted, new_key};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ServerUrl::parse("https://viworks.example.com")?;
//! let login = Login { name: "ci".to_owned(), password: std::env::var("VIWORKS_PASSWORD")? };
//! let client = Client::connect(server, &Trusted::System, &login).await?;
//!
//! let target = TargetBody { sites: vec!["eu-1".to_owned()], ..TargetBody::default() };
//! let command = NewCommand::new("docker.ps", serde_json::json!({ "all": true }), target);
//! let accepted = client.submit(&command, &new_key()).await?;
//!
//! let mut events = client.follow(&accepted.id, None, Patience::default());
//! while let Some(notice) = events.next().await? {
//!     if let Notice::Event(CommandEvent::State(state)) = notice {
//!         println!("{}: {}", state.agent, state.state);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Bodies are those of [`api`]. A list comes whole ([`Client::agents`]) or item by item
//! ([`Client::each_agent`]). What the host puts off ([`Persistence`]) is asked again when it says so.
//!
//! Invariant: knows nothing of terminals, files or flags. Where tokens live is the [`Vault`]'s affair.

mod url;
mod error;
mod vault;
mod memory;
mod session;
mod persistence;
mod request;
mod list;
mod calls;
mod access;
mod agents;
mod alerts;
mod audit;
mod channels;
mod plugins;
mod telemetry;
mod host;
mod sse;
mod events;

use std::sync::Arc;
use std::time::Duration;

pub use api;
pub use api::agent::MadeJoinToken;
pub use api::auth::Login;
pub use audit::AuditExport;
pub use calls::{CommandQuery, OutputPart};
pub use error::ClientError;
pub use events::{CommandEvent, EventStream, Notice, Patience};
pub use host::Checkup;
pub use list::Items;
pub use memory::MemoryVault;
pub use persistence::Persistence;
pub use request::Tagged;
pub use sse::{Frame, Parser, TooLong};
pub use tls::Trusted;
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
    persistence: Persistence,
    answer_timeout: Duration,
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
        Ok(Client { http, server, vault, persistence: Persistence::default(), answer_timeout: ANSWER_TIMEOUT })
    }

    /// Logs in and keeps the tokens in memory, renewed as long as the host lets them be.
    ///
    /// # Errors
    /// 401 when name or password is wrong.
    pub async fn connect(server: ServerUrl, trusted: &Trusted, login: &Login) -> Result<Client, ClientError> {
        let nobody = Client::new(server, trusted, Arc::new(Nobody))?;
        let held = Held::from_tokens(nobody.login(login).await?, chrono::Utc::now());
        Ok(Client { vault: Arc::new(MemoryVault::new(held)), ..nobody })
    }

    /// A client that comes with an API key, or with an access token that somebody else renews.
    ///
    /// ```
    /// # use viworks_client::{Client, ServerUrl, Trusted};
    /// let server = ServerUrl::parse("https://viworks.example.com/api/v1")?;
    /// let client = Client::with_token(server, &Trusted::System, "an API key")?;
    /// assert_eq!(client.server().to_string(), "https://viworks.example.com");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the TLS machinery cannot be set up.
    pub fn with_token(server: ServerUrl, trusted: &Trusted, token: &str) -> Result<Client, ClientError> {
        Client::new(server, trusted, Arc::new(FixedToken(token.to_owned())))
    }

    /// The same, that asks again as `persistence` says.
    #[must_use]
    pub fn persisting(self, persistence: Persistence) -> Client {
        Client { persistence, ..self }
    }

    /// The same, that waits no longer than this for an answer that is not a stream.
    #[must_use]
    pub fn answered_within(self, answer_timeout: Duration) -> Client {
        Client { answer_timeout, ..self }
    }

    /// The host.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }
}

/// A new key that marks one intent, so that it is accepted once however often it is sent.
///
/// ```
/// assert_ne!(viworks_client::new_key(), viworks_client::new_key());
/// ```
pub fn new_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}
