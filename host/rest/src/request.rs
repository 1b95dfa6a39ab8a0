//! One request's context: its id, its trace, and where it came from.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, header};
use domain::access::Caller;
use services::origin::Origin;

use crate::pace::Standing;
use crate::proxies::Proxies;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that carries W3C trace context, both ways.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the edge knows of a request before anybody handles it.
#[derive(Debug)]
pub struct Context {
    /// For services and the audit log. Its correlation id is the request's id.
    pub origin: Arc<Origin>,
    /// Who is asking, as soon as that is proven.
    pub caller: OnceLock<Arc<Caller>>,
    /// How it stands with the limits on its principal or address.
    pub standing: Standing,
}

impl Context {
    /// Reads it off a request, making an id when the caller brings none that is sane.
    pub fn of(request: &Request, proxies: &Proxies) -> Context {
        let headers = request.headers();
        let brought = single(headers, &REQUEST_ID).filter(|id| is_request_id(id)).map(str::to_owned);
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let client = peer.map(|ConnectInfo(peer)| proxies.client(peer.ip(), headers).to_string());
        let program = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let origin = Origin {
            correlation_id: brought.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
            ip_address: client,
            user_agent: program.map(|text| text.chars().take(256).collect()),
            traceparent: single(headers, &TRACEPARENT).filter(|text| is_traceparent(text)).map(str::to_owned),
        };
        Context::from(Arc::new(origin))
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.origin.correlation_id
    }
}

impl From<Arc<Origin>> for Context {
    /// Of somebody from there, whose name nobody knows yet.
    fn from(origin: Arc<Origin>) -> Context {
        Context { origin, caller: OnceLock::new(), standing: Standing::default() }
    }
}

/// The value of a header that stands exactly once.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// 1 to 64 of letters, digits, `.`, `_` and `-`: safe in logs, headers and file names.
fn is_request_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Source: W3C Trace Context, version 00.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let set = |part: &str| part.bytes().any(|b| b != b'0');
    version == "00" && hex(trace, 32) && set(trace) && hex(parent, 16) && set(parent) && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_confuse_a_log_are_replaced() {
        for good in ["a", "0193f2a4-7c1e", "build_7.2", &"a".repeat(64)] {
            assert!(is_request_id(good), "{good}");
        }
        for bad in ["", "a b", "a\n", "a\u{1b}[31m", "ä", "a/b", &"a".repeat(65)] {
            assert!(!is_request_id(bad), "{bad}");
        }
    }

    #[test]
    fn only_whole_trace_contexts_are_carried_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            &good[1..],
            &good.to_uppercase(),
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &format!("{good}-x"),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
