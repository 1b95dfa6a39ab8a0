//! Whether the host answers where sessions are opened: connection, TLS, one harmless request.

use std::time::{Duration, Instant, SystemTime};

use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::line::{self, HostTrust, Own};

/// From dialling to the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A host that answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// From dialling to the answer.
    pub(super) took: Duration,
    /// The host's clock, to the second.
    pub(super) host_time: Option<SystemTime>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Asks `url` for itself without an upgrade: any answer proves that the way is open.
pub(super) async fn reach(url: &Uri, trust: &HostTrust, own: &Own) -> Result<Reached, String> {
    match tokio::time::timeout(ANSWER_WITHIN, ask(url, trust, own)).await {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
    }
}

async fn ask(url: &Uri, trust: &HostTrust, own: &Own) -> Result<Reached, Failure> {
    let begun = Instant::now();
    let stream = TcpStream::connect((line::host(url), line::way(url).1)).await?;
    let stream = line::secure(stream, url, trust, Some(own)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(url.path())
        .header("host", authority)
        .header("user-agent", concat!("viworks-agent/", env!("CARGO_PKG_VERSION"), " doctor"))
        .body(String::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let response = tokio::select! {
        biased;
        response = &mut answer => response?,
        ended = &mut connection => { ended?; answer.await? }
    };
    let said = response.headers().get("date").and_then(|value| value.to_str().ok());
    let host_time = said.and_then(|text| httpdate::parse_http_date(text).ok());
    Ok(Reached { took: begun.elapsed(), host_time })
}
