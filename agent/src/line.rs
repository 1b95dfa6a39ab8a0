//! The connection to the host: plain, or TLS with whom this agent believes to be its host.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use hyper::Uri;
use serde::{Deserialize, Serialize};
use tls::Trusted;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_util::either::Either;

use crate::certificate;

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

    /// The settings of a connection, on which `own` is shown if the host asks for it. Reads files.
    fn settings(&self, own: Option<&Own>) -> Result<ClientConfig, String> {
        let trusted = Trusted::chosen(self.pin.as_deref(), self.ca.as_deref()).map_err(|error| error.to_string())?;
        let own = own.map(Own::certified).transpose()?.flatten();
        tls::client(&trusted, own).map_err(|error| error.to_string())
    }
}

/// What this agent has to show.
#[derive(Clone, Debug)]
pub struct Own {
    /// Where its certificates lie.
    pub data: PathBuf,
    /// The key that HELLO is signed with.
    pub key: SigningKey,
}

impl Own {
    /// Certificate and key, if a host gave one for this key.
    fn certified(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
        let found = certificate::of(&self.data, &self.key.verifying_key()).map_err(|error| error.to_string())?;
        let Some(chain) = found else { return Ok(None) };
        let key = self.key.to_pkcs8_der().map_err(|error| error.to_string())?;
        Ok(Some((chain, PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))))
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
pub async fn secure(stream: TcpStream, uri: &Uri, trust: &HostTrust, own: Option<&Own>) -> io::Result<Line> {
    if !way(uri).0 {
        return Ok(Either::Left(stream));
    }
    let (trust, own) = (trust.clone(), own.cloned());
    let settings = tokio::task::spawn_blocking(move || trust.settings(own.as_ref())).await.map_err(io::Error::other)?;
    let name = ServerName::try_from(host(uri).to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(settings.map_err(io::Error::other)?));
    Ok(Either::Right(Box::new(connector.connect(name, stream).await?)))
}
