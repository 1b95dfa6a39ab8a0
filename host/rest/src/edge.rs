//! What every request passes through, whatever it asks for: id, address and origin checks, a net under
//! panics, changes seen through to their end, problems rendered and logged once, security headers on the way out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::metrics;
use crate::problem::{Code, Problem};
use crate::request::{Context, REQUEST_ID, TRACEPARENT, single};

/// Paths that probes ask by whatever address they know; they say nothing a page could misuse.
pub(crate) const PROBES: [&str; 3] = ["/health", "/livez", "/readyz"];

/// Whether whoever asked has hung up: nobody waits for what is only for them any more.
#[derive(Clone, Debug)]
pub struct Gone(pub CancellationToken);

/// The outermost layer. A change is seen through to its end, its line in the log and its entry on record, also when
/// whoever asked for it hangs up: what is stored is told to whom it is for.
pub async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if !is_change(request.method()) {
        return answer(app, request, next).await;
    }
    let gone = CancellationToken::new();
    request.extensions_mut().insert(Gone(gone.clone()));
    let _hung_up = gone.drop_guard();
    let ended = app.changes.spawn(answer(app.clone(), request, next)).await;
    ended.unwrap_or_else(|error| {
        tracing::error!(%error, "a change was ended by the runtime");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

async fn answer(app: App, mut request: Request, next: Next) -> Response {
    let started = app.clock.now();
    let context = Arc::new(Context::of(&request, &app.options.proxies));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let path = start(uri.path());
    let admitted = admit(&app.options.hosts, &app.options.origins, &request);
    request.extensions_mut().insert(context.clone());
    let response = match admitted {
        Err(problem) => problem.into_response(),
        Ok(()) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => Problem::internal(format!("handler panicked: {}", words(panic.as_ref()))).into_response(),
        },
    };
    let status = response.status();
    let route = response.extensions().get::<metrics::Route>().copied();
    if is_change(&method) && matches!(status.as_u16(), 401 | 403 | 404) {
        let code = response.extensions().get::<Problem>().map(|problem| problem.code);
        record(&app, &context, format!("{method} {path}"), status, code).await;
    }
    let response = finish(response, &context);
    let ms = u64::try_from(app.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
    app.http.answered(&method, route, response.status(), app.clock.now().since(started));
    let status = response.status().as_u16();
    if PROBES.contains(&path) {
        tracing::debug!(%method, path, status, ms, request_id = context.id(), "request");
    } else {
        let (peer, traceparent) = (&context.origin.ip_address, &context.origin.traceparent);
        tracing::info!(%method, path, status, ms, request_id = context.id(), peer, traceparent, "request");
    }
    response
}

/// As much of a path as is told.
fn start(path: &str) -> &str {
    path.char_indices().nth(256).map_or(path, |(end, _)| &path[..end])
}

fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Puts a refused change on record. What was not found is a refusal when somebody known asked for it: what
/// is out of sight looks the same. Refused passwords are on record already.
async fn record(app: &App, context: &Context, route: String, status: StatusCode, code: Option<Code>) {
    let caller = context.caller.get().map(|caller| caller.name.as_str());
    let recorded = matches!(code, Some(Code::LoginRefused | Code::WrongPassword));
    if recorded || (caller.is_none() && status == StatusCode::NOT_FOUND) {
        return;
    }
    let mut entry = context.origin.entry(app.clock.now(), "auth.refused", caller);
    entry.resource = Some(("route", route));
    entry.details = json!({ "code": code.map(|code| code.row().name), "status": status.as_u16() }).to_string();
    if let Err(error) = app.refusals.record(entry).await {
        tracing::warn!(%error, request_id = context.id(), "a refusal is not on record");
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

/// Whether the request is addressed to this host, and not sent by a page that is not trusted. A
/// page on another site can make a browser that reaches this host send requests here, by the host's
/// address or by a name of its own that it lets point here.
fn admit(hosts: &[String], origins: &[String], request: &Request) -> Result<(), Problem> {
    if PROBES.contains(&request.uri().path()) {
        return Ok(());
    }
    let headers = request.headers();
    let Some(host) = single(headers, &header::HOST) else {
        return Err(Problem::new(Code::InvalidHeader, "send exactly one `Host` header"));
    };
    if !is_allowed_host(host, hosts) {
        let detail = "this host does not go by that name; add it to the server's allowed hosts to change that";
        return Err(Problem::new(Code::HostNotAllowed, detail));
    }
    // A browser opens a socket for any page, and lets the page read what comes of it.
    if !is_change(request.method()) && !headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = single(headers, &header::ORIGIN).unwrap_or("null");
        if !is_allowed_origin(origin, host, origins) {
            let detail = "pages of that origin may neither change anything here nor open a socket; add it to the \
                 allowed origins to change that";
            return Err(Problem::new(Code::OriginNotAllowed, detail));
        }
    }
    Ok(())
}

fn is_allowed_host(host: &str, allowed: &[String]) -> bool {
    let port = |text: &str| text.is_empty() || text.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    let split =
        if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':').or(Some(host.len())) };
    let Some((name, rest)) = split.map(|at| host.split_at(at)) else { return false };
    let loopback = ["localhost", "127.0.0.1", "[::1]"];
    port(rest)
        && (loopback.iter().any(|known| name.eq_ignore_ascii_case(known))
            || allowed.iter().any(|known| known == "*" || name.eq_ignore_ascii_case(known)))
}

/// Listed, or the very host that was addressed.
fn is_allowed_origin(origin: &str, host: &str, allowed: &[String]) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        || allowed.iter().any(|known| known == origin)
}

/// Renders a problem, logs what went wrong inside, and sets the headers that every answer has.
fn finish(mut response: Response, context: &Context) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    // Whatever the framework refuses by itself is told in our words too.
    let problem = problem.or_else(|| {
        let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        (!ours && (status.is_client_error() || status.is_server_error())).then(|| of_status(status))
    });
    if let Some(problem) = problem {
        log(&problem, context);
        let inner = std::mem::replace(&mut response, problem.respond(context.id()));
        for (name, value) in inner.headers() {
            // What inner layers said (`Allow`, `Vary`, CORS) holds for the problem too.
            let ours = *name == header::CONTENT_LENGTH || response.headers().contains_key(name);
            if !ours {
                response.headers_mut().append(name, value.clone());
            }
        }
    }
    let headers = response.headers_mut();
    context.standing.tell(headers);
    secure(headers);
    if let Ok(id) = HeaderValue::from_str(context.id()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(trace) = context.origin.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    response
}

fn log(problem: &Problem, context: &Context) {
    let (code, cause, request_id) = (problem.code.row().name, problem.cause.as_deref(), context.id());
    if problem.code.row().status >= 500 {
        tracing::error!(code, cause, request_id, "request failed");
    } else if problem.cause.is_some() {
        tracing::warn!(code, cause, request_id, "request refused");
    }
}

fn of_status(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::not_found("page"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(Code::MethodNotAllowed, "see the `Allow` header for what is"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::BodyTooLarge, "the body is too large"),
        status if status.is_client_error() => Problem::new(Code::InvalidHeader, "the request cannot be read"),
        status => Problem::internal(format!("answered {status} without a problem")),
    }
}

fn secure(headers: &mut HeaderMap) {
    let mut put =
        |name: HeaderName, value: &'static str| _ = headers.entry(name).or_insert(HeaderValue::from_static(value));
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    put(header::REFERRER_POLICY, "no-referrer");
    put(header::CACHE_CONTROL, "no-store");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_goes_by_its_own_names_only() {
        let allowed = ["ops.example.org".to_owned()];
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "ops.example.org:443"] {
            assert!(is_allowed_host(good, &allowed), "{good}");
        }
        let bad = [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "ops.example.org.",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "localhost@evil.example",
            "*",
        ];
        for bad in bad {
            assert!(!is_allowed_host(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_matched_whole() {
        let allowed = ["https://good.example".to_owned()];
        for good in ["https://good.example", "http://127.0.0.1:8080", "https://127.0.0.1:8080"] {
            assert!(is_allowed_origin(good, "127.0.0.1:8080", &allowed), "{good}");
        }
        let bad = [
            "null",
            "",
            "http://good.example",
            "https://good.example.evil.com",
            "https://good.example.",
            "http://127.0.0.1",
            "127.0.0.1:8080",
            "file://127.0.0.1:8080",
        ];
        for bad in bad {
            assert!(!is_allowed_origin(bad, "127.0.0.1:8080", &allowed), "{bad}");
        }
    }
}
