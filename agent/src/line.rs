//! The connection to the host: plain, or TLS with whom this agent believes to be its host.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;
use serde::{Deserialize, Serialize};
use tls::Trusted;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;

/// An open connection.
pub type Line = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Who is believed to be the host, as kept in `identity.json`. Neither: whom this machine's authorities name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTrust {
    /// The pin of the host's TLS key; wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// A PEM file of authorities, read anew for each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl HostTrust {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.pin.is_none() && self.ca.is_none()
    }

    /// The settings of a connection. Reads files.
    fn settings(&self) -> Result<ClientConfig, String> {
        let trusted = Trusted::chosen(self.pin.as_deref(), self.ca.as_deref()).map_err(|error| error.to_string())?;
        tls::client(&trusted, None).map_err(|error| error.to_string())
    }
}

/// Whether `uri` asks for TLS, and the port it means.
pub fn way(uri: &Uri) -> (bool, u16) {
    let secure = matches!(uri.scheme_str(), Some("https" | "wss"));
    (secure, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))
}

/// The host's name or address in `uri`.
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Makes of a fresh connection what `uri` asks for.
///
/// # Errors
/// The host is not whom `trust` believes, or does not speak TLS.
pub async fn secure(stream: TcpStream, uri: &Uri, trust: &HostTrust) -> io::Result<Line> {
    if !way(uri).0 {
        return Ok(Either::Left(stream));
    }
    let trust = trust.clone();
    let settings = tokio::task::spawn_blocking(move || trust.settings()).await.map_err(io::Error::other)?;
    let name = ServerName::try_from(host(uri).to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(settings.map_err(io::Error::other)?));
    Ok(Either::Right(Box::new(connector.connect(name, stream).await?)))
}
