//! Enrolment: the agent makes its key, proves that it holds it, and pins the cluster's key.
//!
//! Invariant: nothing of the host's answer is stored unless the cluster key's hash is the pin that
//! came with the token, so a man in the middle of a plain connection gains nothing but the token.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hyper::body::Body as _;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use plan::envelope::{join_parts, key_text, parse_key, sign};
use plan::id::{AgentId, ClusterId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use crate::certificate;
use crate::config::check_label;
use crate::identity::{Identity, IdentityError, identity_path, load_or_make_key, make_data_dir};
use crate::line::{self, HostTrust};

/// Hexadecimal digits of the pin in a token.
pub const PIN_DIGITS: usize = 16;
/// Of the pin of a TLS key.
const TLS_PIN_DIGITS: usize = 64;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// What an operator says to have a machine join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The host's address, e.g. `https://127.0.0.1:9090`.
    pub url: String,
    /// The one-time token, `vwj_<id>_<secret>_<pin>`.
    pub token: String,
    /// The name the agent asks for.
    pub name: String,
    /// Where the identity is to lie.
    pub data: PathBuf,
    /// A PEM file with the authorities that may speak for the host; absent: a pin in the token, else this
    /// machine's.
    pub ca: Option<PathBuf>,
    /// Labels the machine will claim.
    pub labels: BTreeMap<String, String>,
}

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It belongs to somebody already.
    #[error("{} exists: this machine has joined before; name another --data directory or remove that one", .0.display())]
    AlreadyJoined(PathBuf),
    /// The token is not one.
    #[error("the token is not of the form vwj_<id>_<secret>_<pin>; copy it whole, as the host showed it")]
    Token,
    /// A label is malformed.
    #[error("{0}")]
    Label(String),
    /// The address is not one.
    #[error("`{url}` {message}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// The host cannot be reached, or does not answer.
    #[error("no answer from {url}: {message}")]
    Unreachable {
        /// The address asked.
        url: String,
        /// Why not.
        message: String,
    },
    /// The host said no.
    #[error("the host refused ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The host's words.
        message: String,
    },
    /// The host's answer is not one.
    #[error("the host's answer makes no sense: {0}")]
    Answer(String),
    /// Somebody else answered.
    #[error(
        "the cluster key `{key}` does not match the pin {pin} in the token: this is not the host that made the token, \
         nothing was stored"
    )]
    Pin {
        /// The key in the answer.
        key: String,
        /// The pin in the token.
        pin: String,
    },
    /// The identity cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

#[derive(Serialize)]
struct Body<'a> {
    token: &'a str,
    name: &'a str,
    public_key: String,
    proof: String,
}

#[derive(Deserialize)]
struct Answer {
    agent_id: AgentId,
    cluster_id: ClusterId,
    cluster_key: String,
    ws_url: String,
    #[serde(default)]
    certificate: Option<String>,
}

/// The pin of a cluster key: the first 16 hexadecimal digits of its SHA-256.
pub fn pin_of(key: &ed25519_dalek::VerifyingKey) -> String {
    HEXLOWER.encode(&Sha256::digest(key.as_bytes())[..PIN_DIGITS / 2])
}

/// The pins in a token: of the cluster's key, and of the host's TLS key where its certificate is its own.
///
/// # Errors
/// [`JoinError::Token`].
pub fn token_pins(token: &str) -> Result<(&str, Option<&str>), JoinError> {
    let is_pin = |pin: &str, digits: usize| {
        pin.len() == digits && pin.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let rest = token.strip_prefix("vwj_").ok_or(JoinError::Token)?;
    let (rest, tls_pin) = match rest.rsplit_once('_') {
        Some((front, pin)) if is_pin(pin, TLS_PIN_DIGITS) => (front, Some(pin)),
        _ => (rest, None),
    };
    let (front, pin) = rest.rsplit_once('_').ok_or(JoinError::Token)?;
    let (id, secret) = front.split_once('_').ok_or(JoinError::Token)?;
    if id.is_empty() || secret.is_empty() || !is_pin(pin, PIN_DIGITS) {
        Err(JoinError::Token)
    } else {
        Ok((pin, tls_pin))
    }
}

/// Joins and stores the identity.
///
/// # Errors
/// [`JoinError`]; nothing but the agent's own key is left behind then.
pub async fn join(options: JoinOptions) -> Result<Identity, JoinError> {
    let existing = identity_path(&options.data);
    if existing.exists() {
        return Err(JoinError::AlreadyJoined(existing));
    }
    let token = options.token.trim();
    let (pin, tls_pin) = token_pins(token)?;
    let trust = host_trust(tls_pin, options.ca.clone())?;
    for (name, value) in &options.labels {
        check_label(name, value).map_err(JoinError::Label)?;
    }
    let url = format!("{}/agent/v1/join", options.url.trim_end_matches('/'));
    let target = parse_http(&url)?;
    make_data_dir(&options.data)?;
    let key = load_or_make_key(&options.data)?;
    let body = Body {
        token,
        name: &options.name,
        public_key: key_text(&key.verifying_key()),
        proof: sign(&key, &[&join_parts(token, &options.name)]),
    };
    let body = serde_json::to_string(&body).expect("text serializes");
    let unreachable = |message: String| JoinError::Unreachable { url: url.clone(), message };
    let (status, text) = match tokio::time::timeout(ANSWER_WITHIN, post(&target, &trust, body)).await {
        Ok(answered) => answered.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable(format!("{} s passed", ANSWER_WITHIN.as_secs()))),
    };
    if !(200..300).contains(&status) {
        return Err(JoinError::Refused { status, message: problem_text(&text) });
    }
    let answer: Answer = serde_json::from_slice(&text).map_err(|error| JoinError::Answer(error.to_string()))?;
    let cluster_key = parse_key(&answer.cluster_key)
        .map_err(|_| JoinError::Answer(format!("cluster_key `{}` is not a key", answer.cluster_key)))?;
    if pin_of(&cluster_key) != pin {
        return Err(JoinError::Pin { key: answer.cluster_key, pin: pin.to_owned() });
    }
    let identity = Identity {
        agent_id: answer.agent_id,
        name: options.name,
        cluster_id: answer.cluster_id,
        cluster_key,
        ws_url: answer.ws_url,
        host: trust,
        labels: options.labels,
        key,
        next_key: None,
    };
    if let Some(pem) = &answer.certificate {
        // Before the identity: who has one has what it is to show, too.
        certificate::keep(&options.data, pem, &identity.key.verifying_key(), None)?;
    }
    identity.store(&options.data)?;
    Ok(identity)
}

/// An authority that was named wins over the token's pin.
fn host_trust(pin: Option<&str>, ca: Option<PathBuf>) -> Result<HostTrust, JoinError> {
    let Some(ca) = ca else { return Ok(HostTrust { pin: pin.map(str::to_owned), ca: None }) };
    let ca = std::path::absolute(&ca)
        .and_then(|path| std::fs::metadata(&path).map(|_| path))
        .map_err(|source| JoinError::Identity(IdentityError::Io { doing: "read", path: ca, source }))?;
    Ok(HostTrust { pin: None, ca: Some(ca) })
}

fn parse_http(url: &str) -> Result<Uri, JoinError> {
    let fail = |message| JoinError::Url { url: url.to_owned(), message };
    let uri: Uri = url.parse().map_err(|_| fail("is not an address; write it like https://host:9090"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some() => Ok(uri),
        _ => Err(fail("is not an address; write it like https://host:9090")),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn post(target: &Uri, trust: &HostTrust, body: String) -> Result<(u16, Vec<u8>), Failure> {
    let stream = TcpStream::connect((line::host(target), line::way(target).1)).await?;
    let stream = line::secure(stream, target, trust, None).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let authority = target.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::post(target.path())
        .header("host", authority)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", concat!("viworks-agent/", env!("CARGO_PKG_VERSION")))
        .body(body)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(format!("the answer is over {MAX_ANSWER_BYTES} bytes").into());
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok::<_, Failure>((status, bytes))
    };
    // The connection does the reading and writing; it ends by itself once the answer is whole.
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answered = &mut exchange => answered,
        ended = &mut connection => { ended?; exchange.await }
    }
}

/// The words of a problem+json body, or the start of whatever came instead.
pub(crate) fn problem_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem = serde_json::from_slice::<Problem>(body).ok();
    let words = problem.and_then(|problem| problem.detail.or(problem.title));
    words.unwrap_or_else(|| String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect())
}
